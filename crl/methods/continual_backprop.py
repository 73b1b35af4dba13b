"""Continual backprop: at every step a little of the network, the least useful units, begins anew.

Dohare et al. 2024, "Loss of plasticity in deep continual learning" (Nature).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.recycling import REDRAWS, recycle
from crl.nn.layers import rows_by_head
from crl.nn.state import generator_to_tree, load_generator, tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import TaskStream


class ContinualBackprop(Method):
    """Recycles, of the units older than ``maturity``, the share ``rate`` of least utility a step.

    The utility of a unit is the average u ← ηu + (1−η) E|h| Σ|w| over gradient steps, w its
    outgoing weights: those of the next layer, or of the heads that the batch is of, so that it is
    rehearsal that speaks for the units of old tasks. As in the published code it is divided by
    1 − η^age, its share of the average so far. Fractions of a unit add up, layer by layer. A
    recycled unit has new incoming weights, outgoing weights of zero (in every head), no optimiser
    moments, and age and utility zero.

    What the network computes changes by what the unit had contributed and by nothing else; with
    layer normalisation a little more (1 % at a width of 128), since the new unit takes part in the
    statistics that the others are normalised by.

    The published code means to add what a unit contributed on average to the next layer's bias, but
    sets that average to zero before it does. The paper's algorithm does not have it; nor have we.
    """

    name = "continual-backprop"
    paper = "Dohare et al. 2024"
    needs = ("hidden layers",)
    claims = REDRAWS

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`ContinualBackprop`.

        Attributes:
            parts: Whose units to recycle.
            rate: Share of the mature units recycled per gradient step. Published: 1e-4.
            maturity: Gradient steps before a unit can be recycled. Published: 10k for
                reinforcement learning, 100 for supervised.
            decay: η.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        rate: float = 1e-4
        maturity: int = 10_000
        decay: float = 0.99

        def __post_init__(self) -> None:
            require(0 <= self.rate <= 1, "rate must be between 0 and 1")
            require(self.maturity >= 0, "maturity must not be negative")
            require(0 <= self.decay < 1, "decay must be from 0 to below 1")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        self._layers: dict[str, list[_Layer]] = {}
        for part in self.parts:
            parameters = part.parameters()
            self._layers[part.name] = [
                _Layer([parameters[name].detach() for name in layer.outgoing])
                for layer in part.layers]

    def updated(self, batch: Samples) -> None:
        for part in self.parts:
            layers = self._layers[part.name]
            assert part.inputs is not None
            head = part.inputs(batch)[1]
            for layer, h in zip(layers, part.activations(batch), strict=True):
                layer.update(h, head, self.config)
            chosen = [layer.replace(self.config) for layer in layers]
            if any(len(units) > 0 for units in chosen):
                recycle(part, chosen, self._generator)

    def state_dict(self) -> Tree:
        return {"generator": generator_to_tree(self._generator),
                "layers": {name: {str(i): layer.state_dict() for i, layer in enumerate(layers)}
                           for name, layers in self._layers.items()}}

    def load_state_dict(self, tree: Tree) -> None:
        load_generator(self._generator, tree["generator"])
        for name, layers in self._layers.items():
            for i, layer in enumerate(layers):
                layer.load_state_dict(tree["layers"][name][str(i)])


class _Layer:
    """What is known of the units of one hidden layer; ``outgoing`` are its live weights."""

    def __init__(self, outgoing: list[Tensor]) -> None:
        self.outgoing = outgoing
        self.utility = torch.zeros_like(outgoing[0][:, 0])
        self.age = torch.zeros_like(self.utility, dtype=torch.int64)
        self.due = 0.0

    def update(self, h: Tensor, head: int | Tensor, config: ContinualBackprop.Config) -> None:
        """One gradient step with activations ``h`` [B, units]."""
        self.utility.lerp_(contribution(h, self.outgoing, head), 1 - config.decay)
        self.age += 1
        self.due += config.rate * int((self.age > config.maturity).sum())

    def replace(self, config: ContinualBackprop.Config) -> Tensor:
        """The units due to be recycled, which count as new from here on."""
        count = int(self.due)
        if count == 0:
            return self.age[:0]
        self.due -= count
        utility = self.utility / (1 - config.decay ** self.age)
        utility[self.age <= config.maturity] = torch.inf
        units = utility.topk(count, largest=False).indices
        self.utility[units] = 0.0
        self.age[units] = 0
        return units

    def state_dict(self) -> Tree:
        return {"due": self.due, **tensors_to_tree({"utility": self.utility, "age": self.age})}

    def load_state_dict(self, tree: Tree) -> None:
        self.due = tree["due"]
        tensors = tree_to_tensors({n: tree[n] for n in ("utility", "age")}, self.age.device)
        self.utility, self.age = tensors["utility"], tensors["age"]


def contribution(h: Tensor, outgoing: Sequence[Tensor], head: int | Tensor) -> Tensor:
    """E|hᵢ| Σₖ|wᵢₖ| of each unit, over a batch.

    Args:
        h: Activations [B, units].
        outgoing: Kernels [units, out]: one, or one per head.
        head: The head of the batch or of each row, which says whose kernel counts.
    """
    total = torch.zeros_like(h[0])
    for i, rows in rows_by_head(head if len(outgoing) > 1 else 0):
        total += h[rows].abs().sum(0) * outgoing[i].abs().sum(1)
    return total / len(h)
