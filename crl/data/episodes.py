"""Episodes in memory, end to end in contiguous arrays: what sequence learners draw from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.agent import BoolArray, FloatArray

if TYPE_CHECKING:
    from typing_extensions import Self

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Episodes:
    """N episodes of at least one step, S steps in all.

    Episode i has the steps ``offsets[i]`` to ``offsets[i + 1]``. It has one observation more than
    steps: its step s goes from row s + i of ``obs`` to row s + i + 1.
    """

    obs: FloatArray        # [S + N, obs]
    actions: FloatArray    # [S, act], as given to the environment
    rewards: FloatArray    # [S]
    terminated: BoolArray  # [S]: ended for good
    truncated: BoolArray   # [S]: cut off
    success: BoolArray     # [S], what the environment said after the step
    offsets: IntArray      # [N + 1]
    seeds: IntArray        # [N]; env.reset(seed=…) sets the episode up again; -1: not known

    @classmethod
    def of(cls, lengths: ArrayLike, **columns: ArrayLike) -> Self:
        """Episodes of so many steps each, [N], from anything that makes the other arrays."""
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
        return cls(offsets=offsets, **{name: np.ascontiguousarray(columns[name], kind)
                                       for name, kind in _COLUMNS.items()})

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The episodes of all parts, in order; there must be at least one part."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts])
                   for name in _COLUMNS}
        return cls.of(np.concatenate([part.lengths for part in parts]), **columns)

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def steps(self) -> int:
        """S, the steps of all episodes."""
        return len(self.rewards)

    @property
    def lengths(self) -> IntArray:
        """Steps of each episode, [N]."""
        lengths: IntArray = np.diff(self.offsets)
        return lengths

    @property
    def returns(self) -> NDArray[np.float64]:
        """Sum of rewards of each episode, [N]."""
        return np.add.reduceat(self.rewards, self.offsets[:-1], dtype=np.float64)

    @property
    def successful(self) -> BoolArray:
        """Whether each episode succeeded at any step, [N]."""
        return np.logical_or.reduceat(self.success, self.offsets[:-1])

    @property
    def successful_at_end(self) -> BoolArray:
        """Whether each episode succeeded at its last step, [N]."""
        return self.success[self.offsets[1:] - 1]

    def select(self, indices: Sequence[int] | NDArray[Any]) -> Episodes:
        """The episodes at ``indices``, whole numbers or a mask of N, in that order."""
        index = np.arange(len(self))[indices]
        starts, lengths = self.offsets[:-1][index], self.lengths[index]
        rows = {name: _ranges(starts, lengths) for name in _COLUMNS}
        rows["obs"], rows["seeds"] = _ranges(starts + index, lengths + 1), index
        return Episodes.of(lengths, **{name: getattr(self, name)[rows[name]] for name in rows})

    def fingerprint(self) -> str:
        """A BLAKE2b hash of all arrays: equal for equal episodes, on any machine."""
        digest = hashlib.blake2b(digest_size=16)
        for field in fields(self):
            array = getattr(self, field.name)
            digest.update(f"{field.name}{array.shape}".encode())
            digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        return digest.hexdigest()


_COLUMNS: dict[str, type] = {
    "obs": np.float32, "actions": np.float32, "rewards": np.float32, "terminated": np.bool_,
    "truncated": np.bool_, "success": np.bool_, "seeds": np.int64,
}


def returns_to_go(rewards: FloatArray, offsets: IntArray) -> FloatArray:
    """Sum of the rewards from each step to the end of its episode, [S].

    Args:
        rewards: [S].
        offsets: [N + 1], as of :class:`Episodes`.
    """
    before = np.append(0.0, np.cumsum(rewards, dtype=np.float64))
    ends = np.repeat(before[offsets[1:]], np.diff(offsets))
    to_go: FloatArray = (ends - before[:-1]).astype(np.float32)
    return to_go


def _ranges(starts: IntArray, lengths: IntArray) -> IntArray:
    """The numbers from each start, so many of them, one range after the other."""
    begins = np.cumsum(lengths) - lengths
    rows: IntArray = np.repeat(starts - begins, lengths) + np.arange(lengths.sum())
    return rows
