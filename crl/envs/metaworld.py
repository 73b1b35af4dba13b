"""The fifty Meta-World v3 tasks as Gymnasium environments: exact, seeded, and fast.

    env = crl.envs.metaworld.MetaworldEnv("push-v3")    # or gymnasium.make("crl/push-v3")
    obs, info = env.reset(seed=0)                   # info["task_vector"]: what the seed drew
    env.reset(options={"task_vector": info["task_vector"]})    # the same episode again

Rewards, success, observations and dynamics are those of metaworld 3.1.1; its task classes run
underneath, on the fast helpers of :mod:`crl.envs.metaworld_fast`. What is mended is the interface:
goal visible, an observation space that contains the observations, a fresh seeded task vector in
every episode, truncation at ``horizon``, and episodes that depend on nothing but the seed.

What an episode reproduces, exactly. Take a stock environment class, construct it, set
``_partially_observable`` and drop the cached ``sawyer_observation_space``, set
``_set_task_called`` and ``_freeze_rand_vec``, put the task vector into ``_last_rand_vec``, call
``reset()`` once and step. That stock reset does:

1. ``reset_model()`` from the constructed state: 50 control steps bring the hand to its start while
   all bodies stand where the XML puts them; then the vector is applied.
2. ``mj_resetData``: positions, velocities and the solver's warm start are cleared, but the bodies
   that the vector moved stay where they are.
3. ``reset_model()`` again: 50 control steps among the moved bodies; the vector is applied; the
   first observation is read, and its previous frame set to the present one. It is not clipped;
   those of ``step`` are clipped to stock's bounds, goals to stock's ``goal_space``.

Every reset here gives the outcome of these three steps, whatever the environment did before. A
stock environment that is reset a second time differs: step 1 starts from where the last episode
ended, and unless the vector is frozen it draws another one than step 3, so that in a task such as
peg-unplug-side, whose plug falls against the box meanwhile, an episode remembers a layout that it
never shows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from numpy.typing import NDArray

from crl.envs.metaworld_fast import VectorRejectedError, fast_class
from crl.envs.metaworld_tasks import TASKS
from crl.envs.rendering import has_display
from crl.errors import UserError, unknown

__all__ = ["TASKS", "MetaworldEnv"]

Observation = NDArray[np.float32]

FRAME_SKIP = 5
"""Physics steps (2.5 ms) per control step: 80 control steps a second."""

_FAR = 1e10
# MuJoCo restarts a simulation in which a coordinate passes this (mjMAXVAL), so an object is never
# further away. A narrower bound would be wrong: a struck puck flies off the table.


class MetaworldEnv(gymnasium.Env[Observation, NDArray[np.float32]]):
    """A Meta-World v3 task.

    Observation, float32 [39]: hand position (3, metres), gripper opening (0–1), two object slots of
    position (3) and quaternion (4), unused ones 0; the same 18 numbers one step earlier; the goal
    position (3). Action, float32 [4] in [-1, 1]: hand displacement (1 = 1 cm a step) and gripper
    effort (1 closes). Displacements beyond the range are clipped. Reward: 0–10 a step.

    ``info`` holds Meta-World's terms as floats (``success``, ``near_object``, ``grasp_success``,
    ``grasp_reward``, ``in_place_reward``, ``obj_to_target``, ``unscaled_reward``) and
    ``is_success`` as a bool; after a reset, ``task_vector`` (float64 [3] or [6], metres).

    ``model`` and ``data`` are MuJoCo's, to read. A reset restores what an earlier one simulated, so
    it would not notice a changed ``model``.

    Args:
        task: One of :data:`TASKS`, such as ``"push-v3"``.
        render_mode: None, or ``"rgb_array"`` for ``render()`` → uint8 [height, width, 3].
        horizon: Control steps after which an episode is truncated.
        partially_observable: Hide the goal: the last three numbers of the observation are 0.
        camera_name: ``"topview"``, ``"corner"``, ``"corner2"``, ``"corner3"``, ``"corner4"``,
            ``"behindGripper"`` or ``"gripperPOV"``.
        width: Image width, pixels.
        height: Image height, pixels.

    Raises:
        UserError: an unknown task, render mode or camera, or a horizon below 1.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012 (Gymnasium's name)

    def __init__(
        self,
        task: str,
        *,
        render_mode: str | None = None,
        horizon: int = 200,
        partially_observable: bool = False,
        camera_name: str = "corner",
        width: int = 480,
        height: int = 480,
    ) -> None:
        if task not in TASKS:
            raise unknown("Meta-World task", task, TASKS)
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"render_mode {render_mode!r} is not offered; use 'rgb_array' or None")
        if not isinstance(horizon, int) or horizon < 1:
            raise UserError(f"horizon must be a whole number of steps, at least 1, not {horizon!r}")
        self.task = task
        self.render_mode = render_mode
        self.horizon = horizon
        self._options = {
            "task": task, "render_mode": render_mode, "horizon": horizon,
            "partially_observable": partially_observable, "camera_name": camera_name,
            "width": width, "height": height,
        }
        self._rules = rules = fast_class(task)(partially_observable)
        cameras = [rules.model.camera(k).name for k in range(rules.model.ncam)]
        if camera_name not in cameras:
            raise unknown("camera", camera_name, cameras)
        self._renderer: mujoco.Renderer | None = None

        self.action_space = Box(-1.0, 1.0, (4,), np.float32)
        low, high = np.full(39, -_FAR), np.full(39, _FAR)
        for start in (0, 18):
            low[start : start + 4], high[start : start + 4] = rules._low[:4], rules._high[:4]
        self.observation_space = Box(low.astype(np.float32), high.astype(np.float32))
        vectors = rules._random_reset_space
        self.task_vector_space = Box(vectors.low, vectors.high, dtype=np.float64)

        self.model, self.data = rules.model, rules.real
        self._mocap = self.data.mocap_pos[0]
        self._ctrl = self.data.ctrl
        self._scale: float = rules.action_scale
        self._scale32 = float(np.float32(self._scale))
        self._reach = tuple(zip(rules.mocap_low.tolist(), rules.mocap_high.tolist(), strict=True))
        self._vector: NDArray[np.float64] | None = None
        self._elapsed = horizon

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Starts an episode.

        Args:
            seed: Reseeds the generator that draws task vectors; None: it goes on.
            options: ``{"task_vector": v}`` sets this vector (float [3] or [6], metres) instead of
                drawing one.

        Returns:
            The first observation, and ``info`` with the episode's ``task_vector``.

        Raises:
            UserError: an unknown option, or a task vector of the wrong shape, not finite, or one
                that the task rejects because start and goal are too close.
        """
        super().reset(seed=seed)
        given = dict(options or {})
        vector = given.pop("task_vector", None)
        if given:
            raise unknown("reset option", next(iter(given)), ["task_vector"])
        try:
            if vector is None:
                obs, self._vector = self._rules.start_episode(self._draw(), self._draw)
            else:
                obs, self._vector = self._rules.start_episode(self._checked(vector), None)
        except VectorRejectedError:
            raise UserError(
                f"{self.task} rejects task_vector {vector}: start and goal are too close; "
                "move them apart"
            ) from None
        self._elapsed = 0
        return obs.astype(np.float32), {"task_vector": self._vector.copy()}

    def _draw(self) -> NDArray[np.float64]:
        space = self.task_vector_space
        return self.np_random.uniform(space.low, space.high)

    def _checked(self, vector: Any) -> NDArray[np.float64]:
        shape = self.task_vector_space.shape
        try:
            checked = np.array(vector, dtype=np.float64)
        except (TypeError, ValueError):
            checked = np.zeros(0)
        if checked.shape != shape or not np.isfinite(checked).all():
            raise UserError(
                f"task_vector of {self.task} must be {shape[0]} finite numbers, not {vector!r}"
            )
        return checked

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step, 12.5 ms of simulated time.

        Args:
            action: [4], float32; float64 is computed in double precision, as stock does.

        Returns:
            Observation, reward (0–10), terminated (always False), truncated (at the horizon), info.

        Raises:
            UserError: an action of the wrong shape or with a number that is not finite.
            ResetNeeded: before the first reset, or after the episode has been truncated.
        """
        if self._elapsed >= self.horizon:
            raise ResetNeeded("the episode is over (or none has begun); call reset() first")
        single = isinstance(action, np.ndarray) and action.dtype == np.float32
        try:
            action = np.asarray(action, dtype=None if single else np.float64)
            values = action.tolist()
            valid = action.shape == (4,) and all(map(math.isfinite, values))
        except (TypeError, ValueError):  # words, ragged lists
            values, valid = action, False
        if not valid:
            raise UserError(f"an action is 4 finite numbers in [-1, 1], not {values!r}")

        # Plain floats, with the rounding of stock's arrays: a float32 action times the scale is
        # rounded to float32, and the product of two such numbers is exact in double precision.
        place = self._mocap.tolist()
        for axis, (low, high) in enumerate(self._reach):
            value = min(max(values[axis], -1.0), 1.0)
            move = float(np.float32(value * self._scale32)) if single else value * self._scale
            place[axis] = min(max(place[axis] + move, low), high)
        self._mocap[:] = place
        self._ctrl[:] = values[3], -values[3]
        mujoco.mj_step(self.model, self.data, nstep=FRAME_SKIP)
        # Positions and contact forces belong to the state before the last physics step until this.
        mujoco.mj_forward(self.model, self.data)

        rules = self._rules
        obs = rules.observe()
        reward, terms = rules.evaluate_state(obs, action)
        info: dict[str, Any] = {name: float(term) for name, term in terms.items()}
        info["is_success"] = info["success"] > 0.0
        self._elapsed += 1
        return obs.astype(np.float32), float(reward), False, self._elapsed >= self.horizon, info

    def render(self) -> NDArray[np.uint8] | None:
        """The camera's picture, uint8 [height, width, 3], top row first; None without render mode.

        Raises:
            UserError: MuJoCo finds no way to draw on this machine.
        """
        if self.render_mode is None:
            return None
        if self._renderer is None:
            height, width = self._options["height"], self._options["width"]
            buffer = self.model.vis.global_
            buffer.offwidth = max(buffer.offwidth, width)
            buffer.offheight = max(buffer.offheight, height)
            advice = ("on a machine without a display set MUJOCO_GL=egl or MUJOCO_GL=osmesa before "
                      "starting Python, and install libegl1 or libosmesa6")
            windows = os.environ.get("MUJOCO_GL", "glfw").lower() not in ("egl", "osmesa")
            if windows and not has_display():  # MuJoCo would abort the process
                raise UserError(f"cannot draw: there is no display; {advice}")
            try:
                self._renderer = mujoco.Renderer(self.model, height, width)
            except Exception as error:  # each graphics library raises its own
                raise UserError(f"cannot draw ({error}); {advice}") from error
        camera = self._options["camera_name"]
        self._renderer.update_scene(self.data, camera=camera)
        picture: NDArray[np.uint8] = self._renderer.render()
        # Meta-World's corner cameras hang upside down: their y axis points to the floor.
        if self.data.camera(camera).xmat[7] < -0.1:
            picture = np.ascontiguousarray(picture[::-1, ::-1])
        return picture

    def close(self) -> None:
        """Frees the renderer; the environment itself stays usable."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "options": self._options,
            "np_random": self._np_random,
            "np_random_seed": self._np_random_seed,
            "spaces": (self.action_space, self.observation_space, self.task_vector_space),
            "vector": self._vector,
            "elapsed": self._elapsed,
            "episode": None if self._vector is None else self._rules.dump_episode(),
            "spec": self.spec,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        MetaworldEnv.__init__(self, **state["options"])
        self._np_random = state["np_random"]
        self._np_random_seed = state["np_random_seed"]
        self.action_space, self.observation_space, self.task_vector_space = state["spaces"]
        self.spec = state["spec"]
        if state["vector"] is not None:
            _, self._vector = self._rules.start_episode(state["vector"], None)
            self._rules.load_episode(state["episode"])
        self._elapsed = state["elapsed"]
