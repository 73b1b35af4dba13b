"""Dense layers, the trunk of a network and its heads.

Initial weights come from a generator that is passed in: ``torch.nn.Linear`` would draw from the
global one. Kernels are stored [in, out].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FEW_RUNS = 24


class Dense(nn.Module):
    """Affine layer. Uniform(±1/√in) for kernel and bias, PyTorch's default for ``nn.Linear``.

    Args:
        size_in, size_out: Widths.
        generator: Source of the initial weights.
    """

    def __init__(self, size_in: int, size_out: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = 1 / math.sqrt(size_in)
        self.kernel = nn.Parameter(torch.empty(size_in, size_out))
        self.bias = nn.Parameter(torch.empty(size_out))
        with torch.no_grad():
            self.kernel.uniform_(-bound, bound, generator=generator)
            self.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        return F.linear(x, self.kernel.t(), self.bias)


class Trunk(nn.Module):
    """Hidden layers: Dense, then layer normalisation if asked for, then ReLU.

    Args:
        size_in: Width of the input.
        hidden: Width of each hidden layer.
        generator: Source of the initial weights.
        layer_norm: Normalise before each activation.

    Attributes:
        dense: The layers' affine maps; what a method puts in the place of one is called with
            [B, in] and the head.
        activation: None; or what a method put in the place of ReLU, a module a layer, called with
            [B, width] and the head.
    """

    def __init__(self, size_in: int, hidden: Sequence[int], generator: torch.Generator, *,
                 layer_norm: bool = True) -> None:
        super().__init__()
        sizes = (size_in, *hidden)
        self.size_out = sizes[-1]
        self.dense = nn.ModuleList(Dense(a, b, generator) for a, b in pairwise(sizes))
        self.norm = nn.ModuleList(nn.LayerNorm(b) for b in hidden) if layer_norm else None
        self.activation: nn.ModuleList | None = None

    def forward(self, x: Tensor, head: int | Tensor) -> list[Tensor]:
        """[B, in] → the output of every hidden layer, [B, width] each."""
        outs = []
        for i, dense in enumerate(self.dense):
            x = dense(x) if type(dense) is Dense else dense(x, head)
            if self.norm is not None:
                x = self.norm[i](x)
            x = F.relu(x) if self.activation is None else self.activation[i](x, head)
            outs.append(x)
        return outs


class Heads(nn.Module):
    """One output layer per task on a common trunk.

    Each head is a parameter of its own, so a head that a loss does not touch has no gradient and
    no optimiser moves it.
    """

    def __init__(self, size_in: int, size_out: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size_out = size_out
        self.items = nn.ModuleList(Dense(size_in, size_out, generator) for _ in range(heads))

    @torch.no_grad()
    def begin_at_zero(self) -> None:
        """Makes all outputs zero, until something is learned."""
        for parameter in self.parameters():
            parameter.zero_()

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """The output of one head, or of each row's own head ([B] int64): [B, out]."""
        if not isinstance(head, Tensor):
            out: Tensor = self.items[head](x)
            return out
        return by_head(x, head, self.size_out, lambda h, rows: self.items[h](rows))


def by_head(x: Tensor, head: Tensor, size_out: int,
            apply: Callable[[int, Tensor], Tensor]) -> Tensor:
    """What ``apply(head, rows of it)`` gives, row by row: [B, in], heads [B] int64 → [B, out].

    Only the heads that occur are asked: the others must keep having no gradient.
    """
    result = x.new_empty(len(x), size_out)
    for h, rows in rows_by_head(head):
        result[rows] = apply(h, x[rows])
    return result


def rows_by_head(head: int | Tensor) -> list[tuple[int, slice | Tensor]]:
    """The heads of a batch with their rows; every row once, a head perhaps more than once.

    Rows that lie together are a slice, which costs no copy: sort what is used often.
    """
    if not isinstance(head, Tensor):
        return [(head, slice(None))]
    runs, counts = (t.tolist() for t in torch.unique_consecutive(head, return_counts=True))
    if len(runs) > _FEW_RUNS:
        return [(h, (head == h).nonzero().squeeze(1)) for h in sorted(set(runs))]
    ends = list(accumulate(counts))
    return [(h, slice(end - n, end)) for h, end, n in zip(runs, ends, counts, strict=True)]
