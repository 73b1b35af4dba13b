"""The tasks of vehicles, and of robots whose dynamics differ or change."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from gymnasium.envs.registration import load_env_creator

from crl.envs.changes import Change
from crl.envs.maps import AIR, GROUND
from crl.stream import Env


class DynamicTask(NamedTuple):
    """A task of one robot.

    Attributes:
        target: ``"module:class"`` of its environment.
        arguments: Of the class.
        changes: What changes about the robot.
    """

    target: str
    arguments: dict[str, Any]
    changes: tuple[Change, ...] = ()


VEHICLES = {"Unicycle-v0": "crl.envs.unicycle:UnicycleEnv", "UGV-v0": "crl.envs.ugv:UGVEnv",
            "SkidSteer-v0": "crl.envs.ugv:SkidSteerEnv",
            "Quadrotor-v0": "crl.envs.quadrotor:QuadrotorEnv"}
"""Gymnasium's name, after ``crl/`` → ``"module:class"``; ``map`` and ``tracking`` make a task."""

ROBOTS = dict(zip(("unicycle", "ugv", "skid", "quad"), VEHICLES.values(), strict=True))

# Of speed and yaw rate, Murillo-González and Liu 2025; there from 15 to 80 % of the waypoints.
GAINS = ((-1, 2), (-2.5, 1), (2.5, 0.05), (1, -1), (1, -0.5), (-1, 1), (-0.5, 1), (2, 2), (-1, -1),
         (0.1, -1.5), (-0.5, 0.5))

_UGV = {
    "slip-left": (Change("slip", 0.5, on="left"),),
    "slip-right": (Change("slip", 0.5, on="right"),),
    "slip-both": (Change("slip", 0.6),),
    "ice": (Change("friction", 0.1),),
    "ice-left": (Change("friction", 0.05, on="left"),),
}
_QUAD = {
    "breeze": (Change("wind", 3, on="x"),),
    "crosswind": (Change("wind", 6, on="y"),),
    "gusts": tuple(Change("wind", (-6, 6), on=axis, stop=100, ramp=50, period=150)
                   for axis in ("x", "y")),  # up to 6 m/s within a second, for another; then calm
    "payload": (Change("payload", 0.2, on="base"),),
    "weak-motor": (Change("motor", 0.7, on="front left"),),
}
_PUSH = {
    "slippery": (Change("friction", 0.2),),
    "damped": (Change("damping", 5),),
    "weak": tuple(Change("gain", 0.5, on=axis) for axis in range(3)),
    "mirrored": (Change("gain", -1, on=0),),
}


def _gains(robot: str) -> dict[str, DynamicTask]:
    return {f"{robot}-v{v:g}-w{w:g}": DynamicTask(ROBOTS[robot], {"map": "afm-1"}, tuple(
        Change("gain", gain, on=i, start=0.15, stop=0.8, unit="progress")
        for i, gain in enumerate((v, w)))) for v, w in GAINS}


DYNAMIC_TASKS: dict[str, DynamicTask] = {
    **{f"{robot}-{name}{suffix}": DynamicTask(target, {"map": name, "tracking": bool(suffix)})
       for robot, target in ROBOTS.items()
       for name in (AIR if robot == "quad" else GROUND) for suffix in ("", "-tracking")},
    **_gains("unicycle"), **_gains("ugv"),
    **{f"ugv-{name}": DynamicTask(ROBOTS["ugv"], {}, changes) for name, changes in _UGV.items()},
    **{f"quad-{name}": DynamicTask(ROBOTS["quad"], {}, changes)
       for name, changes in _QUAD.items()},
    **{f"push-v3-{name}": DynamicTask("crl.envs.metaworld:MetaworldEnv", {"task": "push-v3"},
                                      changes) for name, changes in _PUSH.items()},
}
"""By name: a robot and a map, or a robot and what is different about it."""

DYNAMIC_STREAMS: dict[str, tuple[tuple[str, ...], int]] = {  # tasks, steps of each
    "unicycle-gains": (tuple(_gains("unicycle")), 10_000),
    "ugv-gains": (tuple(_gains("ugv")), 10_000),
    "ugv-slip": (("ugv-eight", *(f"ugv-{name}" for name in _UGV)), 10_000),
    "quad-wind": (("quad-eight", "quad-breeze", "quad-crosswind", "quad-gusts"), 50_000),
    "push-v3-dynamics": (("push-v3", *(f"push-v3-{name}" for name in _PUSH)), 1_000_000),
}


def make_task(task: str, horizon: int | None = None, render_mode: str | None = None) -> Env:
    """The environment of one of :data:`DYNAMIC_TASKS`; horizon None: its own."""
    target, arguments, changes = DYNAMIC_TASKS[task]
    options = {} if horizon is None else {"horizon": horizon}
    env = cast(Env, load_env_creator(target)(**arguments, **options, render_mode=render_mode))
    if not changes:
        return env
    from crl.envs.dynamics import DynamicsSchedule

    return DynamicsSchedule(env, changes)
