"""Robots of different kinds in one stream: one observation and one action that fit all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from crl.agent import FloatArray
from crl.errors import UserError
from crl.stream import Env, check_spaces, space_bounds


class Place(NamedTuple):
    """Where a robot's numbers are.

    Attributes:
        start: Of its observation in the common one.
        width: Of the common observation.
        actions: Width of the common action, of which the first entries are the robot's.
    """

    start: int
    width: int
    actions: int


class Unified(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A robot as one of several.

    Its observation stands among zeros; an action in [-1, 1] is scaled to the robot's bounds, and
    what is too much of it is not looked at.

    Args:
        env: The robot.
        place: See :class:`Place`.
    """

    def __init__(self, env: Env, place: Place) -> None:
        super().__init__(env)
        observations, actions = env.observation_space, env.action_space
        assert isinstance(observations, Box)
        assert isinstance(actions, Box)
        self.place = place
        self._own = slice(place.start, place.start + observations.shape[0])
        self._low, self._high = space_bounds(actions)
        low, high = np.zeros((2, place.width), np.float32)
        low[self._own], high[self._own] = space_bounds(observations)
        self.observation_space = Box(low, high)
        self.action_space = Box(-1, 1, (place.actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[FloatArray, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self.placed(obs), info

    def step(self, action: Any) -> tuple[FloatArray, SupportsFloat, bool, bool, dict[str, Any]]:
        share = (np.asarray(action)[:len(self._low)] + 1) / 2
        own = self._low + share * (self._high - self._low)
        obs, reward, terminated, truncated, info = self.env.step(own)
        return self.placed(obs), reward, terminated, truncated, info

    def placed(self, obs: Any) -> FloatArray:
        """Observations [..., own] of the robot by itself as [..., width]; a reward that is observed
        stays at the end."""
        width = self._own.stop - self._own.start
        whole = np.zeros((*obs.shape[:-1], self.place.width), np.float32)
        whole[..., self._own] = obs[..., :width]
        return np.concatenate((whole, obs[..., width:]), -1, dtype=np.float32)

    def sent(self, actions: FloatArray) -> FloatArray:
        """The actions [..., act] that the robot by itself is sent as [..., actions]."""
        whole = np.zeros((*actions.shape[:-1], self.place.actions), np.float32)
        share = (actions - self._low) / (self._high - self._low)
        whole[..., :len(self._low)] = 2 * share - 1
        return whole


def places(tasks: Sequence[str], make: Callable[[str], Env]) -> dict[str, Place]:
    """A place for each task: robots whose observations are as wide as each other share theirs.

    Args:
        tasks: Names.
        make: Name → environment.

    Raises:
        UserError: A task's actions are choices.
    """
    widths, actions = {}, 0
    for task in dict.fromkeys(tasks):
        env = make(task)
        try:
            observation, action = check_spaces(env, task)
        finally:
            env.close()
        if not isinstance(action, Box):
            raise UserError(f"stream.unify is for continuous actions, and task {task!r} has "
                            "choices; leave it out of the stream")
        widths[task], actions = observation.shape[0], max(actions, action.shape[0])
    kinds = list(dict.fromkeys(widths.values()))
    starts = dict(zip(kinds, np.cumsum([0, *kinds]).tolist(), strict=False))
    return {task: Place(starts[width], sum(kinds), actions) for task, width in widths.items()}


def unified(env: Env) -> Unified | None:
    """What makes a robot one of several; None where it is by itself."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, Unified):
            return env
        env = env.env
    return None
