"""Elastic weight consolidation: weights that mattered for old tasks are held near their values.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks"; the Fisher matrix
of a Gaussian policy and the settings as in Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jacrev

from crl.config import require
from crl.methods.importance import Outputs, SampledImportance, mean_over_samples
from crl.methods.parts import Parameters, Part
from crl.replay import Batch, Samples
from crl.stream import Task


class EWC(SampledImportance):
    """Adds λ Σₖ Fₖ (θ − θₖ)² over the finished tasks k, on the shared parameters.

    Every finished task keeps its own anchor θₖ. With ``online`` there is one, the newest, and the
    importance of earlier tasks fades: online EWC (Schwarz et al. 2018, "Progress & Compress").

    The Fisher information is that of the Gaussian before squashing. It equals that of the squashed
    policy, since tanh is one-to-one; the published code differentiates tanh(μ) instead, which
    understates the weights behind saturated actions.
    """

    name = "ewc"
    paper = "Kirkpatrick et al. 2017"

    @dataclass(frozen=True)
    class Config(SampledImportance.Config):
        """Settings of :class:`EWC`.

        Attributes:
            parts: Which parts to protect.
            coefficient: λ. Published for Continual World: 1e4, without a factor ½.
            batches, batch_size: How many samples of the finishing task estimate the Fisher matrix.
            floor: Least importance of a weight per sample. The published code hides one of 1e-5,
                an L2 anchor of λ · 1e-5 per task on every weight; 0 turns it off.
            online: None: an anchor per task. Else one anchor, and γ: what the importance so far is
                multiplied by when a task ends.
        """

        floor: float = 1e-5
        online: float | None = None

        def __post_init__(self) -> None:
            super().__post_init__()
            require(self.floor >= 0, "floor must not be negative")
            require(self.online is None or 0 <= self.online <= 1,
                    "online must be between 0 and 1")

    config: Config

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            importance = fisher(part, self.samples(), self.config.floor, self._rng)
            if self.config.online is None:
                self._anchors.add(part, importance)
                continue
            faded = self._anchors.importance(part)
            self._anchors.replace(part, {name: self.config.online * faded[name] + new
                                         for name, new in importance.items()})


def fisher(part: Part, batches: Sequence[Samples], floor: float = 0.0,
           rng: np.random.Generator | None = None) -> Parameters:
    """Diagonal Fisher information of a part's shared parameters, averaged over samples.

    For Gaussian outputs Σ_out ((∂μ)² + 2(∂σ)²) / (σ² + 1e-6); for point predictions, taken as means
    of a unit Gaussian, Σ_out (∂y)². A sequence has so many outputs that its sum Σᵢ wᵢ (∂oᵢ)² is
    estimated: (Σᵢ ±√wᵢ ∂oᵢ)² with signs drawn at random has it as its mean. Each sample's value is
    at least ``floor``.

    Args:
        part: The part.
        batches: The samples.
        floor: As above.
        rng: Source of the signs; needed for sequences only.
    """
    def weights(values: tuple[Tensor, ...]) -> list[Tensor]:
        if not part.gaussian:
            return [torch.ones_like(values[0])]
        variance = values[1].square() + 1e-6
        return [1 / variance, 2 / variance]

    def information(outputs: Outputs, parameters: Parameters) -> Parameters:
        values, slopes = outputs(parameters), jacrev(outputs)(parameters)
        return {name: sum((torch.tensordot(weight, slope[name].square(), 1)
                           for weight, slope in zip(weights(values), slopes, strict=True)),
                          torch.tensor(0.0)) for name in parameters}

    def estimate(outputs: Outputs, parameters: Parameters) -> Parameters:
        assert rng is not None

        def projection(parameters: Parameters) -> Tensor:
            values = outputs(parameters)
            total = values[0].new_zeros(())
            for value, weight in zip(values, weights(values), strict=True):
                sign = torch.from_numpy(rng.choice([-1.0, 1.0], value.shape)).to(value)
                total = total + (sign * weight.detach().sqrt() * value).sum()
            return total

        return {name: slope.square() for name, slope in grad(projection)(parameters).items()}

    def of_sample(outputs: Outputs, parameters: Parameters) -> Parameters:
        exact = isinstance(batches[0], Batch)
        found = (information if exact else estimate)(outputs, parameters)
        return {name: value.clamp(min=floor) for name, value in found.items()}

    return mean_over_samples(part, batches, of_sample)
