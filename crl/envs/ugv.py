"""Ground vehicles on wheels: differential drive, and skid-steering on four of them."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.envs.course import make_course
from crl.envs.maps import GROUND, find_map
from crl.envs.sensed import ASSETS
from crl.envs.unicycle import FASTEST
from crl.envs.vehicle import VehicleEnv

RADIUS, TRACK = 0.16, 0.56  # of a wheel, and between left and right ones, metres


class UGVEnv(VehicleEnv):
    """A robot of 45 kg on two driven wheels; casters keep it level.

    A controller turns speed and yaw rate into speeds of the wheels, (v ∓ ω · track / 2) / radius,
    which motors of 60 N·m hold. Where a wheel goes from there, friction with the ground decides.

    Observation, float32 [11]: x and y (m), the heading (rad, −π to π), speed forward and to the
    left (m/s), yaw rate (rad/s), then what :class:`~crl.envs.course.Course` tells. Action, float32
    [2]: speed (m/s), −1 to 1, and yaw rate (rad/s), −π/2 to π/2; the wheels' 25 rad/s cut off what
    lies far beyond. Reward, success: as the course says. ``info["progress"]`` is the part of it
    that is done. A step is 0.2 s.

    Attributes:
        slip: [wheels], the parts of the speeds of the wheels that are lost;
            :class:`~crl.envs.dynamics.DynamicsSchedule` sets them.

    Args:
        map: A name of :data:`crl.envs.maps.GROUND`, or waypoints [n, 2], metres.
        tracking: Follow a reference that moves, instead of passing waypoints.
        horizon: Steps after which an episode is truncated; None: the course's own.
        render_mode: As in Gymnasium: ``"rgb_array"``, ``"human"`` …
    """

    wheels: tuple[str, ...] = ("left", "right")
    _model = "ugv.xml"

    def __init__(self, map: str | ArrayLike = "eight", *, tracking: bool = False,
                 horizon: int | None = None, render_mode: str | None = None) -> None:
        course = make_course(find_map(map, GROUND), tracking=tracking, radius=0.5, pace=0.8)
        self.slip = np.zeros(len(self.wheels))
        side = [-1 if "left" in wheel else 1 for wheel in self.wheels]
        self._mixing = np.array([(1, s * TRACK / 2) for s in side]) / RADIUS
        super().__init__(ASSETS / self._model, course, pose=3, angles=(2,), fastest=FASTEST,
                         frame_skip=40, horizon=horizon, render_mode=render_mode)

    def act(self, action: NDArray[np.float64]) -> None:
        self.data.ctrl[:] = (1 - self.slip) * (self._mixing @ action)
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)

    def sense(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        x, y, _, c, s, _, forward, left, _, _, _, rate = self.data.sensordata
        yaw = math.atan2(s, c)
        c, s = math.cos(yaw), math.sin(yaw)
        return (np.array([x, y, yaw, forward, left, rate]), np.array([x, y]),
                np.array([[c, -s], [s, c]]))


class SkidSteerEnv(UGVEnv):
    """As :class:`UGVEnv`, on four driven wheels, which turn by skidding: it turns less than asked.

    Observations, actions and arguments are those of :class:`UGVEnv`.
    """

    wheels = ("front left", "front right", "back left", "back right")
    _model = "skid_steer.xml"
