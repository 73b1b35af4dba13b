"""Settings of recurrent proximal policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass

from crl.agents.agent_config import RecurrentConfig
from crl.config import require, require_not_negative, require_positive


@dataclass(frozen=True)
class RecurrentPPOConfig(RecurrentConfig):
    """Settings of :class:`~crl.agents.recurrent_ppo.RecurrentPPO`.

    Attributes:
        shared_memory: One memory for policy and values, trained by both losses; else one each.
        rollout_steps: Environment steps between updates, to the end of the episode.
        epochs: Passes over a rollout.
        gae_lambda: λ of generalised advantage estimation.
        clip: How far from 1 a probability ratio still counts.
        value_weight, entropy_weight: Of the values' loss and of the policy's entropy.
        max_gradient_norm: What gradients, all together, are clipped to.
        replay_size: Environment steps kept; only the newest rollout is learned from, methods may
            look at all of it.
    """

    shared_memory: bool = True
    rollout_steps: int = 2_048
    epochs: int = 10
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_weight: float = 0.5
    entropy_weight: float = 0.0
    max_gradient_norm: float = 0.5
    replay_size: int = 20_000

    resettable = ("replay", "optimizer", "memory", "value_memory", "actor", "critic")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rollout_steps", "epochs", "clip", "max_gradient_norm")
        self._require_share("gae_lambda")
        require_not_negative(self, "value_weight", "entropy_weight")
        require(self.replay_size >= 2 * self.rollout_steps,
                "replay_size must be at least twice rollout_steps")
