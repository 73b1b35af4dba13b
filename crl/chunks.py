"""Replay of chunks: equally long pieces of experience, whatever episodes they are of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.replay import Samples, column_to_tensor, one_or_each

Keep = Literal["fifo", "reservoir", "half"]


@dataclass(frozen=True)
class Chunks(Samples):
    """B chunks of L consecutive rows. A row is an observation and what led to it."""

    seen = ("obs", "action", "first", "state")

    obs: Tensor      # [B, L, obs]
    action: Tensor   # [B, L, act], the one before; zero at the start of an episode
    reward: Tensor   # [B, L], of the step before; likewise
    ended: Tensor    # [B, L] bool: the episode ended here for good
    first: Tensor    # [B, L] bool: an episode begins here
    state: Tensor    # [B, state]: what was remembered before the first row
    head: Tensor | int


class ChunkReplay:
    """Keeps whole chunks: every row is in exactly one, and what is left over of a task in none.

    Args:
        capacity: Rows kept.
        obs_size, action_size, state_size: Widths of the vectors.
        length: L, rows of a chunk.
        keep: What stays when it is full. ``"fifo"``: the newest; ``"reservoir"``: at any time a
            uniform sample of all chunks there ever were (Vitter 1985, algorithm R); ``"half"``:
            half of it the one, half the other, and batches likewise (after WMAR, Yang et al. 2024).
        seed: Of what stays.
        device: Where batches go.

    Steps of one environment must arrive in order.

    Attributes:
        seen: Chunks that there ever were.
    """

    kind: type[Any] = Chunks

    def __init__(self, capacity: int, obs_size: int, action_size: int, state_size: int, *,
                 length: int, keep: Keep = "fifo", seed: int = 0, device: str = "cpu") -> None:
        self.length, self.device, self._keep = length, device, keep
        count = max(capacity // length, 2)
        self._newest = {"fifo": count, "reservoir": 0, "half": count // 2}[keep]  # slots of it
        self._slots = count
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "obs": (np.float32, (obs_size,)), "action": (np.float32, (action_size,)),
            "reward": (np.float32, ()), "ended": (np.bool_, ()), "first": (np.bool_, ())}
        # np.empty: the pages of a large buffer are only taken as they are written.
        self._columns: dict[str, np.ndarray] = {
            name: np.empty((count, length, *shape), kind)
            for name, (kind, shape) in shapes.items()}
        self._state = np.empty((count, state_size), np.float32)
        self._head = np.zeros(count, np.int64)
        self._open: dict[str, np.ndarray] = {  # the chunk that is not full yet
            name: np.zeros((length, *shape), kind) for name, (kind, shape) in shapes.items()}
        self._open_state = np.zeros(state_size, np.float32)
        self._rng = seeding.generator(seed, "replay")
        self.clear()

    def __len__(self) -> int:
        """Chunks held."""
        return min(self.seen, self._newest) + min(self.seen, self._slots - self._newest)

    def clear(self) -> None:
        """Forgets everything."""
        self.seen = 0
        self._filled, self._open_head = 0, 0

    def add(self, obs: np.ndarray, action: np.ndarray, reward: float, *, ended: bool, first: bool,
            head: int, state: np.ndarray) -> None:
        """Stores one row.

        Args:
            obs: [obs].
            action: The one before, [act], scaled to [-1, 1].
            reward: Of the step before.
            ended: Whether the episode ended here for good.
            first: Whether an episode begins here; there was nothing before then.
            head: Head of the task that the row is from.
            state: What was remembered before the row, [state].
        """
        if head != self._open_head:
            self._filled, self._open_head = 0, head
        if self._filled == 0:
            self._open_state[:] = state
        row = {"obs": obs, "action": 0 if first else action, "reward": 0 if first else reward,
               "ended": ended, "first": first}
        for name, value in row.items():
            self._open[name][self._filled] = value
        self._filled += 1
        if self._filled == self.length:
            self._store()
            self._filled = 0

    def _store(self) -> None:
        slots = []
        if self._newest:
            slots.append(self.seen % self._newest)
        uniform = self._slots - self._newest
        if uniform:  # the n-th of all stays with probability uniform / n
            place = (self.seen if self.seen < uniform
                     else int(self._rng.integers(self.seen + 1)))
            slots += [self._newest + place] if place < uniform else []
        for slot in slots:
            for name, column in self._columns.items():
                column[slot] = self._open[name]
            self._state[slot], self._head[slot] = self._open_state, self._open_head
        self.seen += 1

    @property
    def _held(self) -> np.ndarray:
        """Slots in use."""
        return np.concatenate((
            np.arange(min(self.seen, self._newest)),
            self._newest + np.arange(min(self.seen, self._slots - self._newest))))

    def sample(self, batch_size: int, rng: np.random.Generator) -> Chunks:
        """Draws chunks uniformly, with replacement, half of them of either kind if so kept."""
        if len(self) == 0:
            raise ValueError("cannot sample from an empty replay")
        if self._keep != "half":
            return self.take(rng.integers(len(self), size=batch_size))
        newest = min(self.seen, self._newest)
        return self.take(np.concatenate((
            rng.integers(newest, size=batch_size - batch_size // 2),
            newest + rng.integers(len(self) - newest, size=batch_size // 2))))

    def take(self, index: np.ndarray) -> Chunks:
        """The chunks at ``index``, below ``len(self)`` [B]."""
        slot = self._held[index]
        columns = {**{name: column[slot] for name, column in self._columns.items()},
                   "state": self._state[slot]}
        tensors = {name: column_to_tensor(column, self.device)
                   for name, column in columns.items()}
        made: Chunks = self.kind(**tensors, head=one_or_each(self._head[slot], self.device))
        return made

    def state_dict(self) -> Tree:
        """What is held, and the chunk that is not full yet."""
        held = self._held
        return {
            "seen": self.seen, "filled": self._filled, "open_head": self._open_head,
            "columns": {name: column[held] for name, column in self._columns.items()},
            "state": self._state[held], "head": self._head[held],
            "open": {name: column.copy() for name, column in self._open.items()},
            "open_state": self._open_state.copy(), "rng": seeding.generator_state(self._rng),
        }

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self.seen, self._filled = tree["seen"], tree["filled"]
        self._open_head = tree["open_head"]
        held = self._held
        for name, column in self._columns.items():
            column[held] = tree["columns"][name]
            self._open[name][:] = tree["open"][name]
        self._state[held], self._head[held] = tree["state"], tree["head"]
        self._open_state[:] = tree["open_state"]
        seeding.restore_generator(self._rng, tree["rng"])
