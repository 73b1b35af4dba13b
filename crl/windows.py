"""Recorded episodes, sampled in windows: what an agent learns from that only looks on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from crl.checkpoint import Tree
from crl.data.episodes import returns_to_go
from crl.replay import Samples, column_to_tensor, one_or_each


@dataclass(frozen=True)
class Windows(Samples):
    """B windows of K steps, the last of which is drawn; where an episode is younger, padding."""

    seen = ("obs", "to_go", "reward", "valid")

    obs: Tensor      # [B, K, obs]
    action: Tensor   # [B, K, act], what was done there
    to_go: Tensor    # [B, K], the return from there to the end of the episode
    reward: Tensor   # [B, K], of the step before; zero at the start of an episode
    valid: Tensor    # [B, K] bool: no padding
    head: Tensor | int


class WindowReplay:
    """Holds what it was given; nothing is ever added step by step.

    Args:
        window: K, steps of a window.
        device: Where batches go.
    """

    kind: type[Any] = Windows

    def __init__(self, window: int, device: str = "cpu") -> None:
        self.window, self.length, self.device = window, 1, device
        self.clear()

    def __len__(self) -> int:
        """Steps held, each of which ends a window."""
        return self._size

    def clear(self) -> None:
        """Forgets everything."""
        self._size = 0
        self._columns: dict[str, np.ndarray] = {}

    def put(self, obs: np.ndarray, action: np.ndarray, reward: np.ndarray,
            lengths: Sequence[int], head: int) -> None:
        """Takes in whole episodes.

        Args:
            obs: [n, obs], scaled, of every step of every episode, in order.
            action: [n, act], in [-1, 1], what was done there.
            reward: [n], what came of it.
            lengths: Steps of each episode; their sum is n.
            head: Of their task.
        """
        age = np.concatenate([np.arange(length) for length in lengths])
        new = {"obs": obs, "action": action, "age": age,
               "to_go": returns_to_go(reward, np.append(0, np.cumsum(lengths))),
               "reward": np.where(age > 0, np.roll(reward, 1), 0).astype(np.float32),
               "head": np.full(len(obs), head)}
        self._columns = ({name: np.concatenate((old, new[name]))
                          for name, old in self._columns.items()} or new)
        self._size += len(obs)

    def sample(self, batch_size: int, rng: np.random.Generator) -> Windows:
        """Draws windows uniformly with replacement."""
        return self.take(rng.integers(self._size, size=batch_size))

    def take(self, start: np.ndarray) -> Windows:
        """The windows that end at ``start``, indices below ``len(self)`` [B]."""
        back = np.arange(1 - self.window, 1)
        valid = -back <= self._columns["age"][start][:, None]
        at = np.where(valid, start[:, None] + back, start[:, None])
        columns = {name: self._columns[name][at] for name in ("obs", "action", "to_go", "reward")}
        for column in columns.values():
            column[~valid] = 0
        return Windows(**{name: column_to_tensor(column, self.device)
                          for name, column in {**columns, "valid": valid}.items()},
                       head=one_or_each(self._columns["head"][start], self.device))

    def state_dict(self) -> Tree:
        """Nothing: recorded episodes are read again."""
        return {}

    def load_state_dict(self, tree: Tree) -> None:
        """Keeps what it holds."""
