"""Part: a network, or several, that methods may protect, as an agent shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crl import config
from crl.errors import UserError
from crl.nn.network import Network
from crl.replay import Samples

Parameters = dict[str, Tensor]
"""A part's parameters by name, as in ``module.named_parameters()``."""

_HEAD = re.compile(r"(?:^|\.)heads\.items\.(\d+)\.")


class Gaussian(NamedTuple):
    """Independent normal outputs: ``mean`` and ``std`` of shape [B, outputs]."""

    mean: Tensor
    std: Tensor


class HiddenLayer(NamedTuple):
    """One hidden layer of a part: the names of the parameters that touch its units."""

    kernel: str                # [in, units]
    vectors: tuple[str, ...]   # [units] each: the bias; scale and shift of a normalisation
    outgoing: tuple[str, ...]  # [units, out] each: the next layer's kernel, or that of every head
    norm: tuple[str, ...]      # those of ``vectors`` that are a normalisation's: scale, shift


@dataclass
class Part:
    """A network, or several of one role, that methods may protect.

    Attributes:
        name: ``"actor"``, ``"critic"`` …
        module: Holds every parameter of the part.
        optimizer: Steps exactly the parameters of ``module``.
        outputs: ``outputs(batch, parameters=None)``: what the part says about a batch, with other
            parameters if given: a :class:`Gaussian`, or point predictions [B, outputs].
        gaussian: Whether ``outputs`` gives a :class:`Gaussian`.
        networks: The :class:`~crl.nn.network.Network` objects inside ``module``; empty for a part
            that is built of something else.
        inputs: What the networks are given for a batch: [M, in], and one head or a head per row.
        acts: Whether the policy is made of it; ``"policy"`` stands for all parts that are so.
        loss: What it is trained by on a batch, a scalar, where no other part has a say in that.
        shared: Names of the parameters that all tasks share; the others belong to heads.
        kernels: Those of them that are matrices, not biases or normalisation.
        heads: Head → names of its parameters; empty for a part without heads.
        layers: The hidden layers of all networks, in order.
    """

    name: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    outputs: Callable[..., Gaussian | Tensor]
    gaussian: bool
    networks: tuple[Network, ...] = ()
    inputs: Callable[[Any], tuple[Tensor, int | Tensor]] | None = None
    acts: bool = False
    loss: Callable[[Any], Tensor] | None = None
    shared: tuple[str, ...] = field(init=False)
    kernels: tuple[str, ...] = field(init=False)
    heads: dict[int, tuple[str, ...]] = field(init=False)
    layers: tuple[HiddenLayer, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """Reads the names of the parameters again, after a method has changed the module."""
        names = list(self.parameters())
        self.heads = {}
        for name in names:
            if found := _HEAD.search(name):
                head = int(found[1])
                self.heads[head] = (*self.heads.get(head, ()), name)
        self.shared = tuple(n for n in names if not _HEAD.search(n))
        self.kernels = tuple(n for n in self.shared if self.parameters()[n].ndim > 1)
        prefixes = {module: f"{name}." if name else "" for name, module in
                    self.module.named_modules()}
        self.layers = tuple(layer for network in self.networks
                            for layer in _hidden_layers(network, prefixes[network]))

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters by name."""
        return dict(self.module.named_parameters())

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that all tasks share, by name."""
        everything = self.parameters()
        return {name: everything[name] for name in self.shared}

    def activations(self, batch: Samples) -> list[Tensor]:
        """What the units of each of ``layers`` give on a batch, [M, units] each; no autograd."""
        assert self.inputs is not None
        x, head = self.inputs(batch)
        return [h for network in self.networks for h in network.run(x, head).hidden]


Parts = dict[str, Part]


def choose_parts(method: str, wanted: Sequence[str], parts: Parts) -> list[Part]:
    """The parts named in ``wanted``; ``UserError`` for one that the agent lacks or stands twice."""
    wanted = named_parts(wanted, parts)
    config.require(len(set(wanted)) == len(wanted) > 0,
                   f"method {method!r} needs each of its parts once; got {', '.join(wanted)}")
    for name in wanted:
        if name not in parts:
            raise UserError(f"method {method!r} needs a part {name!r}; this agent has "
                            + (", ".join(parts) or "none"))
    return [parts[name] for name in wanted]


def named_parts(wanted: Sequence[str], parts: Parts) -> list[str]:
    """The names in ``wanted``, those that the policy is made of in the place of ``"policy"``."""
    acting = [name for name, part in parts.items() if part.acts]
    return [name for word in wanted for name in (acting if word == "policy" else [word])]


def _hidden_layers(network: Network, prefix: str) -> list[HiddenLayer]:
    """None for a network whose layers a method has given other parameters than kernel and bias."""
    trunk, layers = network.trunk, []
    if not all(hasattr(dense, "kernel") and hasattr(dense, "bias") for dense in trunk.dense):
        return []
    depth, heads = len(trunk.dense), len(network.heads.items)
    for i in range(depth):
        norm: tuple[str, ...] = ()
        if trunk.norm is not None:
            norm = (f"{prefix}trunk.norm.{i}.weight", f"{prefix}trunk.norm.{i}.bias")
        outgoing = ((f"{prefix}trunk.dense.{i + 1}.kernel",) if i + 1 < depth else
                    tuple(f"{prefix}heads.items.{h}.kernel" for h in range(heads)))
        layers.append(HiddenLayer(f"{prefix}trunk.dense.{i}.kernel",
                                  (f"{prefix}trunk.dense.{i}.bias", *norm), outgoing, norm))
    return layers
