"""What is hidden from an agent, and what helps one that cannot remember."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from crl.errors import UserError
from crl.stream import Env

# Of environments that do not say themselves what their observations are made of.
_VELOCITIES = {
    "Pendulum-v1": (2,), "CartPole-v1": (1, 3), "MountainCar-v0": (1,),
    "MountainCarContinuous-v0": (1,), "Acrobot-v1": (4, 5), "Reacher-v5": (6, 7),
    "InvertedDoublePendulum-v5": (5, 6, 7), "Pusher-v5": tuple(range(7, 14)),
}
_ARM = (4, 5)
_METAWORLD = tuple(range(18, 36))  # the frame before: the difference of two is a velocity


class HideVelocities(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Takes velocities out of the observation; Meta-World's previous frame, which gives them away.

    Args:
        env: An environment of Meta-World, the arm, or Gymnasium's classic control and MuJoCo.
        name: Its name.

    Raises:
        UserError: Nobody said which numbers of its observation are velocities.
    """

    def __init__(self, env: Env, name: str) -> None:
        super().__init__(env)
        hidden = velocities(env, name)
        space = env.observation_space
        assert isinstance(space, Box)
        self._shown = np.setdiff1d(np.arange(space.shape[0]), hidden)
        self.observation_space = Box(space.low[self._shown], space.high[self._shown],
                                     dtype=np.float32)

    def observation(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(observation[self._shown], np.float32)


def velocities(env: Env, name: str) -> NDArray[np.int64]:
    """The positions of velocities in an environment's observation."""
    from crl.envs.arm import ArmEnv
    from crl.envs.metaworld import MetaworldEnv

    inner = env.unwrapped
    if isinstance(inner, MetaworldEnv):
        return np.array(_METAWORLD)
    if isinstance(inner, ArmEnv):
        return np.array(_ARM)
    if name in _VELOCITIES:
        return np.array(_VELOCITIES[name])
    structure = getattr(inner, "observation_structure", None)  # Gymnasium's MuJoCo environments
    if structure is None:
        raise UserError(f"stream.hide_velocities does not know which numbers of {name!r} are "
                        "velocities; it works on Meta-World, the arm, Gymnasium's classic control "
                        "and its MuJoCo environments")
    hidden: list[int] = []
    start = 0
    for part, size in structure.items():
        if part == "skipped_qpos":  # says what is not in the observation
            continue
        if part in ("qvel", "cvel"):
            hidden += range(start, start + size)
        start += size
    return np.array(hidden)


class HideGoal(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Shows Meta-World's goal, the last three numbers, at the start of an episode only; then 0.

    Args:
        env: An environment of Meta-World, its goal visible.
        shown: Observations that have it.
    """

    def __init__(self, env: Env, shown: int) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Box)
        low, high = space.low.copy(), space.high.copy()
        low[-3:], high[-3:] = np.minimum(low[-3:], 0), np.maximum(high[-3:], 0)
        self.observation_space = Box(low, high)
        self._shown = shown
        self._seen = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[NDArray[Any], dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        self._seen = 1
        return obs, info

    def step(self, action: Any) -> tuple[NDArray[Any], SupportsFloat, bool, bool, dict[str, Any]]:
        obs, *rest = self.env.step(action)
        if self._seen >= self._shown:
            obs = np.append(obs[:-3], np.zeros(3, obs.dtype))
        self._seen += 1
        return obs, *rest


class ObserveReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Appends the reward of the step before to the observation; 0 at the start of an episode.

    A policy sees observations only: where a reward tells something, they must have it.
    """

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, Box)
        self.observation_space = Box(np.append(space.low, -np.inf).astype(np.float32),
                                     np.append(space.high, np.inf).astype(np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return np.append(obs, 0).astype(np.float32), info

    def step(self, action: Any) -> tuple[NDArray[np.float32], SupportsFloat, bool, bool,
                                         dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return np.append(obs, float(reward)).astype(np.float32), reward, terminated, truncated, info


def stack_frames(env: Env, count: int) -> Env:
    """The last ``count`` observations as one, oldest first; the first one fills what is missing."""
    stacked: Env = gymnasium.wrappers.FlattenObservation(
        gymnasium.wrappers.FrameStackObservation(env, count, padding_type="reset"))
    return stacked
