"""The tasks of the two-link arm: what their motors do and where their goals lie."""

from __future__ import annotations

from math import pi
from typing import Literal, NamedTuple


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

HiddenDynamics = Literal["gains", "friction", "delay"]
HIDDEN_ARM_TASKS: dict[str, HiddenDynamics] = {
    "arm-hidden-gains": "gains",
    "arm-hidden-friction": "friction",
    "arm-hidden-delay": "delay",
}
