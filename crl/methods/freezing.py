"""Frozen entries: weights that must not move, whatever the losses and the momentum say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crl.checkpoint import Tree
from crl.methods.base import Learner, Method
from crl.methods.parts import Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import TaskStream

Masks = dict[str, Tensor]
"""Parameter name → bool tensor of its shape."""


class _Entry(NamedTuple):
    parameter: nn.Parameter
    mask: Tensor
    values: Tensor  # what the frozen entries are put back to
    whole: bool


class FrozenEntries:
    """Entries of parameters that keep their values to the last bit.

    They get no gradient. Adam goes on moving a weight whose gradient is zero now, out of momentum,
    so they are put back after each step as well. A parameter that is frozen as a whole has no
    gradient at all, and costs nothing.

    Args:
        parts: The parts whose parameters may be frozen.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = {part.name: part for part in parts}
        self._masks: dict[str, Masks] = {}
        self._entries: list[_Entry] = []

    def freeze(self, part: Part, masks: Masks) -> None:
        """Freezes the entries where a mask is true as they are now; what is frozen stays so."""
        frozen = self._masks.setdefault(part.name, {})
        for name, mask in masks.items():
            frozen[name] = frozen[name] | mask if name in frozen else mask.clone()
        self._refresh()

    def release(self) -> None:
        """Lets everything move again."""
        self._masks = {}
        self._refresh()

    def mask(self, part: Part, name: str) -> Tensor:
        """Which entries of a parameter are frozen."""
        nothing = torch.zeros_like(part.parameters()[name], dtype=torch.bool)
        return self._masks.get(part.name, {}).get(name, nothing)

    @torch.no_grad()
    def gradients(self) -> None:
        """Takes their gradients away; for the hook of that name."""
        for parameter, mask, _, whole in self._entries:
            if whole:
                parameter.grad = None  # the optimiser leaves it alone
            elif parameter.grad is not None:
                parameter.grad.masked_fill_(mask, 0.0)

    @torch.no_grad()
    def updated(self) -> None:
        """Puts them back; for the hook of that name."""
        for parameter, mask, values, _ in self._entries:
            if parameter.grad is not None:
                torch.where(mask, values, parameter, out=parameter.data)

    def state_dict(self) -> Tree:
        return {name: tensors_to_tree(masks) for name, masks in self._masks.items()}

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave, once the parameters are loaded."""
        self._masks = {
            name: tree_to_tensors(masks, next(self._parts[name].module.parameters()).device)
            for name, masks in tree.items()}
        self._refresh()

    def _refresh(self) -> None:
        self._entries = []
        for part_name, masks in self._masks.items():
            parameters = self._parts[part_name].parameters()
            for name, mask in masks.items():
                parameter = parameters[name]
                self._entries.append(
                    _Entry(parameter, mask, parameter.detach().clone(), bool(mask.all())))


def whole(part: Part, names: Iterable[str]) -> Masks:
    """Masks of whole parameters."""
    parameters = part.parameters()
    return {n: torch.ones_like(parameters[n], dtype=torch.bool) for n in names}


class Freezing(Method):
    """A method that freezes entries, which subclasses choose, and keeps them where they are."""

    keeps_weights = True

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._frozen = FrozenEntries(self.parts)

    def gradients(self) -> None:
        self._frozen.gradients()

    def updated(self, batch: Samples) -> None:
        self._frozen.updated()

    def state_dict(self) -> Tree:
        return {"frozen": self._frozen.state_dict()}

    def load_state_dict(self, tree: Tree) -> None:
        self._frozen.load_state_dict(tree["frozen"])
