"""A uniform sample of a stream of transitions whose length is not known.

Vitter 1985, "Random Sampling with a Reservoir", algorithm R.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Batch, Samples


class Reservoir:
    """At any time every transition seen so far is equally likely to be among those kept.

    The n-th transition is kept with probability capacity / n, in the place of any of the others.

    Args:
        capacity: Transitions kept.
        kind: Of the samples.
        device: Where they are kept.

    Attributes:
        seen: Transitions that went by.
    """

    def __init__(self, capacity: int, kind: type[Samples] = Batch,
                 device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self.seen = 0
        self._kind, self._device = kind, device
        self._columns: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return min(self.seen, self.capacity)

    def extend(self, batch: Samples, rng: np.random.Generator) -> None:
        """Lets the transitions of a batch go by, one after the other."""
        columns = batch.columns()
        self._allocate(columns)
        number = np.arange(self.seen, self.seen + len(batch.obs))
        place = np.where(number < self.capacity, number, rng.integers(number + 1))
        newest = np.full(self.capacity, -1)
        taken = place < self.capacity
        newest[place[taken]] = np.flatnonzero(taken)  # of equal places the last one stays
        places = torch.from_numpy(np.flatnonzero(newest >= 0)).to(self._device)
        rows = torch.from_numpy(newest[newest >= 0]).to(self._device)
        for name, column in columns.items():
            self._columns[name][places] = column[rows]
        self.seen += len(batch.obs)

    def sample(self, count: int, rng: np.random.Generator) -> Samples:
        """Draws transitions with replacement."""
        rows = torch.from_numpy(rng.integers(len(self), size=count)).to(self._device)
        return self._kind(**self._columns).rows(rows)

    def state_dict(self) -> Tree:
        kept = {name: column[: len(self)] for name, column in self._columns.items()}
        return {"seen": self.seen, "columns": tensors_to_tree(kept)}

    def load_state_dict(self, tree: Tree) -> None:
        self.seen = tree["seen"]
        kept = tree_to_tensors(tree["columns"], self._device)
        self._columns = {}
        self._allocate(kept)
        for name, column in kept.items():
            self._columns[name][: len(self)] = column

    def _allocate(self, like: dict[str, Tensor]) -> None:
        # torch.empty: the pages of a large reservoir are only taken as they are written.
        for name, column in like.items():
            if name not in self._columns:
                self._columns[name] = torch.empty((self.capacity, *column.shape[1:]),
                                                  dtype=column.dtype, device=self._device)
