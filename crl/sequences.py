"""Replay of sequences: pieces of episodes, with what a memory held where each begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.replay import Samples, column_to_tensor, one_or_each


@dataclass(frozen=True)
class Sequences(Samples):
    """B pieces of L + 1 consecutive rows, with L steps between them.

    A row is an observation and what led to it. ``usable[:, t]`` says of the step from row t to row
    t + 1 whether to learn from it: not if another episode begins at t + 1, if nothing is recorded
    there yet, or if it is only there to burn the memory in.
    """

    seen = ("obs", "action", "first", "state", "usable")

    obs: Tensor      # [B, L + 1, obs]
    action: Tensor   # [B, L + 1, act], the one before; zero at the start of an episode
    reward: Tensor   # [B, L + 1], of the step before
    ended: Tensor    # [B, L + 1] bool: the episode ended here for good
    first: Tensor    # [B, L + 1] bool: an episode begins here
    usable: Tensor   # [B, L] bool
    state: Tensor    # [B, state]: the memory's before the first row
    head: Tensor | int

    def returns(self, n_step: int, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
        """n-step returns of every step, cut at the end of an episode and of the piece.

        Returns:
            Σ γᵏ r over the steps taken, the row after the last of them, and γⁿ, or 0 if the episode
            ended there for good; [B, L] each.
        """
        size, length = self.usable.shape
        end = torch.arange(1, length + 1, device=self.obs.device).expand(size, -1)
        reward = self.reward[:, 1:]
        discount = torch.full_like(reward, gamma)
        for _ in range(n_step - 1):
            following = (end + 1).clamp(max=length)
            going = (end < length) & self.usable.gather(1, (following - 1))
            reward = reward + torch.where(going, discount * self.reward.gather(1, following), 0)
            discount = torch.where(going, discount * gamma, discount)
            end = torch.where(going, following, end)
        return reward, end, torch.where(self.ended.gather(1, end), 0, discount)


class SequenceReplay:
    """First in, first out; pieces begin at the start of an episode and at fixed distances from it.

    Every step of an episode is in exactly one piece of its own episode, as one to learn from. A
    piece that is longer than what is left of its episode goes on into the next one.

    Args:
        capacity: Rows kept: steps, and one more for each episode.
        obs_size, action_size, state_size: Widths of the vectors.
        length: L, steps of a piece.
        burn_in: Steps at the start of a piece that are not learned from, if it begins inside an
            episode: they take the stored state, which older weights gave, to what these give.
        device: Where batches go.

    Steps of one environment must arrive in order.
    """

    kind: type[Any] = Sequences

    def __init__(self, capacity: int, obs_size: int, action_size: int, state_size: int, *,
                 length: int, burn_in: int = 0, device: str = "cpu") -> None:
        self.capacity, self.length, self.burn_in, self.device = capacity, length, burn_in, device
        self._stride = length - burn_in
        self._columns = {
            # np.empty: the pages of a large buffer are only taken as they are written.
            "obs": np.empty((capacity, obs_size), np.float32),
            "action": np.empty((capacity, action_size), np.float32),
            "reward": np.empty(capacity, np.float32),
            "ended": np.empty(capacity, np.bool_),
            "first": np.empty(capacity, np.bool_),
            "head": np.empty(capacity, np.int64),
            **self._more_columns(),
        }
        # Pieces by number, oldest first. At most every second row begins one, if they are so long.
        pieces = capacity // min(self._stride, 2) + 1
        self._piece_row = np.empty(pieces, np.int64)
        self._piece_state = np.empty((pieces, state_size), np.float32)
        self.clear()

    def __len__(self) -> int:
        """Pieces held."""
        return self._pieces - self._oldest

    def clear(self) -> None:
        """Forgets everything."""
        self._rows = 0     # ever written; row i lies at i % capacity
        self._pieces = 0   # ever begun, likewise
        self._oldest = 0   # number of the oldest piece whose rows are all here still
        self._in_episode = 0
        # Of the piece that has begun but only burns in so far: row and state, and the step of the
        # episode from which it is learned from. Never saved, since saves fall between episodes.
        self._begun = 0, np.zeros(0, np.float32)
        self._learned_from = 0

    def _more_columns(self) -> dict[str, np.ndarray]:
        """Columns besides those of :class:`Sequences`, zero where nothing else is written."""
        return {}

    def add(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray, *,
            terminated: bool, first: bool, head: int, state: np.ndarray) -> None:
        """Stores one step of the environment.

        Args:
            obs, next_obs: [obs].
            action: [act], scaled to [-1, 1].
            reward: Of this step.
            terminated: Whether the episode ended here for good.
            first: Whether ``obs`` was the first of an episode.
            head: Head of the task that the step is from.
            state: The memory's before ``obs``, [state].
        """
        if first:
            self._write(obs, np.zeros_like(action), 0.0, False, True, head)
            self._in_episode = 0
        self._begin_piece(state)
        self._write(next_obs, action, reward, terminated, False, head)
        self._in_episode += 1

    def _begin_piece(self, state: np.ndarray) -> None:
        """Called with the newest row that a step goes out from: a piece may begin there."""
        if self._in_episode % self._stride == 0:
            self._begun = self._rows - 1, state
            self._learned_from = self._in_episode + (self.burn_in if self._in_episode else 0)
        if self._in_episode == self._learned_from:  # now it has something to learn from
            self._add_piece(*self._begun)

    def _add_piece(self, row: int, state: np.ndarray) -> None:
        slot = self._pieces % len(self._piece_row)
        self._piece_row[slot], self._piece_state[slot] = row, state
        self._pieces += 1

    def _write(self, obs: np.ndarray, action: np.ndarray, reward: float, ended: bool, first: bool,
               head: int) -> None:
        i, columns = self._rows % self.capacity, self._columns
        row = {"obs": obs, "action": action, "reward": reward, "ended": ended, "first": first,
               "head": head}
        for name, column in columns.items():
            column[i] = row.get(name, 0)
        self._rows += 1
        gone = self._rows - self.capacity
        while self._oldest < self._pieces and self._row_of(self._oldest) < gone:
            self._oldest += 1

    def _row_of(self, piece: int) -> int:
        return int(self._piece_row[piece % len(self._piece_row)])

    def sample(self, batch_size: int, rng: np.random.Generator) -> Sequences:
        """Draws rows uniformly, with replacement; the pieces that they are in.

        Pieces drawn uniformly would show the steps of short episodes more often: each begins a
        piece, which goes on into those that follow.
        """
        if len(self) == 0:
            raise ValueError("cannot sample from an empty replay")
        starts = self._piece_row[np.arange(self._oldest, self._pieces) % len(self._piece_row)]
        row = rng.integers(starts[0], self._rows, size=batch_size)
        return self.take(np.searchsorted(starts, row, side="right") - 1)

    def take(self, start: np.ndarray) -> Sequences:
        """The pieces at ``start``, indices below ``len(self)`` [B], oldest first."""
        slot = (self._oldest + start) % len(self._piece_row)
        row = self._piece_row[slot][:, None] + np.arange(self.length + 1)
        recorded = row < self._rows
        at = np.where(recorded, row, self._rows - 1) % self.capacity
        found = {name: column[at] for name, column in self._columns.items()}
        head = found["head"][:, 0]
        usable = recorded[:, 1:] & ~found["first"][:, 1:] & (found["head"][:, 1:] == head[:, None])
        usable[:, :self.burn_in] &= found["first"][:, :1]
        columns = {**found, "state": self._piece_state[slot], "usable": usable}
        tensors = {name: column_to_tensor(column, self.device)
                   for name, column in columns.items() if name != "head"}
        made: Sequences = self.kind(**tensors, head=one_or_each(head, self.device))
        return made

    def state_dict(self) -> Tree:
        """What is held, in storage order."""
        rows = min(self._rows, self.capacity)
        pieces = np.arange(self._oldest, self._pieces) % len(self._piece_row)
        return {
            "rows": self._rows, "pieces": self._pieces, "oldest": self._oldest,
            "in_episode": self._in_episode,
            "columns": {name: column[:rows] for name, column in self._columns.items()},
            "piece_row": self._piece_row[pieces], "piece_state": self._piece_state[pieces],
        }

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        self._rows, self._pieces, self._oldest = tree["rows"], tree["pieces"], tree["oldest"]
        self._in_episode = tree["in_episode"]
        for name, column in self._columns.items():
            column[: len(tree["columns"][name])] = tree["columns"][name]
        pieces = np.arange(self._oldest, self._pieces) % len(self._piece_row)
        self._piece_row[pieces], self._piece_state[pieces] = tree["piece_row"], tree["piece_state"]
