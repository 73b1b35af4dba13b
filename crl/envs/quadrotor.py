"""A quadrotor, flown by collective thrust and body rates."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.envs.course import make_course
from crl.envs.maps import AIR, find_map
from crl.envs.sensed import ASSETS
from crl.envs.vehicle import VehicleEnv

MASS, GRAVITY = 0.5, 9.81
RATES = np.array([4.0, 4.0, 1.5])        # rad/s of roll, pitch and yaw that an action of 1 asks for
_INERTIA = np.array([0.0032, 0.0032, 0.0055])
_RESPONSE = np.array([25.0, 25.0, 6.0])  # 1/s: how fast the rates get there
_ARM, _DRAG = 0.12, 0.016                # metres: of forces for roll and pitch, and for yaw


class QuadrotorEnv(VehicleEnv):
    """A quadrotor of 0.5 kg in air, which flies over a course.

    A loop of 500 Hz compares the body's rates with those that are asked for, and shares thrust and
    torques out among four motors of 0 to 2.75 N. It knows nothing of a motor that is weak, of what
    is carried, or of wind. Air drags on it as on a box of its inertia.

    Observation, float32 [22]: x, y, z (m), the body's axes x and z in the world (6), velocity along
    its axes (3, m/s), its rates (3, rad/s), then what :class:`~crl.envs.course.Course` tells.
    Action, float32 [4] in [-1, 1]: thrust, −1 none, 0 what it weighs, 1 twice that; roll and pitch
    rate, in units of 4 rad/s; yaw rate, in units of 1.5 rad/s. Reward, success: as the course says.
    ``info["progress"]`` is the part of it that is done. A step is 20 ms.

    Args:
        map: A name of :data:`crl.envs.maps.AIR`, or waypoints [n, 3], metres.
        tracking: Follow a reference that moves, instead of passing waypoints.
        horizon: Steps after which an episode is truncated; None: the course's own.
        render_mode: As in Gymnasium: ``"rgb_array"``, ``"human"`` …
    """

    def __init__(self, map: str | ArrayLike = "eight", *, tracking: bool = False,
                 horizon: int | None = None, render_mode: str | None = None) -> None:
        course = make_course(find_map(map, AIR), tracking=tracking, radius=0.3, pace=1.5)
        # From thrust and torques to motors: front left, front right, back left, back right.
        sharing = np.array([(1, 1, -1, -1), (1, -1, -1, 1), (1, 1, 1, 1), (1, -1, 1, -1)]) / 4
        sharing /= (1, _ARM, _ARM, _DRAG)
        self._thrust = sharing[:, 0] * MASS * GRAVITY
        self._feedback = sharing[:, 1:] * _INERTIA * _RESPONSE
        super().__init__(ASSETS / "quadrotor.xml", course, pose=9, fastest=np.ones(4, np.float32),
                         frame_skip=10, horizon=horizon, render_mode=render_mode)

    def act(self, action: NDArray[np.float64]) -> None:
        model, data = self.model, self.data
        control, rates = data.ctrl, data.qvel[3:]  # along the body's axes; views
        asked = self._thrust * (1 + action[0]) + self._feedback @ (RATES * action[1:])
        for _ in range(self.frame_skip):
            control[:] = asked - self._feedback @ rates
            mujoco.mj_step(model, data)

    def sense(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        told = np.array(self.data.sensordata)
        forward, up = told[3:6], told[6:9]
        return told, told[:3], np.column_stack((forward, np.cross(up, forward), up))
