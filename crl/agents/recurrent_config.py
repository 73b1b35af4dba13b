"""Settings of recurrent agents."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crl.agents.sac_config import SoftActorCriticConfig
from crl.config import require


@dataclass(frozen=True)
class RecurrentSACConfig(SoftActorCriticConfig):
    """Settings of :class:`~crl.agents.recurrent_sac.RecurrentSAC`.

    Attributes:
        memory: The sequence core (``crl list memories``); ``"mlp"`` is none, for comparison.
        memory_size: Width of its input and output.
        memory_options: Its options, such as ``{"layers": 1}``.
        shared_memory: One memory for actor and critics, trained by the critics' loss; else one
            each.
        epsilon: Share of actions that are drawn at random for as long as it learns. The entropy of
            the policy is held on average only: it need not explore where it matters.
        memory_losses: What trains a shared memory: ``"values"``, the critics' loss; ``"future"``,
            the prediction of the next observation; or both.
        batch_size: Sequences per gradient step.
        sequence_length: Steps of a sequence, through which gradients flow.
        burn_in: Steps at the start of a sequence that only bring its memory up to date, where it
            begins inside an episode; below half of its length.
    """

    memory: str = "gru"
    memory_size: int = 64
    memory_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    shared_memory: bool = True
    memory_losses: tuple[Literal["values", "future"], ...] = ("values",)
    epsilon: float = 0.0
    batch_size: int = 16
    sequence_length: int = 64
    burn_in: int = 0
    learning_rate: float = 3e-4
    replay_size: int = 200_000
    n_step: int = 1

    resettable = ("replay", "optimizer", "memory", "critic_memory", "actor", "critic",
                  "predictor")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_size", "sequence_length"):
            require(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        require(bool(self.memory_losses), "memory_losses must name values, future or both")
        require(self.shared_memory or self.memory_losses == ("values",),
                "memory_losses are of a shared memory; leave shared_memory at true")
        require(0 <= self.epsilon <= 1, f"epsilon must be between 0 and 1, got {self.epsilon}")
        require(0 <= 2 * self.burn_in < self.sequence_length,
                "burn_in must be below half of sequence_length")
        require(self.replay_size > self.sequence_length,
                "replay_size must be above sequence_length")
