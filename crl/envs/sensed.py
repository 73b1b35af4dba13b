"""Robots that observe what their MJCF's sensors tell, and whose reward is a function of that."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mujoco
import mujoco.rollout
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import NDArray

from crl.task_spec import TaskSpec

ASSETS = Path(__file__).parent / "assets"


class SensedEnv(MujocoEnv):
    """A MuJoCo robot that planners can be told all about.

    It observes what its sensors tell, float32, acts by its actuators' controls, and is rewarded by
    ``task_spec``. Whoever plans with the simulator itself asks :meth:`imagine`.

    Args:
        model: The MJCF file.
        spec: The task's reward, and which observations are angles.
        change: What makes a task of the model: changes it before it is compiled.
        frame_skip: Steps of the simulation in one of the environment.
        horizon: Steps after which an episode is truncated.
        camera: The one that is drawn from.
        render_mode: As in Gymnasium: ``"rgb_array"``, ``"human"`` …
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's own attribute)
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"]}

    def __init__(self, model: Path, spec: TaskSpec, *, frame_skip: int, horizon: int,
                 camera: str, change: Callable[[Any], None] = lambda model: None,
                 render_mode: str | None = None) -> None:
        self.task_spec = spec
        self.horizon = horizon
        self._change = change
        step = float(mujoco.MjSpec.from_file(str(model)).option.timestep)
        self.metadata = {**self.metadata, "render_fps": round(1 / (step * frame_skip))}
        super().__init__(str(model), frame_skip, observation_space=None, render_mode=render_mode,
                         width=480, height=480, camera_name=camera)
        self._sensed = np.zeros(self.model.nsensordata)
        self._obs = self.observe(self._sensed, self._sensed).astype(np.float32)
        self.observation_space = Box(-np.inf, np.inf, self._obs.shape, np.float32)
        self._steps = 0

    def _initialize_simulation(self) -> tuple[Any, Any]:
        spec = mujoco.MjSpec.from_file(self.fullpath)
        self._change(spec)
        model = spec.compile()
        model.vis.global_.offwidth, model.vis.global_.offheight = self.width, self.height
        return model, mujoco.MjData(model)

    @abstractmethod
    def place(self) -> None:
        """Draws the start of an episode, from ``np_random``, into ``data``."""

    def succeeded(self, obs: NDArray[np.float32]) -> bool:
        """Whether the task is done where this is observed; False where there is no such notion."""
        return False

    def observe(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        """Observations [..., obs] from what sensors told before and after steps, [..., sensors]."""
        return after

    def reset_model(self) -> NDArray[np.float32]:  # type: ignore[override]
        self.place()
        self._steps = 0
        sensed = self._sense()
        return self._take_in(sensed, sensed)

    def step(  # type: ignore[override]
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        obs, action = self._obs, np.asarray(action, np.float32)
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        self._steps += 1
        following = self._take_in(self._sensed, self._sense())
        reward = float(self.task_spec.reward(obs, action, following))
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return following, reward, False, self._steps >= self.horizon, {
            "success": self.succeeded(following)}

    def imagine(self, actions: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What would be observed from here on: the simulator's own rollouts.

        Args:
            actions: [K, H, act], K sequences of actions.

        Returns:
            Observations [K, H + 1, obs], the current one first. Nothing changes here.
        """
        count, skip = len(actions), self.frame_skip
        state = np.empty(mujoco.mj_stateSize(self.model, mujoco.mjtState.mjSTATE_FULLPHYSICS))
        mujoco.mj_getState(self.model, self.data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        controls = np.repeat(actions, skip, axis=1).astype(np.float64)
        # Sensors are read where a step begins: what it led to is read one step later.
        controls = np.concatenate((controls, controls[:, -1:]), axis=1)
        _, sensed = mujoco.rollout.rollout(self.model, [mujoco.MjData(self.model)],
                                           np.tile(state, (count, 1)), controls)
        after = sensed[:, ::skip]
        before = np.concatenate((after[:, :1], after[:, :-1]), axis=1)
        obs = np.asarray(self.observe(before, after), np.float32)
        obs[:, 0] = self._obs
        return obs

    def _sense(self) -> NDArray[np.float64]:
        mujoco.mj_forward(self.model, self.data)
        return np.array(self.data.sensordata)

    def _take_in(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
        self._sensed, self._obs = after, np.asarray(self.observe(before, after), np.float32)
        return np.array(self._obs)
