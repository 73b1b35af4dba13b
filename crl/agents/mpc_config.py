"""Settings of agents that plan with a learned model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crl.agents.agent_config import NetworkConfig
from crl.config import require, require_not_negative, require_positive


@dataclass(frozen=True)
class MPCConfig(NetworkConfig):
    """Settings of :class:`~crl.agents.mpc.MPC`.

    Attributes:
        model: Of what comes next: ``"deterministic"``, trained on squared errors, or
            ``"gaussian"``, on its likelihood, so that noisy numbers count less; plans go by means.
        ensemble: Models with weights of their own; plans go by their mean return.
        planner: ``crl list planners``.
        planner_options: Its options, such as ``{"horizon": 30}``.
        start_steps: Steps at a task's start that act at random; then the model is trained first.
        train_every: Environment steps from one training to the next.
        updates: Gradient steps of a training.
        detect: 0: the agent is told when a task begins. Else only what is asked for is told, the
            reward, and that the robot is another one must show: when the model errs so many times
            as much in an episode as before (:class:`~crl.agents.surprise.Surprise`). From the next
            episode on the next head learns. Policies are of the head that learned last in a task.
    """

    hidden: tuple[int, ...] = (200, 200)
    layer_norm: bool = False
    learning_rate: float = 1e-3
    model: Literal["deterministic", "gaussian"] = "deterministic"
    ensemble: int = 1
    planner: str = "icem"
    planner_options: dict[str, bool | int | float | str] = field(default_factory=dict)
    start_steps: int = 1_000
    train_every: int = 200
    updates: int = 500
    detect: float = 0.0
    batch_size: int = 100

    resettable = ("replay", "optimizer", "model")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "ensemble", "start_steps", "train_every")
        require_not_negative(self, "updates")
        require(self.detect == 0 or self.detect > 1, f"detect must be 0 or above 1, got "
                f"{self.detect}")


@dataclass(frozen=True)
class HyperCRLConfig(MPCConfig):
    """As :class:`MPCConfig`, of models whose weights a hypernetwork gives.

    By default it gives them in twenty pieces, which takes half of the time of all at once:
    ``trunk_options`` that are given stand in the place of these.
    """

    trunk: Literal["mlp", "hypernetwork"] = "hypernetwork"
    trunk_options: dict[str, bool | int | float | str] = field(
        default_factory=lambda: {"width": 128, "chunks": 20})
