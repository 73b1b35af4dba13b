"""A-GEM: a gradient step may not raise the loss on a batch drawn from all old tasks.

Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM"; the settings for control as in
Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from crl.methods.projection import FloatArray, GradientProjection
from crl.replay import Samples, in_samples


class AGEM(GradientProjection):
    """If g·r < 0: g ← g − (g·r / r·r) r, with r the gradient on old transitions.

    That is the vector nearest to g whose product with r is not negative. There is one product over
    all chosen parts. A head that only r reaches counts too, and moves when g is projected; code
    that writes back only where g has a gradient changes less than the formula asks for, and the
    product stays negative.

    Costs one more gradient of ``batch_size`` transitions per gradient step.
    """

    name = "a-gem"
    paper = "Chaudhry et al. 2019"

    def references(self) -> list[Samples]:
        count = in_samples(self.config.batch_size, self.learner.replay)
        return [self._memory.sample(count, self._rng)]

    def multipliers(self, gram: FloatArray, products: FloatArray) -> FloatArray:
        factor: FloatArray = -products / gram[0]
        return factor
