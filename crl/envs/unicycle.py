"""The unicycle of Action Flow Matching: a vehicle that is a formula."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from crl.envs.course import make_course
from crl.envs.maps import GROUND, find_map
from crl.errors import UserError
from crl.task_spec import TaskSpec

STEP = 0.2            # seconds
TRACK = 0.56          # metres between the wheels, by which one of them slips
_START, _NOISE = 0.02, 1e-5  # standard deviations: of the start, and of every step
FASTEST = np.array([1, np.pi / 2], np.float32)  # m/s and rad/s


class UnicycleEnv(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A point with a heading, driven through a map.

    x ← x + v cos θ Δt, y ← y + v sin θ Δt, θ ← θ + ω Δt, Δt = 0.2 s, each with noise of standard
    deviation 1e-5: Murillo-González and Liu 2025, whose maps are ``"afm-1"`` and ``"afm-2"``; their
    episodes end after 5,000 steps.

    Observation, float32 [8]: x and y (m), the heading θ (rad, −π to π), then what
    :class:`~crl.envs.course.Course` tells. Action, float32 [2]: speed v (m/s), −1 to 1, and yaw
    rate ω (rad/s), −π/2 to π/2; nothing here cuts off what lies beyond. Reward, success: as the
    course says. ``info["progress"]`` is the part of it that is done.

    Attributes:
        slip: [2], the parts of the speeds of the left and the right wheel that are lost;
            :class:`~crl.envs.dynamics.DynamicsSchedule` sets them.

    Args:
        map: A name of :data:`crl.envs.maps.GROUND`, or waypoints [n, 2], metres.
        tracking: Follow a reference that moves, instead of passing waypoints.
        horizon: Steps after which an episode is truncated; None: the course's own.
        render_mode: None, or ``"rgb_array"`` for a view from above, uint8 [480, 480, 3].
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's own attribute)
        "render_modes": ["rgb_array"], "render_fps": 5}
    wheels = ("left", "right")
    observation_structure = {"pose": 3, "course": 5}  # noqa: RUF012  (as Gymnasium's, see views.py)

    def __init__(self, map: str | ArrayLike = "afm-1", *, tracking: bool = False,
                 horizon: int | None = None, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode {render_mode!r} is not offered; use 'rgb_array' or None")
        self.course = make_course(find_map(map, GROUND), tracking=tracking, radius=0.5, pace=0.8)
        self.task_spec = TaskSpec(self.course.reward, angles=(2,))
        self.horizon = horizon or self.course.horizon(STEP)
        self.render_mode = render_mode
        self.observation_space = Box(-np.inf, np.inf, (8,), np.float32)
        self.action_space = Box(-FASTEST, FASTEST, dtype=np.float32)
        self.slip = np.zeros(2)
        self._state = np.zeros(3)
        self._obs = np.zeros(8, np.float32)
        self._way: list[NDArray[np.float64]] = []

    @property
    def progress(self) -> float:
        """The part of the course that is done, 0 to 1."""
        return self.course.progress

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._state = np.append(self.course.points[0], 0) + self.np_random.normal(0, _START, 3)
        self.course.begin()
        self._way = [self._state]
        return self._observe(), {}

    def step(self, action: NDArray[np.float32]
             ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        v, omega = (float(a) for a in action)
        left, right = self.slip * (v - omega * TRACK / 2, v + omega * TRACK / 2)
        v, omega = v - (left + right) / 2, omega - (right - left) / TRACK
        x, y, theta = self._state + self.np_random.normal(0, _NOISE, 3)
        heading = self._state[2]
        self._state = np.array([
            x + v * math.cos(heading) * STEP, y + v * math.sin(heading) * STEP,
            (theta + omega * STEP + math.pi) % (2 * math.pi) - math.pi])
        self._way.append(self._state)
        self.course.advance(self._state[:2], STEP)
        before, obs = self._obs, self._observe()
        reward = float(self.task_spec.reward(before, action, obs))
        success = self.course.succeeded(obs)
        return obs, reward, False, len(self._way) > self.horizon, {
            "success": success, "is_success": success, "progress": self.progress}

    def render(self) -> NDArray[np.uint8] | None:
        """The map and the way so far from above; None without a render mode."""
        if self.render_mode is None:
            return None
        from crl.envs.top_view import picture

        return picture(self.course.points, np.array(self._way))

    def _observe(self) -> NDArray[np.float32]:
        c, s = math.cos(self._state[2]), math.sin(self._state[2])
        seen = self.course.observe(self._state[:2], np.array([[c, -s], [s, c]]))
        self._obs = np.append(self._state, seen).astype(np.float32)
        return np.array(self._obs)
