"""A two-link arm whose motors and goals differ between tasks: what to smoke-test a method on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

REACHED = 0.1  # metres between tip and goal


class ArmEnv(MujocoEnv):
    """Bring the tip of a two-link arm to a goal.

    Observation, float32 [10]: cosines and sines of both joint angles (4), joint speeds / 10 (2,
    rad/s), goal (2) and goal − tip (2), metres. Action, float32 [2] in [-1, 1]: motor commands.
    Reward: minus the distance in metres, and 1 more within 10 cm, which is ``info["success"]``. A
    step is 50 ms.

    Args:
        wiring: [2, 2]: the torques of shoulder and elbow are ``wiring @ action``, in units of 9 Nm.
        goal_angles: Goals lie between these angles around the shoulder, radians.
        horizon: Steps after which an episode is truncated.
        render_mode: As in Gymnasium: ``"rgb_array"``, ``"human"`` …
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (Gymnasium's own attribute)
        "render_modes": ["human", "rgb_array", "depth_array", "rgbd_tuple"], "render_fps": 20}

    def __init__(self, wiring: ArrayLike, goal_angles: tuple[float, float], *, horizon: int = 40,
                 render_mode: str | None = None) -> None:
        self.wiring = np.asarray(wiring, np.float64)
        self.goal_angles = goal_angles
        self.horizon = horizon
        super().__init__(
            str(Path(__file__).parent / "assets" / "arm.xml"), frame_skip=5,
            observation_space=Box(-np.inf, np.inf, (10,), np.float32), render_mode=render_mode,
            width=480, height=480, camera_name="above")
        self.action_space = Box(-1, 1, (2,), np.float32)
        self._goal = np.zeros(2)
        self._steps = 0

    def reset_model(self) -> NDArray[np.float32]:  # type: ignore[override]
        angle = self.np_random.uniform(*self.goal_angles)
        radius = self.np_random.uniform(0.4, 0.95)
        self._goal = radius * np.array([np.cos(angle), np.sin(angle)])
        self.data.mocap_pos[0] = [*self._goal, 0.005]
        qpos = self.np_random.uniform([-np.pi, -2], [np.pi, 2])
        self.set_state(qpos, np.zeros(2))  # type: ignore[no-untyped-call]
        self._steps = 0
        return self._observe()

    def step(  # type: ignore[override]
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.data.ctrl[:] = self.wiring @ np.clip(action, -1, 1)
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        mujoco.mj_kinematics(self.model, self.data)  # the tip where the new angles put it
        self._steps += 1
        obs = self._observe()
        distance = float(np.hypot(obs[8], obs[9]))
        success = distance < REACHED
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        over = self._steps >= self.horizon
        return obs, float(success) - distance, False, over, {"success": success}

    def _observe(self) -> NDArray[np.float32]:
        q = self.data.qpos
        tip = self.data.site_xpos[0, :2]
        return np.concatenate((np.cos(q), np.sin(q), self.data.qvel / 10, self._goal,
                               self._goal - tip)).astype(np.float32)
