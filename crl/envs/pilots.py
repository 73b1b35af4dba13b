"""Pilots written by hand, who fly and drive any course while nothing is wrong with the vehicle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl.envs.quadrotor import GRAVITY, RATES

_CRUISE, _NEAR = 1.8, 0.3  # m/s, and metres within which it is slower


def drive(obs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Speed and yaw rate [2] towards the goal that a ground vehicle observes, [..., 5] at the end.

    For :class:`~crl.envs.unicycle.UnicycleEnv`, :class:`~crl.envs.ugv.UGVEnv` and
    :class:`~crl.envs.ugv.SkidSteerEnv`.
    """
    forward, left = obs[-5:-3]
    turn = np.clip(3 * np.arctan2(left, forward), -np.pi / 2, np.pi / 2)
    return np.array([np.clip(2 * forward, 0, 1), turn], np.float32)


def fly(obs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thrust and body rates [4] towards the goal that a quadrotor observes, [22].

    The acceleration that is wanted, along the body's axes, says how hard to push and which way to
    tilt. It slows down where the goal is the last one.
    """
    forward, up, velocity = np.split(obs[3:12].astype(np.float64), 3)
    goal, following = np.split(obs[-7:-1].astype(np.float64), 2)
    away = np.linalg.norm(goal)
    speed = min(_CRUISE, 1.2 * (away + np.linalg.norm(following - goal)))
    level = np.array([forward[2], np.cross(up, forward)[2], up[2]])  # the world's z
    wanted = 4 * (speed * goal / max(away, _NEAR) - velocity) + GRAVITY * level
    tilt = wanted / np.linalg.norm(wanted)
    rates = np.array([-8 * tilt[1], 8 * tilt[0], 0])
    asked = np.append(wanted[2] / GRAVITY - 1, rates / RATES)
    return np.array(asked.clip(-1, 1), np.float32)
