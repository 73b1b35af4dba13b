"""Settings of soft actor-critic agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from crl.config import require


@dataclass(frozen=True)
class SoftActorCriticConfig:
    """Settings of any soft actor-critic.

    Attributes:
        hidden: Widths of the hidden layers, actor and critics alike.
        layer_norm: Layer normalisation before each activation.
        multi_head: One head per task; else one for all.
        learning_rate: Adam's, for all networks and the temperature.
        gamma: Discount per environment step.
        polyak: Share of the old target networks kept per gradient step.
        batch_size: Samples of the replay per gradient step.
        replay_size: Environment steps kept.
        update_to_data: Gradient steps per environment step.
        n_step: Steps of the return that critics are trained on.
        reward_scale: Factor on every reward.
        start_steps: Steps at a task's start that explore as ``explore`` says.
        update_after: Steps at a task's start before the first gradient step.
        explore: How the first ``start_steps`` of a task act: ``"uniform"`` at random; with the
            ``"current"`` task's head; with the ``"previous"`` task's; or ``"best_return"``: every
            earlier head for one episode, then the best (ClonEx-SAC, Wołczyk et al. 2022).
        initial_temperature: α at a task's first step.
        target_entropy: The temperature is learned to hold it; per action dimension, or as a share
            of log n for n discrete actions; None: −1, or 0.02.
        reset: What begins anew at each task: ``"replay"``, ``"optimizer"`` (moments to zero), and
            parts whose weights are re-drawn, such as ``"critic"``.
    """

    hidden: tuple[int, ...] = (128, 128)
    layer_norm: bool = True
    multi_head: bool = True
    learning_rate: float = 1e-3
    gamma: float = 0.99
    polyak: float = 0.98
    batch_size: int = 256
    replay_size: int = 1_000_000
    update_to_data: float = 0.25
    n_step: int = 3
    reward_scale: float = 0.1
    start_steps: int = 1_000
    update_after: int = 1_000
    explore: Literal["uniform", "current", "previous", "best_return"] = "uniform"
    initial_temperature: float = 0.1
    target_entropy: float | None = None
    reset: tuple[str, ...] = ("replay", "optimizer")

    resettable: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        require(bool(self.hidden) and min(self.hidden) > 0, "hidden must be widths above 0")
        for name in ("learning_rate", "initial_temperature", "batch_size", "replay_size",
                     "update_to_data", "n_step", "reward_scale"):
            require(getattr(self, name) > 0, f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("gamma", "polyak"):
            require(0 <= getattr(self, name) <= 1,
                    f"{name} must be between 0 and 1, got {getattr(self, name)}")
        for name in ("start_steps", "update_after"):
            require(getattr(self, name) >= 0,
                    f"{name} must not be negative, got {getattr(self, name)}")
        for item in self.reset:
            require(item in self.resettable,
                    f"reset can name {', '.join(self.resettable)}; got {item!r}")


@dataclass(frozen=True)
class SACConfig(SoftActorCriticConfig):
    """Settings of :class:`~crl.agents.sac.SAC`. Defaults are chosen to learn on two CPU cores.

    Attributes:
        precision: Of the products of hidden layers: ``"float32"`` or ``"bf16"``, faster where the
            processor multiplies bfloat16. Weights, sums and all else are float32.
        normalize_observations: Bring each task's observations to mean 0 and variance 1; the moments
            stay when the task is over.
    """

    precision: Literal["float32", "bf16"] = "float32"
    normalize_observations: bool = False

    resettable = ("replay", "optimizer", "critic", "actor")
