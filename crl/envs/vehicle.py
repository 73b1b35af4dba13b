"""What MuJoCo's vehicles share: a map, on which their course lies, and what is told of both."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from crl.envs.course import Course
from crl.task_spec import TaskSpec

_START = 0.02  # standard deviation of where a vehicle starts, metres and radians
_ROUTE = (0.2, 0.45, 0.7, 0.35)


class VehicleEnv(MujocoEnv):
    """A vehicle that drives or flies over a course, controlled at 5 to 50 Hz.

    Its body is called ``base`` and moves by a free joint; two mocap bodies, ``goal`` and ``next``,
    show where it is to go.

    Args:
        model: The MJCF file.
        course: The task.
        pose: How many numbers of the observation say where the vehicle is; of the rest, 2 d + 1
            are the course's and the others velocities.
        angles: Entries of the observation that are angles, in radians.
        fastest: [act], the bounds of the action, on both sides.
        frame_skip: Steps of the simulation in one of the environment.
        horizon: Steps after which an episode is truncated; None: the course's own.
        render_mode: As in Gymnasium: ``"rgb_array"``, ``"human"`` …
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's own attribute)
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}

    def __init__(self, model: Path, course: Course, *, pose: int, angles: tuple[int, ...] = (),
                 fastest: NDArray[np.float32], frame_skip: int, horizon: int | None,
                 render_mode: str | None) -> None:
        self.course = course
        self.task_spec = TaskSpec(course.reward, angles)
        step = float(mujoco.MjSpec.from_file(str(model)).option.timestep) * frame_skip
        self.horizon = horizon or course.horizon(step)
        self.metadata = {**self.metadata, "render_fps": round(1 / step)}
        super().__init__(str(model), frame_skip, observation_space=None, render_mode=render_mode,
                         width=480, height=480, camera_name="chase")
        self._steps = 0
        self._obs = self._observe(0)
        self.observation_space = Box(-np.inf, np.inf, self._obs.shape, np.float32)
        self.action_space = Box(-fastest, fastest, dtype=np.float32)
        # As Gymnasium's MuJoCo environments say it; stream.hide_velocities reads it.
        self.observation_structure = {
            "pose": pose, "qvel": len(self._obs) - pose - course.size, "course": course.size}

    def _initialize_simulation(self) -> tuple[Any, Any]:
        spec = mujoco.MjSpec.from_file(self.fullpath)
        points = np.zeros((len(self.course.points), 3))
        points[:, :self.course.points.shape[1]] = self.course.points
        for start, end in pairwise(points):
            spec.worldbody.add_site(type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.006, 0, 0],
                                    fromto=[*start, *end], rgba=_ROUTE)
        model = spec.compile()
        model.vis.global_.offwidth, model.vis.global_.offheight = self.width, self.height
        return model, mujoco.MjData(model)

    @property
    def progress(self) -> float:
        """The part of the course that is done, 0 to 1."""
        return self.course.progress

    @abstractmethod
    def act(self, action: NDArray[np.float64]) -> None:
        """Simulates a step with an action [act]."""

    @abstractmethod
    def sense(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """What sensors tell [pose and velocities], the position [d], and the axes [d, d], columns
        of which are where forward, left and up are; ``data`` is up to date."""

    def reset_model(self) -> NDArray[np.float32]:  # type: ignore[override]
        start = self.course.points[0]
        base = self.data.joint("base").qpos
        base[:len(start)] = start + self.np_random.normal(0, _START, len(start))
        yaw = self.np_random.normal(0, _START)
        base[3:] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
        self.course.begin()
        self._mark()
        self._steps = 0
        return self._observe(0)

    def step(  # type: ignore[override]
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.act(np.asarray(action, np.float64))
        self._steps += 1
        before, obs = self._obs, self._observe(self.dt)
        reward = float(self.task_spec.reward(before, action, obs))
        success = self.course.succeeded(obs)
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return obs, reward, False, self._steps >= self.horizon, {
            "success": success, "is_success": success, "progress": self.progress}

    def _mark(self) -> None:
        goals = self.course.ahead()
        self.data.mocap_pos[:, :goals.shape[1]] = goals

    def _observe(self, seconds: float) -> NDArray[np.float32]:
        """What is told after a step of so many seconds; 0 at the start."""
        mujoco.mj_forward(self.model, self.data)
        sensed, position, axes = self.sense()
        if seconds:
            self.course.advance(position, seconds)
            self._mark()
        self._obs = np.append(sensed, self.course.observe(position, axes)).astype(np.float32)
        return np.array(self._obs)
