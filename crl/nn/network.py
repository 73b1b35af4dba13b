"""A trunk with a head per task, and its gradient written by hand.

At the widths of control, autograd's bookkeeping costs as much as the arithmetic. A :class:`Pass`
does without: it keeps what the backward pass needs and runs it when asked, each product by the
faster library (``crl.nn.products``). Autograd works as well, through ``forward``; the tests hold
one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from crl.nn.layers import Dense, Heads, Trunk, rows_by_head
from crl.nn.products import affine, input_gradient, kernel_gradient


class Network(nn.Module):
    """Hidden layers that all tasks share, and one linear output layer per task.

    Args:
        size_in, size_out: Widths.
        hidden: Width of each hidden layer.
        heads: The number of tasks.
        generator: Source of the initial weights.
        layer_norm: Normalise before each activation.
        bf16: Passes multiply the matrices of hidden layers in bfloat16; weights, sums,
            normalisation and the head stay float32.

    Attributes:
        input: None; or what a method put in front, a module called with [B, in] and the head.
    """

    def __init__(self, size_in: int, size_out: int, hidden: Sequence[int], heads: int,
                 generator: torch.Generator, *, layer_norm: bool = True, bf16: bool = False
                 ) -> None:
        super().__init__()
        self.input: nn.Module | None = None
        self.trunk = Trunk(size_in, hidden, generator, layer_norm=layer_norm)
        self.heads = Heads(self.trunk.size_out, size_out, heads, generator)
        self.bf16 = bf16

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """[B, in], one head or a head per row ([B] int64) → [B, out]."""
        return self.trace(x, head)[1]

    def trace(self, x: Tensor, head: int | Tensor) -> tuple[list[Tensor], Tensor]:
        """The output of every hidden layer, [B, width] each, and the output."""
        hidden = self.features(x, head)
        return hidden, self.heads(hidden[-1], head)

    def features(self, x: Tensor, head: int | Tensor) -> list[Tensor]:
        """The output of every hidden layer, [B, width] each."""
        if self.input is not None:
            x = self.input(x, head)
        outs: list[Tensor] = self.trunk(x, head)
        return outs

    @property
    def plain(self) -> bool:
        """Whether no method has changed its form."""
        return (self.input is None and self.trunk.activation is None
                and all(type(dense) is Dense for dense in self.trunk.dense))

    def run(self, x: Tensor, head: int | Tensor) -> Pass | TapePass:
        """What ``forward`` gives, outside autograd and faster, ready to be differentiated."""
        return Pass(self, x, head) if self.plain else TapePass(self, x, head)


_ALL = slice(None)


class _Layer(NamedTuple):
    """What the backward pass of one hidden layer needs."""

    dense: Dense
    kernel: Tensor              # as multiplied: in bfloat16 if so asked
    x: Tensor                   # [B, in], likewise
    out: Tensor                 # [B, out], after ReLU
    norm: nn.LayerNorm | None
    moments: tuple[Tensor, ...]  # with normalisation: its input [B, out], mean and 1/std [B, 1]


class Pass:
    """One forward pass of a :class:`Network` and, when asked for, its backward passes.

    Different rows may be asked for different things: one pass over two batches costs less than two
    passes.

    Args:
        network: The network.
        x: [B, in].
        head: One head, or a head per row ([B] int64).

    Attributes:
        out: [B, out].
        hidden: The output of every hidden layer, [B, width] each.
    """

    @torch.no_grad()
    def __init__(self, network: Network, x: Tensor, head: int | Tensor) -> None:
        trunk = network.trunk
        self._heads, self._head = cast(Sequence[Dense], network.heads.items), head
        self._bf16 = network.bf16
        self._layers: list[_Layer] = []
        norms = trunk.norm or [None] * len(trunk.dense)
        layers = zip(trunk.dense, norms, strict=True)
        for dense, norm in cast(Iterable[tuple[Dense, nn.LayerNorm | None]], layers):
            kernel: Tensor = dense.kernel
            bias: Tensor = dense.bias
            if self._bf16:
                kernel, bias, x = kernel.bfloat16(), bias.bfloat16(), x.bfloat16()
            moments: tuple[Tensor, ...] = ()
            if norm is None:
                out = affine(x, kernel, bias, relu=True)
            else:
                y = self._wide(affine(x, kernel, bias))
                out, mean, rstd = torch.native_layer_norm(
                    y, list(norm.normalized_shape), norm.weight, norm.bias, norm.eps)
                out, moments = out.relu_(), (y, mean, rstd)
            self._layers.append(_Layer(dense, kernel, x, out, norm, moments))
            x = out
        self._features = self._wide(x)
        self.out: Tensor = network.heads(self._features, head)

    @property
    def hidden(self) -> list[Tensor]:
        return [self._wide(layer.out) for layer in self._layers]

    @torch.no_grad()
    def to_weights(self, gradient: Tensor, rows: slice = _ALL) -> None:
        """Adds to every ``.grad`` of the network what a gradient at ``out[rows]`` leads to."""
        self._backward(gradient, rows, weights=True, inputs=False)

    @torch.no_grad()
    def to_inputs(self, gradient: Tensor, rows: slice = _ALL) -> Tensor:
        """The gradient at ``x[rows]`` that a gradient at ``out[rows]`` leads to."""
        return self._wide(self._backward(gradient, rows, weights=False, inputs=True))

    def _backward(self, at_out: Tensor, rows: slice, weights: bool, inputs: bool) -> Tensor:
        gradient = self._through_heads(at_out, rows, weights)
        for i in reversed(range(len(self._layers))):
            dense, kernel, x, out, norm, moments = self._layers[i]
            if self._bf16 and norm is None:
                gradient = gradient.bfloat16()
            gradient = torch.ops.aten.threshold_backward(gradient, out[rows], 0)
            if norm is not None:
                y, mean, rstd = (t[rows] for t in moments)
                gradient, scale, shift = torch.ops.aten.native_layer_norm_backward(
                    gradient, y, norm.normalized_shape, mean, rstd, norm.weight, norm.bias,
                    [True, weights, weights])
                if weights:
                    add_gradient(norm.weight, scale)
                    add_gradient(norm.bias, shift)
            if weights:
                add_gradient(dense.bias, self._wide(gradient).sum(0))
            if self._bf16:
                gradient = gradient.bfloat16()
            if weights:
                add_gradient(dense.kernel, self._wide(kernel_gradient(x[rows], gradient)))
            if i > 0 or inputs:
                gradient = input_gradient(gradient, kernel)
                if norm is not None:
                    gradient = self._wide(gradient)
        return gradient

    def _wide(self, x: Tensor) -> Tensor:
        """In float32, what was computed in bfloat16."""
        return x.float() if self._bf16 else x

    def _through_heads(self, at_out: Tensor, rows: slice, weights: bool) -> Tensor:
        features = self._features[rows]
        gradient = torch.empty_like(features)
        head = self._head[rows] if isinstance(self._head, Tensor) else self._head
        for h, members in rows_by_head(head):
            dense, at_members = self._heads[h], at_out[members]
            gradient[members] = at_members @ dense.kernel.t()
            if weights:
                add_gradient(dense.kernel, features[members].t() @ at_members)
                add_gradient(dense.bias, at_members.sum(0))
        return gradient


class TapePass:
    """A :class:`Pass` of a network of any form, by autograd.

    Args:
        network: A module with a ``trace`` as of :class:`Network`.
        x, head: As of a :class:`Pass`.
    """

    def __init__(self, network: Any, x: Tensor, head: int | Tensor) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            hidden, self._out = network.trace(self._x, head)
        self._weights = [p for p in network.parameters() if p.requires_grad]
        self.hidden: list[Tensor] = [h.detach() for h in hidden]
        self.out: Tensor = self._out.detach()

    @torch.enable_grad()  # agents call from within no_grad, where a slice has no history
    def to_weights(self, gradient: Tensor, rows: slice = _ALL) -> None:
        torch.autograd.backward(self._out[rows], gradient, inputs=self._weights, retain_graph=True)

    @torch.enable_grad()
    def to_inputs(self, gradient: Tensor, rows: slice = _ALL) -> Tensor:
        (at_x,) = torch.autograd.grad(self._out[rows], self._x, gradient, retain_graph=True)
        return at_x[rows]


def add_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Adds to ``parameter.grad``, which may be None."""
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient
