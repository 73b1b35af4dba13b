"""Settings of soft actor-critic agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crl.agents.agent_config import ValueConfig
from crl.config import require, require_not_negative, require_positive


@dataclass(frozen=True)
class SoftActorCriticConfig(ValueConfig):
    """Settings of any soft actor-critic.

    Attributes:
        polyak: Share of the old target networks kept per gradient step.
        update_to_data: Gradient steps per environment step.
        n_step: Steps of the return that critics are trained on.
        start_steps: Steps at a task's start that explore as ``explore`` says.
        update_after: Steps at a task's start before the first gradient step.
        explore: How the first ``start_steps`` of a task act: ``"uniform"`` at random; with the
            ``"current"`` task's head; with the ``"previous"`` task's; or ``"best_return"``: every
            earlier head for one episode, then the best (ClonEx-SAC, Wołczyk et al. 2022).
        initial_temperature: α at a task's first step.
        target_entropy: The temperature is learned to hold it; per action dimension, or as a share
            of log n for n discrete actions; None: −1, or 0.02.
    """

    polyak: float = 0.98
    update_to_data: float = 0.25
    n_step: int = 3
    start_steps: int = 1_000
    update_after: int = 1_000
    explore: Literal["uniform", "current", "previous", "best_return"] = "uniform"
    initial_temperature: float = 0.1
    target_entropy: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "initial_temperature", "update_to_data", "n_step")
        self._require_share("polyak")
        require_not_negative(self, "start_steps", "update_after")


@dataclass(frozen=True)
class SACConfig(SoftActorCriticConfig):
    """Settings of :class:`~crl.agents.sac.SAC`. Defaults are chosen to learn on two CPU cores.

    Attributes:
        precision: Of the products of hidden layers: ``"float32"`` or ``"bf16"``, faster where the
            processor multiplies bfloat16. Weights, sums and all else are float32.
    """

    precision: Literal["float32", "bf16"] = "float32"

    resettable = ("replay", "optimizer", "critic", "actor")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.precision == "float32" or self.trunk == "mlp",
                "precision bf16 is of an mlp; leave trunk at mlp")
