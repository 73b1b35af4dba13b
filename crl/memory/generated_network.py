"""Networks whose weights a hypernetwork gives: what stands in the place of trunk and heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.memory.hypernetwork import Hypernetwork
from crl.nn.layers import by_head, rows_by_head
from crl.nn.network import TapePass


class GeneratedNetwork(nn.Module):
    """A multilayer perceptron of each task's own, called like a :class:`~crl.nn.network.Network`.

    Layer normalisation, where asked for, has no scale and shift.

    Args:
        size_in, size_out: Widths.
        hidden: Width of each hidden layer.
        heads: The number of tasks.
        generator: Source of the initial weights.
        layer_norm: Normalise before each activation.
        config: The hypernetwork's options.
    """

    def __init__(self, size_in: int, size_out: int, hidden: Sequence[int], heads: int,
                 generator: torch.Generator, *, layer_norm: bool = True,
                 config: Hypernetwork.Config) -> None:
        super().__init__()
        self.hypernetwork = Hypernetwork((size_in, *hidden, size_out), heads, config, generator)
        self._layer_norm = layer_norm
        self._kept: dict[int, tuple[tuple[int, ...], list[Tensor]]] = {}

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """[B, in], one head or a head per row ([B] int64) → [B, out]."""
        tasks = sorted({h for h, _ in rows_by_head(head)})
        weights = self.weights(tasks)

        def own(h: int, rows: Tensor) -> Tensor:
            return perceptron(rows, [w[tasks.index(h)] for w in weights], self._layer_norm)

        if not isinstance(head, Tensor):
            return own(head, x)
        return by_head(x, head, weights[-1].shape[-1], own)

    def weights(self, tasks: Sequence[int]) -> list[Tensor]:
        """As :meth:`Hypernetwork.weights`; those of one task are kept while nothing learns."""
        if torch.is_grad_enabled() or len(tasks) > 1:
            return self.hypernetwork.weights(tasks)
        version = tuple(p._version for p in self.hypernetwork.parameters())
        kept = self._kept.get(tasks[0])
        if kept is None or kept[0] != version:
            kept = self._kept[tasks[0]] = version, self.hypernetwork.weights(tasks)
        return kept[1]

    def trace(self, x: Tensor, head: int | Tensor) -> tuple[list[Tensor], Tensor]:
        """No hidden layer, since no method may look into it, and the output."""
        return [], self(x, head)

    def run(self, x: Tensor, head: int | Tensor) -> TapePass:
        """What ``forward`` gives, outside autograd, ready to be differentiated."""
        return TapePass(self, x, head)

    @torch.no_grad()
    def of_head(self, head: int) -> Perceptron:
        """The network of one task, on its own."""
        return Perceptron([w[0] for w in self.hypernetwork.weights([head])], self._layer_norm)


class Perceptron(nn.Module):
    """What a hypernetwork gave for a task, frozen."""

    def __init__(self, weights: Sequence[Tensor], layer_norm: bool) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self.weights = nn.ParameterList(nn.Parameter(w.clone(), requires_grad=False)
                                        for w in weights)

    def forward(self, x: Tensor, head: int) -> Tensor:
        """[B, in] → [B, out]; of one head only."""
        return perceptron(x, list(self.weights), self.layer_norm)


def perceptron(x: Tensor, weights: Sequence[Tensor], layer_norm: bool) -> Tensor:
    """[B, in] → [B, out], given kernel and bias of each layer; ReLU between them."""
    for i in range(0, len(weights), 2):
        if i > 0:
            if layer_norm:
                x = F.layer_norm(x, x.shape[-1:])
            x = F.relu(x)
        x = torch.addmm(weights[i + 1], x, weights[i])
    return x
