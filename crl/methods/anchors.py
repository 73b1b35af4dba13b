"""Quadratic anchors: what EWC, MAS, SI and L2 pull the weights towards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.methods.base import Learner, Method
from crl.methods.parts import Parameters, Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import TaskStream


class Anchors:
    """Σₖ Σ Fₖ (θ − θₖ)² over any number of anchors θₖ with importances Fₖ, in constant memory.

    A sum of quadratics is a quadratic: what is kept is the total precision Σ Fₖ, the mean
    Σ Fₖθₖ / Σ Fₖ and a constant, for the shared parameters of some parts.

    Args:
        parts: The parts that may be anchored.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._precision: dict[str, Parameters] = {}
        self._mean: dict[str, Parameters] = {}
        self._constant: dict[str, float] = {}
        self._device = {part.name: next(part.module.parameters()).device for part in parts}

    def penalty(self, part: Part) -> Tensor | None:
        """The sum above, a scalar; None for a part without anchors."""
        if part.name not in self._precision:
            return None
        total = torch.tensor(self._constant[part.name], device=self._device[part.name])
        for name, parameter in part.shared_parameters().items():
            distance = parameter - self._mean[part.name][name]
            total = total + (self._precision[part.name][name] * distance.square()).sum()
        return total

    @torch.no_grad()
    def add(self, part: Part, importance: Parameters) -> None:
        """Adds Σ F (θ − θ_now)², by completing the square; ``importance`` is F ≥ 0 by name."""
        if part.name not in self._precision:
            self.replace(part, importance)
            return
        constant = self._constant[part.name]
        for name, parameter in part.shared_parameters().items():
            old, mean = self._precision[part.name][name], self._mean[part.name][name]
            new, anchor = importance[name], parameter.detach()
            total = old + new
            weight = torch.where(total > 0, new / total, 0.0)
            cross = old * weight * (anchor - mean).square()  # F₁F₂/(F₁+F₂) (θ₁−θ₂)²
            constant += float(cross.sum())
            self._mean[part.name][name] = torch.lerp(mean, anchor, weight)
            self._precision[part.name][name] = total
        self._constant[part.name] = constant

    @torch.no_grad()
    def replace(self, part: Part, importance: Parameters) -> None:
        """Makes Σ F (θ − θ_now)² all there is of a part."""
        self._precision[part.name] = {n: f.clone() for n, f in importance.items()}
        self._mean[part.name] = {n: p.clone() for n, p in part.shared_parameters().items()}
        self._constant[part.name] = 0.0

    def importance(self, part: Part) -> Parameters:
        """The total precision Σ Fₖ by name; zeros before the first anchor."""
        return self._precision.get(part.name) or {
            n: torch.zeros_like(p) for n, p in part.shared_parameters().items()}

    def state_dict(self) -> Tree:
        return {
            "precision": {n: tensors_to_tree(p) for n, p in self._precision.items()},
            "mean": {n: tensors_to_tree(m) for n, m in self._mean.items()},
            "constant": dict(self._constant),
        }

    def load_state_dict(self, tree: Tree) -> None:
        for kept, saved in ((self._precision, tree["precision"]), (self._mean, tree["mean"])):
            kept.clear()
            kept.update({name: tree_to_tensors(tensors, self._device[name])
                         for name, tensors in saved.items()})
        self._constant = dict(tree["constant"])


class Anchored(Method):
    """Adds ``config.coefficient`` times the penalty of its anchors, which subclasses set."""

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._anchors = Anchors(self.parts)

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        penalty = self._anchors.penalty(part)
        return None if penalty is None else self.config.coefficient * penalty

    def state_dict(self) -> Tree:
        return {"anchors": self._anchors.state_dict()}

    def load_state_dict(self, tree: Tree) -> None:
        self._anchors.load_state_dict(tree["anchors"])
