"""What the numbers of observations and actions are: their names and units."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from crl.envs import views
from crl.envs.unified import Unified, unified
from crl.errors import UserError
from crl.stream import Env, check_spaces


class Term(NamedTuple):
    """One number of an observation or an action; a unit of None is one that nobody said."""

    name: str
    unit: str | None


_COURSE = "goal.{forward,left} [m]; next.{forward,left} [m]; way_left [m]"
_POSE = "position.{x,y} [m]; heading [rad]"
_DRIVE = "speed [m/s]; yaw_rate [rad/s]"
_SAWYER = ("hand.{x,y,z} [m]; gripper.opening [1]; object1.{x,y,z} [m]; object1.q{0,1,2,3} [1]; "
           "object2.{x,y,z} [m]; object2.q{0,1,2,3} [1]")
_CHEETAH = "back_thigh,back_shin,back_foot,front_thigh,front_shin,front_foot"
_HAND = "hand.{x,y,z}", "hand.{roll,pitch,yaw}", "finger1"

# "module:class" of an environment → observation and action. A unit in brackets is that of all
# terms before it; "0.01 m" is what a 1 stands for.
_TERMS = {
    "crl.envs.metaworld:MetaworldEnv": (
        "; ".join((_SAWYER, *(f"before.{part}" for part in _SAWYER.split("; ")),
                   "goal.{x,y,z} [m]")),
        "hand.move.{x,y,z} [0.01 m]; gripper.effort [1]"),
    "crl.envs.arm:ArmEnv": (
        "{shoulder,elbow}.cos [1]; {shoulder,elbow}.sin [1]; {shoulder,elbow}.speed [10 rad/s]; "
        "goal.{x,y} [m]; goal_from_tip.{x,y} [m]", "motor.{1,2} [9 N m]"),
    "crl.envs.car:CarEnv": ("position.{x,y} [m]; velocity.{x,y} [m/s]", "force.{x,y} [N]"),
    "crl.envs.cartpole:CartPoleEnv": (
        "cart.position [m]; pole.angle [rad]; cart.speed [m/s]; pole.speed [rad/s]",
        "cart.force [15 N]"),
    "crl.envs.cheetah:CheetahEnv": (
        f"velocity.forward [m/s]; height [m]; pitch,{_CHEETAH} [rad]; velocity.x,velocity.z [m/s]; "
        f"pitch.speed [rad/s]; {{{_CHEETAH}}}.speed [rad/s]", f"{{{_CHEETAH}}}.torque [1]"),
    "crl.envs.pusher:PusherEnv": (
        "{front_left,front_right,back_right,back_left}.{x,y} [m]; finger.{x,y} [m]",
        "finger.velocity.{x,y} [0.2 m/s]"),
    "crl.envs.slide:SlideEnv": (
        "; ".join(f"{box}.{{x,y}} [m]; {box}.yaw.{{cos,sin}} [1]; {box}.velocity.{{x,y}} [m/s]; "
                  f"{box}.yaw_rate [rad/s]" for box in ("box1", "box2"))
        + "; finger.{x,y} [m]; finger.velocity.{x,y} [m/s]", "finger.velocity.{x,y} [1.5 m/s]"),
    "crl.envs.door:DoorEnv": (
        "{door,handle}.angle [rad]; {door,handle}.speed [rad/s]; "
        f"{_HAND[0]} [m]; {_HAND[1]} [rad]; {_HAND[2]} [m]; "
        f"speed.{_HAND[0]} [m/s]; speed.{_HAND[1]} [rad/s]; speed.{_HAND[2]} [m/s]; "
        "grip.{x,y,z} [m]; handle.{x,y,z} [m]; finger2 [m]; speed.finger2 [m/s]",
        f"speed.{_HAND[0]} [0.4 m/s]; speed.{_HAND[1]} [2 rad/s]; speed.fingers [0.1 m/s]"),
    "crl.envs.unicycle:UnicycleEnv": (f"{_POSE}; {_COURSE}", _DRIVE),
    "crl.envs.ugv:UGVEnv": (
        f"{_POSE}; velocity.{{forward,left}} [m/s]; yaw_rate [rad/s]; {_COURSE}", _DRIVE),
    "crl.envs.quadrotor:QuadrotorEnv": (
        "position.{x,y,z} [m]; axis_forward.{x,y,z} [1]; axis_up.{x,y,z} [1]; "
        "velocity.{forward,left,up} [m/s]; rate.{roll,pitch,yaw} [rad/s]; "
        "goal.{forward,left,up} [m]; next.{forward,left,up} [m]; way_left [m]",
        "thrust_above_weight [4.905 N]; rate.roll,rate.pitch [4 rad/s]; rate.yaw [1.5 rad/s]"),
}


def terms(env: Env, name: str) -> tuple[list[Term], list[Term]]:
    """The terms of an environment's observation, and of its action.

    An environment of one's own says them as its attributes ``observation_terms`` and
    ``action_terms``, each text such as ``"hand.{x,y,z} [m]; gripper [1]"``. What nobody said is
    called ``obs[0]`` …, ``action[0]`` …, without a unit.

    Args:
        env: An environment, with whatever wrappers.
        name: Its task's name.

    Raises:
        UserError: The environment says another number of terms than it has.
    """
    observation, action = check_spaces(env, name)
    seen = _observed(env, name)
    if seen is None:
        seen = [Term(f"obs[{i}]", None) for i in range(observation.shape[0])]
    if isinstance(action, Discrete):
        return seen, [Term(f"choice[{i}]", "1") for i in range(int(action.n))]
    robot, width = unified(env), action.shape[0]
    if robot is not None:  # its units are shares of the range, which the wrapper hides
        return seen, [Term(f"action[{i}]", "1") for i in range(width)]
    said = _said(env.unwrapped, 1, width)
    return seen, said or [Term(f"action[{i}]", None) for i in range(width)]


def parse(text: str) -> list[Term]:
    """Terms that text stands for: ``"hand.{x,y} [m]"`` is hand.x and hand.y, both in metres."""
    found = []
    for part in text.split(";"):
        names, _, unit = part.strip().removesuffix("]").partition(" [")
        found += [Term(name, unit or None) for group in re.split(r",(?![^{]*})", names)
                  for name in _expanded(group)]
    return found


def _expanded(text: str) -> Iterable[str]:
    """As a shell expands braces."""
    braces = re.search("{(.*?)}", text)
    if braces is None:
        return [text]
    return [name for choice in braces[1].split(",")
            for name in _expanded(text.replace(braces[0], choice, 1))]


def _observed(env: Env, name: str) -> list[Term] | None:
    """What is observed through all wrappers; None where one changes it in a way not known here."""
    width = env.observation_space.shape[0]  # type: ignore[index]  # of a flat Box, as was checked
    if not isinstance(env, gymnasium.Wrapper):
        return _said(env, 0, width)
    if isinstance(env, gymnasium.wrappers.FlattenObservation):
        stack = env.env
        if not isinstance(stack, gymnasium.wrappers.FrameStackObservation):
            return None
        frame = _observed(stack.env, name)
        count = width // len(frame) if frame else 0
        return frame and [Term(f"t-{ago}.{term.name}" if ago else term.name, term.unit)
                          for ago in reversed(range(count)) for term in frame]
    inside = _observed(env.env, name)
    if inside is None:
        return None
    if isinstance(env, views.HideVelocities):
        hidden = np.isin(np.arange(len(inside)), views.velocities(env.env, name))
        return [term for term, gone in zip(inside, hidden, strict=True) if not gone]
    if isinstance(env, Unified):
        others = [Term(f"unused[{i}]", "1") for i in range(width - len(inside))]
        return [*others[:env.place.start], *inside, *others[env.place.start:]]
    if isinstance(env, views.ObserveReward):
        return [*inside, Term("reward", "1")]
    return inside if len(inside) == width else None


def _said(env: Any, which: int, width: int) -> list[Term] | None:
    attribute = ("observation_terms", "action_terms")[which]
    text = getattr(env, attribute, None)
    for cls in type(env).__mro__ if text is None else ():
        known = _TERMS.get(f"{cls.__module__}:{cls.__qualname__}")
        if known:
            text = known[which]
            break
    if text is None:
        return None
    found = parse(text)
    if len(found) != width or len({term.name for term in found}) < width:
        raise UserError(f"{attribute} of {type(env).__name__} must be {width} different names, got "
                        f"{len(found)}: {', '.join(term.name for term in found)[:200]}")
    return found
