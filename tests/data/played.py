"""Policies, episodes and a task for the tests of data."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
from toy import CORNERS, Corner

from crl.agent import Policy, PolicySpec
from crl.data import Episodes
from crl.stream import Task, space_bounds


class Toward(Policy):
    """Walks to a corner, in steps of at most `stride`."""

    def __init__(self, corner: int = 0, stride: float = 0.2) -> None:
        self.spec = PolicySpec("corner", *space_bounds(Corner.observation_space),
                               *space_bounds(Corner.action_space))
        self.goal, self.stride = np.array(CORNERS[corner]), stride

    def seed(self, seed):
        pass

    def step(self, obs, state, first, deterministic=True):
        way = np.clip(self.goal - obs[:, :2], -self.stride, self.stride)
        return way.astype(np.float32), state


class TimedCorner(Corner):
    """A corner that says how long its episodes are."""

    horizon = 25


CORNER = Task("corner-0", partial(TimedCorner, 0), 100, 0)


def some_episodes(seed: int = 0, count: int = 7, obs: int = 3, act: int = 2) -> Episodes:
    """Episodes of random numbers, of 1 to 9 steps."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, count)
    steps = lengths.sum()
    last = np.zeros(steps, bool)
    last[np.cumsum(lengths) - 1] = True
    ended = rng.random(steps) < 0.5
    return Episodes.of(
        lengths, obs=rng.normal(size=(steps + count, obs)),
        actions=rng.uniform(-1, 1, (steps, act)), rewards=rng.normal(size=steps),
        terminated=last & ended, truncated=last & ~ended,
        success=rng.random(steps) < 0.3, seeds=rng.integers(2**31, size=count))


def same(one: Episodes, other: Episodes) -> bool:
    """Whether all arrays are equal, and of equal types."""
    return all(np.array_equal(a, b) and a.dtype == b.dtype
               for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def dies_once(folder_and_number: tuple[Path, int]) -> int:
    """The square of a number; the process that is first asked for that of 3 kills itself."""
    folder, number = folder_and_number
    mark = folder / "died"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return number**2
