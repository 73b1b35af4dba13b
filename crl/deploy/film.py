"""Filming afterwards what was driven: drawing takes longer than a control step has."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np

from crl.agent import BoolArray, FloatArray, Policy, PolicySpec, State
from crl.deploy.drive import Drive
from crl.deploy.robots import Robot
from crl.stream import Env, TaskStream, space_bounds
from crl.video import record

Episodes = list[list[FloatArray]]


def film(result: Drive, robot: Robot, seed: int, path: Path) -> None:
    """Does the same again with the same seeds and commands, and writes an .mp4.

    Args:
        result: How the only robot was driven.
        robot: The robot.
        seed: What :func:`~crl.deploy.drive.drive` was given.
        path: The file.

    Raises:
        UserError: As :func:`~crl.video.record`.
    """
    task = replace(robot.task, make=partial(_make, robot.task.make, result.commands))
    low, high = space_bounds(robot.stream.observation_space)
    spec = PolicySpec(task.name, low, high, *(np.zeros(0, np.float32),) * 2)
    record(_Commands(spec, result.commands), TaskStream([task]), task, path,
           len(result.commands), seed)


class _Commands(Policy):
    """Gives commands that were given before; an episode begins when it is seeded."""

    def __init__(self, spec: PolicySpec, episodes: Episodes) -> None:
        self.spec = spec
        self._episodes = iter(episodes)

    def seed(self, seed: int) -> None:
        self._rest = iter(next(self._episodes))

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        return next(self._rest)[None], state


class _Cut(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Ends each episode after as many steps as it was driven."""

    def __init__(self, env: Env, episodes: Episodes) -> None:
        super().__init__(env)
        self._lengths = iter([len(commands) for commands in episodes])
        self._left = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Any, dict[str, Any]]:
        self._left = next(self._lengths)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._left -= 1
        return obs, reward, terminated, truncated or self._left == 0, info


def _make(make: Any, episodes: Episodes, render_mode: str | None = None) -> Env:
    return _Cut(make(render_mode=render_mode), episodes)
