"""Observations brought to mean 0 and variance 1, task by task."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crl.checkpoint import Tree

_LEAST_STD = 1e-3  # of a coordinate that hardly moves; what never moved is only centred
_LARGEST = 10.0
_LEAST_SHARE = 1e-6


def scale(obs: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """(obs − shift) · factor, clipped to ±10."""
    return ((obs - shift) * factor).clamp(-_LARGEST, _LARGEST)


class ObservationScaling:
    """(obs − mean) / std with running moments of each head's own observations.

    A head's moments stay when its task is over, so that what its policy does stays too. One set of
    moments for all tasks, as is common, goes on moving under the old policies.

    Args:
        heads: The number of heads.
        size: Width of an observation.
        device: Where scaled observations are.
    """

    def __init__(self, heads: int, size: int, device: str = "cpu") -> None:
        self._count = np.zeros(heads)
        self._mean = np.zeros((heads, size))
        self._squares = np.zeros((heads, size))  # Σ (obs − mean)²
        self._device = device
        self._shift = torch.zeros(heads, size, device=device)
        self._factor = torch.ones(heads, size, device=device)

    def see(self, obs: NDArray[np.float32], head: int) -> None:
        """Takes one observation [size] into a head's moments (Welford 1962)."""
        self._count[head] += 1
        before = obs - self._mean[head]
        self._mean[head] += before / self._count[head]
        self._squares[head] += before * (obs - self._mean[head])
        self._refresh(head)

    def __call__(self, obs: Tensor, head: int | Tensor) -> Tensor:
        """[B, …, size] and one head or a head per row → [B, …, size]; see :func:`scale`."""
        shift, factor = self._shift[head], self._factor[head]
        if isinstance(head, Tensor):
            between = (1,) * (obs.dim() - 2)
            shift, factor = (t.view(len(head), *between, -1) for t in (shift, factor))
        return scale(obs, shift, factor)

    def cpu(self) -> ObservationScaling:
        """Itself, which from now on scales on the CPU, as of modules."""
        self._device = "cpu"
        self._shift, self._factor = self._shift.cpu(), self._factor.cpu()
        return self

    def of(self, head: int) -> tuple[Tensor, Tensor]:
        """A head's shift and factor as they are now, [size] each, on the CPU."""
        return self._shift[head].cpu().clone(), self._factor[head].cpu().clone()

    def _refresh(self, head: int) -> None:
        std = np.sqrt(self._squares[head] / self._count[head])
        factor = np.where(std > 0, 1 / np.maximum(std, _LEAST_STD), 1.0)
        self._shift[head] = torch.from_numpy(self._mean[head].astype(np.float32))
        self._factor[head] = torch.from_numpy(factor.astype(np.float32))

    def state_dict(self) -> Tree:
        return {"count": self._count.copy(), "mean": self._mean.copy(),
                "squares": self._squares.copy()}

    def load_state_dict(self, tree: Tree) -> None:
        self._count, self._mean, self._squares = (
            np.array(tree[name]) for name in ("count", "mean", "squares"))
        for head in np.flatnonzero(self._count):
            self._refresh(int(head))


class Standardizer:
    """Vectors brought to mean 0 and variance 1 and back, by moments of each head's own data.

    Unlike :class:`ObservationScaling` it is fitted when asked, and to all data at once: what learns
    from scaled numbers and gives them back must not have them change in between.

    Args:
        heads: The number of heads.
        size: Width of a vector.
        device: Where scaled vectors are.

    Attributes:
        shift, factor: [heads, size]; scaled is (x − shift) · factor.
    """

    def __init__(self, heads: int, size: int, device: str = "cpu") -> None:
        self.shift = torch.zeros(heads, size, device=device)
        self.factor = torch.ones(heads, size, device=device)

    def fit(self, values: Tensor, head: int) -> None:
        """Takes the moments of values [n, size]; what never moves is only centred."""
        std, mean = torch.std_mean(values.double(), 0, correction=0)
        moves = std > _LEAST_SHARE * (1e-3 + mean.abs())  # float32 tells no smaller change apart
        self.shift[head] = mean.float()
        self.factor[head] = torch.where(moves, 1 / std, 1).float()

    def __call__(self, values: Tensor, head: int | Tensor) -> Tensor:
        """[B, size] and one head or a head per row → [B, size]."""
        return (values - self.shift[head]) * self.factor[head]

    def of(self, head: int) -> tuple[Tensor, Tensor]:
        """A head's shift and factor as they are now, [size] each, on the CPU."""
        return self.shift[head].cpu().clone(), self.factor[head].cpu().clone()

    def state_dict(self) -> Tree:
        return {"shift": self.shift.cpu().numpy().copy(),
                "factor": self.factor.cpu().numpy().copy()}

    def load_state_dict(self, tree: Tree) -> None:
        for mine, name in ((self.shift, "shift"), (self.factor, "factor")):
            mine.copy_(torch.from_numpy(np.array(tree[name])))
