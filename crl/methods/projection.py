"""Projection of gradients: what GEM and A-GEM share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crl.config import require
from crl.methods.memory import Remembering
from crl.methods.parts import Parameters
from crl.nn.network import add_gradient
from crl.replay import Samples

FloatArray = NDArray[np.float64]


class GradientProjection(Remembering):
    """Adds Σₖ vₖ rₖ to the gradient g where a step along −g would raise a loss on old transitions.

    rₖ is the gradient of the agent's own losses on a batch of them; g is the gradient in full,
    losses of other methods included. Both are one vector over all chosen parts, in which a
    parameter without a gradient counts as zero. So the head of an old task, which only rₖ reaches,
    counts in its length and receives vₖ rₖ: among all vectors that agree with the rₖ the projected
    one is nearest to g only if these heads may move too. They stay without a gradient, and the
    optimiser leaves them alone, while there is nothing to project.
    """


    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`GradientProjection`.

        Attributes:
            parts: Which parts to project, as one vector.
            samples_per_task: Transitions stored per finished task.
            batch_size: Transitions per reference gradient.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        samples_per_task: int = 10_000
        batch_size: int = 128

        def __post_init__(self) -> None:
            require(self.samples_per_task > 0 and self.batch_size > 0,
                    "samples_per_task and batch_size must be above 0")

    config: Config

    def references(self) -> list[Samples]:
        """The batches of old transitions whose losses must not rise."""
        raise NotImplementedError

    def multipliers(self, gram: FloatArray, products: FloatArray) -> FloatArray:
        """v, given rᵢ·rⱼ and rᵢ·g, of which one at least is negative."""
        raise NotImplementedError

    @torch.no_grad()
    def gradients(self) -> None:
        if not self._memory.tasks:
            return
        references = [self.learner.gradients(batch) for batch in self.references()]
        own = {part.name: {n: p.grad for n, p in part.parameters().items() if p.grad is not None}
               for part in self.parts}
        rows = torch.stack([self._vector(reference) for reference in references])
        products = rows @ self._vector(own)
        if bool((products >= 0).all()):
            return
        factors = self.multipliers((rows @ rows.T).cpu().numpy(), products.cpu().numpy())
        for factor, reference in zip(factors.tolist(), references, strict=True):
            if factor == 0:
                continue
            for part in self.parts:
                parameters = part.parameters()
                for name, gradient in reference[part.name].items():
                    add_gradient(parameters[name], factor * gradient)

    def _vector(self, gradients: dict[str, Parameters]) -> Tensor:
        """The gradients of all parts, end to end, in float64: products cancel."""
        flat = []
        for part in self.parts:
            for name, parameter in part.parameters().items():
                gradient = gradients[part.name].get(name)
                flat.append(parameter.new_zeros(parameter.numel()) if gradient is None
                            else gradient.flatten())
        return torch.cat(flat).double()
