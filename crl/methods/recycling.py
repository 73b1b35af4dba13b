"""Weights drawn anew, of single units or whole layers, with what the optimiser knew of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from crl.methods.parts import Part
from crl.nn.layers import Dense
from crl.nn.network import Network

REDRAWS = ("kernels", "layers", "activations")
"""What a method claims that draws weights anew: no other may promise to keep them, and their
initial distribution must be the agent's own."""


def initial(layer: nn.Module, generator: torch.Generator) -> list[Tensor]:
    """A new draw of the initial weights of a dense layer or a normalisation, in their order."""
    if isinstance(layer, Dense):
        size_in, size_out = layer.kernel.shape
        fresh: nn.Module = Dense(size_in, size_out, generator)
    else:
        fresh = nn.LayerNorm(cast(nn.LayerNorm, layer).normalized_shape)
    device = next(layer.parameters()).device
    return [p.detach().to(device) for p in fresh.parameters()]


def stack(network: Network, heads: Iterable[int]) -> list[list[nn.Module]]:
    """The layers of a network from input to output: hidden ones, normalisation included; heads."""
    trunk = network.trunk
    hidden = [[dense] if trunk.norm is None else [dense, trunk.norm[i]]
              for i, dense in enumerate(trunk.dense)]
    return [*hidden, [network.heads.items[head] for head in heads]]


@torch.no_grad()
def redraw(part: Part, layers: Iterable[nn.Module], generator: torch.Generator) -> None:
    """Draws layers of a part anew; to the optimiser their parameters are new ones."""
    for layer in layers:
        for parameter, fresh in zip(layer.parameters(), initial(layer, generator), strict=True):
            parameter.copy_(fresh)
            part.optimizer.state.pop(parameter, None)


@torch.no_grad()
def recycle(part: Part, units: Sequence[Tensor], generator: torch.Generator) -> None:
    """Makes units as if new, and unheard: incoming weights drawn anew, outgoing ones zero.

    The optimiser's moments of exactly these entries become zero. Adam's count of steps is one per
    tensor and goes on: without its correction for young moments, the first steps of these entries
    are up to 6.6 times as long as those of new weights.

    Args:
        part: The part.
        units: For each of ``part.layers`` the indices of its units to recycle.
        generator: Source of the draws.
    """
    parameters = part.parameters()

    def write(name: str, index: tuple[Tensor | slice, ...], values: Tensor | float) -> None:
        parameter = parameters[name]
        parameter[index] = values
        for moment in part.optimizer.state.get(parameter, {}).values():
            if isinstance(moment, Tensor):  # not Adam's count of steps
                moment[index] = 0.0

    chosen = [(layer, index) for layer, index in zip(part.layers, units, strict=True)
              if len(index) > 0]
    for layer, index in chosen:
        kernel = parameters[layer.kernel]
        fresh = Dense(len(kernel), len(index), generator).to(kernel.device)
        bias, *norm = layer.vectors
        write(layer.kernel, (slice(None), index), fresh.kernel)
        write(bias, (index,), fresh.bias)
        for name, value in zip(norm, (1.0, 0.0), strict=False):
            write(name, (index,), value)
    for layer, index in chosen:  # afterwards: a draw of the next layer must not speak for them
        for name in layer.outgoing:
            write(name, (index,), 0.0)
