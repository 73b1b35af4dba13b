"""GEM: a gradient step may not raise the loss of any finished task on its stored transitions.

Lopez-Paz & Ranzato 2017, "Gradient Episodic Memory for Continual Learning".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from crl.config import require
from crl.methods.projection import FloatArray, GradientProjection
from crl.replay import Samples, in_samples

_RIDGE = 1e-9


class GEM(GradientProjection):
    """If g·rₖ < 0 for a finished task k: g ← g + Σₖ vₖ rₖ, with rₖ the gradient on its transitions.

    v ≥ margin minimises ½ vᵀ(GGᵀ)v + (Gg)ᵀv, where the rₖ are the rows of G. With margin 0 the
    result is the vector nearest to g whose product with no rₖ is negative; a margin leans it
    towards improving old tasks.

    The released code adds 1e-3 to the diagonal of GGᵀ for the sake of its solver, and so leaves
    products negative, the more the smaller the gradients are. Here it is 1e-9 of each squared
    length, just enough where gradients are parallel, and the constraints hold.

    Costs one more gradient of ``batch_size`` transitions per finished task and gradient step.
    """

    name = "gem"
    paper = "Lopez-Paz & Ranzato 2017"

    @dataclass(frozen=True)
    class Config(GradientProjection.Config):
        """Settings of :class:`GEM`.

        Attributes:
            parts: Which parts to project, as one vector.
            samples_per_task: Transitions stored per finished task. Published: 256.
            batch_size: Transitions per finished task and step. Published: all that are stored.
            margin: Least v of every finished task, whenever one of them objects. Published: 0.5.
        """

        margin: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            require(self.margin >= 0, "margin must not be negative")

    config: Config

    def references(self) -> list[Samples]:
        choices = np.eye(len(self._memory.tasks))
        count = in_samples(self.config.batch_size, self.learner.replay)
        return [self._memory.sample(count, self._rng, choice)
                for choice in choices]

    def multipliers(self, gram: FloatArray, products: FloatArray) -> FloatArray:
        return minimise(gram, products, self.config.margin)


def minimise(gram: FloatArray, products: FloatArray, margin: float = 0.0) -> FloatArray:
    """The v ≥ margin that minimises ½ vᵀ gram v + productsᵀ v.

    With C Cᵀ = gram and u = v − margin it is a least-squares problem with u ≥ 0,
    min ‖Cᵀu + C⁻¹(products + gram · margin)‖², which is solved exactly; in units of each gradient's
    length, so that lengths may be as different as they like.

    Args:
        gram: Products of the rows of G with each other, [k, k].
        products: Their products with g, [k].
        margin: Least value of each v.
    """
    length = np.sqrt(np.diag(gram))
    length = np.where(length > 0, length, 1.0)
    unit = gram / np.outer(length, length) + _RIDGE * np.eye(len(gram))
    slope = products / length + unit @ (margin * length)
    factor = np.linalg.cholesky(unit)
    u, _ = nnls(factor.T, -np.linalg.solve(factor, slope), maxiter=100 * len(gram))
    v: FloatArray = margin + u / length
    return v
