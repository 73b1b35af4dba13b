"""Settings of the agent that corrects its actions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crl.agents.mpc_config import MPCConfig
from crl.config import require, require_not_negative, require_positive


@dataclass(frozen=True)
class AFMConfig(MPCConfig):
    """Settings of :class:`~crl.agents.afm.AFM`.

    Attributes:
        learn_steps: Steps at the start of the stream in which the model is learned, as in
            :class:`MPCConfig`, of a robot as it should be. Then it is deployed. From the last
            ``train_every`` of them it does not learn: they say what errors it usually makes.
        adapt: What becomes of the deployed model: nothing (``"frozen"``), a gradient step after
            each step on what happened (``"online"``), on that and a batch of all that was seen
            (``"replay"``), or as online, but back to the deployed model wherever that fits better
            (``"snapshot"``).
        correct: What becomes of planned actions: nothing (``"none"``), the flow (``"flow"``), and
            in its place a regressor of its form (``"regressor"``) or a regression on the last
            steps alone (``"least-squares"``), or what the true gains call for (``"oracle"``).
        window: Steps that a correction looks back.
        limit: The longest correction; 1 is half the range of an action's entry, 0 none at all.
        flow_updates: Gradient steps of the flow's training.
    """

    learn_steps: int = 3_000
    adapt: Literal["frozen", "online", "replay", "snapshot"] = "online"
    correct: Literal["none", "flow", "regressor", "least-squares", "oracle"] = "flow"
    window: int = 8
    limit: float = 3.0
    flow_updates: int = 2_000

    model: Literal["deterministic", "gaussian"] = "gaussian"
    ensemble: int = 5
    planner: str = "mppi"
    planner_options: dict[str, bool | int | float | str] = field(
        default_factory=lambda: {"horizon": 6, "temperature": 0.01})
    start_steps: int = 600
    multi_head: bool = False
    reset: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "window")
        require_not_negative(self, "limit", "flow_updates")
        least = self.start_steps + self.train_every
        require(least <= self.learn_steps <= self.replay_size, "learn_steps must be from "
                f"start_steps + train_every, {least}, to replay_size, {self.replay_size}, got "
                f"{self.learn_steps}")
        require(not self.multi_head and not self.detect, "the model of all tasks is one; leave "
                "multi_head at false and detect at 0")
