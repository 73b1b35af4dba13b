"""Which slot of a pool of modulators fits what is seen, without being told the task.

Schmied et al. 2023, "Learning to Modulate pre-trained Models in RL": slots have keys, and what is
seen is the query. A selector knows states, vectors of one width, and numbers of slots.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from crl.checkpoint import Tree
from crl.config import require
from crl.errors import unknown
from crl.nn.state import tensors_to_tree, tree_to_tensors

_PARTS = 10   # of a task's states, each of which is held out once
_ROUNDS = 50  # of k-means, at most
_LEAST_FREQUENCY = 1e-6


class Selector(ABC):
    """States → slots. Each state is looked at by itself, whatever else is in the batch.

    Bring states to mean 0 and variance 1 first, by moments that stay, as those of pre-training do:
    of raw ones, what is large hides what differs.

    Args:
        size: Width of a state.
        generator: Source of all draws.
    """

    learned: ClassVar[tuple[str, ...]]
    """Names of the tensors that :meth:`fit` changes."""

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self.size = size
        self._generator = generator

    @abstractmethod
    def fit(self, states: Tensor, slot: int) -> None:
        """Learns that states [N, size] are those of a slot, besides what it knows of it."""

    @abstractmethod
    def select(self, states: Tensor) -> Tensor:
        """States [B, size] → slots [B] int64; 0, the identity, where nothing is known."""

    def state_dict(self) -> Tree:
        return tensors_to_tree({name: getattr(self, name) for name in self.learned})

    def load_state_dict(self, tree: Tree) -> None:
        for name, tensor in tree_to_tensors(tree).items():
            setattr(self, name, tensor)


class Oracle(Selector):
    """The task's own slot, which it must be told: the one that it was fitted to last.

    Attributes:
        slot: That slot, [1] int64.
    """

    learned = ("slot",)

    def __init__(self, size: int, generator: torch.Generator) -> None:
        super().__init__(size, generator)
        self.slot = torch.tensor([0])

    def fit(self, states: Tensor, slot: int) -> None:
        self.slot = torch.tensor([slot])

    def select(self, states: Tensor) -> Tensor:
        return self.slot.repeat(len(states))


class Cosine(Selector):
    """The published rule: a key for each slot; the one whose cosine with the state is largest.

    A key is the mean direction of its states, which is where gradient ascent on their cosines with
    it ends. Keys that no states were fitted to are random and never selected; so is that of slot 0,
    unless it is fitted.

    Args:
        size, generator: As of :class:`Selector`.
        slots: How many there are besides the identity.
        count_penalty: Whether :meth:`allocate` prefers slots that were trained less.

    Attributes:
        keys: [slots + 1, size], of any length.
        counts: States that were fitted to each, [slots + 1] int64.
    """

    learned = ("keys", "counts")

    def __init__(self, size: int, generator: torch.Generator, slots: int = 30,
                 count_penalty: bool = True) -> None:
        super().__init__(size, generator)
        self._count_penalty = count_penalty
        self.keys = torch.randn(slots + 1, size, generator=generator)
        self.counts = torch.zeros(slots + 1, dtype=torch.int64)

    def allocate(self, states: Tensor) -> int:
        """The slot above 0 that a new task with states [N, size] should train.

        The score of a slot is the mean of (cosine + 1)/2, times its share of all
        1/(frequency + 10⁻⁶): in effect it is the unused slot whose key lies nearest.
        """
        score = (self._cosines(states).mean(0) + 1) / 2
        if self._count_penalty:
            frequency = self.counts / self.counts.sum().clamp(min=1)
            score = score * F.normalize(1 / (frequency + _LEAST_FREQUENCY), p=1, dim=0)
        return 1 + int(score[1:].argmax())

    def fit(self, states: Tensor, slot: int) -> None:
        require(0 <= slot < len(self.keys), f"there are keys of slots 0 to {len(self.keys) - 1}, "
                f"not of {slot}; give the selector more slots")
        before = self.keys[slot] if self.counts[slot] > 0 else 0
        self.keys[slot] = before + F.normalize(states, dim=1).sum(0)
        self.counts[slot] += len(states)

    def select(self, states: Tensor) -> Tensor:
        fitted = self.counts > 0
        nearest = self._cosines(states).masked_fill(~fitted, -2).argmax(1)  # below any cosine
        return torch.where(fitted.any(), nearest, 0)

    def _cosines(self, states: Tensor) -> Tensor:
        """With each key, [B, slots + 1]: of unit vectors, 1 − |a − b|²/2."""
        apart = distances(F.normalize(states, dim=1), F.normalize(self.keys, dim=1))
        return 1 - apart.square() / 2


class Prototypes(Selector):
    """A few prototypes for each task; the slot of the nearest one, or 0 if none is near.

    A slot may have those of several tasks: those of all tasks of pre-training lead to slot 0.

    Args:
        size, generator: As of :class:`Selector`.
        count: Prototypes of each :meth:`fit`, by k-means++ (Arthur and Vassilvitskii 2007).
        reject: Share of a task's own states that may be taken for no task's. What is near is what
            such a share of its states is not, each tenth held out in turn; so give them episode by
            episode. None: all states are near.

    Attributes:
        prototypes: [K, size].
        slots: Of each, [K] int64.
        radii: How far from each is near, [K].
    """

    learned = ("prototypes", "slots", "radii")

    def __init__(self, size: int, generator: torch.Generator, count: int = 3,
                 reject: float | None = 0.01) -> None:
        super().__init__(size, generator)
        require(count > 0, f"count must be above 0, got {count}")
        require(reject is None or 0 <= reject < 1,
                f"reject must be from 0 to below 1, or None, got {reject}")
        self._count = count
        self._reject = reject
        self.prototypes = torch.empty(0, size)
        self.slots = torch.empty(0, dtype=torch.int64)
        self.radii = torch.empty(0)

    def fit(self, states: Tensor, slot: int) -> None:
        require(len(states) > 1, f"slot {slot} needs two states or more, got {len(states)}")
        radius = torch.tensor(torch.inf)
        if self._reject is not None:
            away = held_out_distances(states, self._count, self._generator)
            radius = away.quantile(1 - self._reject, interpolation="higher")
        found = k_means(states, self._count, self._generator)
        self.prototypes = torch.cat((self.prototypes, found))
        self.slots = torch.cat((self.slots, torch.full((len(found),), slot)))
        self.radii = torch.cat((self.radii, radius.repeat(len(found))))

    def select(self, states: Tensor) -> Tensor:
        if len(self.slots) == 0:
            return torch.zeros(len(states), dtype=torch.int64)
        away, nearest = distances(states, self.prototypes).min(1)
        return torch.where(away <= self.radii[nearest], self.slots[nearest], 0)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """|x − y| of each pair, [N, d] and [K, d] → [N, K]; each the same whatever the others are."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def k_means(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centres [count, d] of points [N, d]; fewer of them if there are fewer different points.

    A centre begins at a point drawn in proportion to its squared distance from those before, and
    moves to the mean of the points that are nearest to it until none does (Lloyd 1982).
    """
    centres = x[torch.randint(len(x), (1,), generator=generator)]
    while len(centres) < count:
        squares = distances(x, centres).amin(1).square()
        if not squares.any():
            break
        centres = torch.cat((centres, x[torch.multinomial(squares, 1, generator=generator)]))
    for _ in range(_ROUNDS):
        members = F.one_hot(distances(x, centres).argmin(1), len(centres)).to(x).t()
        counts = members.sum(1, keepdim=True)
        moved = torch.where(counts > 0, members @ x / counts.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres


def held_out_distances(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """How far each of N points lies from the nearest centre of others, tenth by tenth: [N]."""
    parts = x.tensor_split(min(_PARTS, len(x)))
    centres = (k_means(torch.cat(parts[:i] + parts[i + 1:]), count, generator)
               for i in range(len(parts)))
    return torch.cat([distances(part, c).amin(1) for part, c in zip(parts, centres, strict=True)])


_KINDS: dict[str, type[Selector]] = {"oracle": Oracle, "cosine": Cosine, "prototypes": Prototypes}


def make_selector(name: str, size: int, generator: torch.Generator, **options: Any) -> Selector:
    """A selector by name, ``"oracle"``, ``"cosine"`` or ``"prototypes"``, with options of its own.

    Raises:
        UserError: There is none of this name, or an option is out of range.
    """
    if name not in _KINDS:
        raise unknown("selector", name, _KINDS)
    return _KINDS[name](size, generator, **options)
