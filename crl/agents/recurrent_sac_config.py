"""Settings of recurrent soft actor-critic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crl.agents.agent_config import RecurrentConfig
from crl.agents.sac_config import SoftActorCriticConfig
from crl.config import require


@dataclass(frozen=True)
class RecurrentSACConfig(RecurrentConfig, SoftActorCriticConfig):
    """Settings of :class:`~crl.agents.recurrent_sac.RecurrentSAC`.

    Attributes:
        shared_memory: One memory for actor and critics, trained by the critics' loss; else one
            each.
        epsilon: Share of actions that are drawn at random for as long as it learns. The entropy of
            the policy is held on average only: it need not explore where it matters.
        memory_losses: What trains a shared memory, one or several: ``"values"``, the critics' loss;
            ``"future"``, the prediction of the next observation; ``"self"``, the prediction of the
            next observation's code, and back.
        burn_in: Steps at the start of a sequence that only bring its memory up to date, where it
            begins inside an episode; below half of its length.
    """

    shared_memory: bool = True
    memory_losses: tuple[Literal["values", "future", "self"], ...] = ("values",)
    epsilon: float = 0.0
    burn_in: int = 0
    n_step: int = 1

    resettable = ("replay", "optimizer", "memory", "critic_memory", "actor", "critic",
                  "predictor", "code")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_share("epsilon")
        require(bool(self.memory_losses), "memory_losses must name values, future or self")
        require(self.shared_memory or self.memory_losses == ("values",),
                "memory_losses are of a shared memory; leave shared_memory at true")
        require(not {"future", "self"} <= set(self.memory_losses),
                "memory_losses can name future or self, not both")
        require(0 <= 2 * self.burn_in < self.sequence_length,
                "burn_in must be below half of sequence_length")
