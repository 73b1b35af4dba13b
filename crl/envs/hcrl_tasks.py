"""The tasks that planners are told all about: what differs between those of a robot."""

from __future__ import annotations

from typing import Any, NamedTuple


class HcrlTask(NamedTuple):
    """A task of one robot.

    Attributes:
        target: ``"module:class"`` of its environment.
        arguments: Of the class, which make the task.
    """

    target: str
    arguments: dict[str, Any]


_LENGTHS = (0.6, 0.8, 0.4, 1.0, 1.2, 0.7, 0.5, 0.9, 1.1, 1.3)
_DENSITIES = ((500, 500), (100, 500), (500, 100), (500, 250), (250, 500))
_TABLES = (0.1, 0.14, 0.2, 0.28, 0.4)
_CARS = (0.0, 0.5, 1.0, 1.5, 2.0)
_HANDLES = {"pull": ("pull", 1), "round-left": ("round", 1), "round-right": ("round", -1),
            "lever-down": ("lever", 1), "lever-up": ("lever", -1)}

_CARTPOLE = {f"cartpole-{length}": HcrlTask("crl.envs.cartpole:CartPoleEnv", {"length": length})
             for length in _LENGTHS}
_CHEETAH = {f"cheetah-{name}": HcrlTask("crl.envs.cheetah:CheetahEnv", {"larger": larger})
            for name, larger in {"plain": "none", "torso": "torso", "thigh": "thigh",
                                 "shin": "shin", "foot": "foot"}.items()}
_PUSHER = {f"pusher-{left}-{right}": HcrlTask("crl.envs.pusher:PusherEnv",
                                              {"densities": (left, right)})
           for left, right in _DENSITIES}
_SLIDE = {f"slide-{friction}": HcrlTask("crl.envs.slide:SlideEnv", {"friction": friction})
          for friction in _TABLES}
_DOOR = {f"door-{name}": HcrlTask("crl.envs.door:DoorEnv", {"handle": handle, "sense": sense})
         for name, (handle, sense) in _HANDLES.items()}
_CAR = {f"car-{friction}": HcrlTask("crl.envs.car:CarEnv", {"friction": friction})
        for friction in _CARS}

HCRL_TASKS: dict[str, HcrlTask] = {**_CARTPOLE, **_CHEETAH, **_PUSHER, **_SLIDE, **_DOOR, **_CAR}
"""By name; robots, and tasks of a robot, in the order of Huang et al. 2021."""

HCRL_STREAMS: dict[str, tuple[tuple[str, ...], int]] = {  # tasks, steps of each
    "hcrl-cartpole": (tuple(_CARTPOLE), 3_000),
    "hcrl-cheetah": (tuple(_CHEETAH), 100_000),
    "hcrl-pusher": (tuple(_PUSHER), 4_000),
    "hcrl-slide": (tuple(_SLIDE), 3_000),
    "hcrl-door": (tuple(_DOOR), 60_000),
    "hcrl-lqr": (tuple(_CAR), 2_000),
}
