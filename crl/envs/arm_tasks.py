"""The tasks of the two-link arm: what their motors do and where their goals lie."""

from __future__ import annotations

from math import pi
from typing import Any, NamedTuple

from crl.stream import StreamOptions, TaskStream

STEPS = 5_000


class ArmTask(NamedTuple):
    """One task of the arm.

    Attributes:
        wiring: [2, 2]: torques of shoulder and elbow are ``wiring @ action``.
        goal_angles: Goals lie between these angles around the shoulder, radians.
    """

    wiring: tuple[tuple[float, float], tuple[float, float]]
    goal_angles: tuple[float, float]


ARM_TASKS: dict[str, ArmTask] = {
    "arm-plain": ArmTask(((1, 0), (0, 1)), (-pi / 4, pi / 4)),
    "arm-mirrored": ArmTask(((-1, 0), (0, -1)), (pi / 4, 3 * pi / 4)),
    "arm-swapped": ArmTask(((0, 1), (1, 0)), (3 * pi / 4, 5 * pi / 4)),
    "arm-crossed": ArmTask(((0, -1), (1, 0)), (5 * pi / 4, 7 * pi / 4)),
}


def make_stream(name: str, options: StreamOptions) -> TaskStream:
    """``arm4``: the four tasks, 5 000 steps each: seconds to learn, and each undoes the last."""
    from crl.envs.catalog import stream_of

    return stream_of(name, tuple(ARM_TASKS), options, steps=STEPS, label=f"{name}-v1")


def make_arm(task: str, horizon: int | None, render_mode: str | None = None) -> Any:
    """The environment of one of :data:`ARM_TASKS`."""
    from crl.envs.arm import ArmEnv

    options: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    return ArmEnv(*ARM_TASKS[task], render_mode=render_mode, **options)
