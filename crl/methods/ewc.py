"""Elastic weight consolidation: weights that mattered for old tasks are held near their values.

Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks"; the Fisher matrix
of a Gaussian policy and the settings as in Continual World (Wołczyk et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacrev

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.anchors import Anchors
from crl.methods.base import Learner, Method
from crl.methods.importance import Outputs, mean_over_samples
from crl.methods.parts import Parameters, Part
from crl.replay import Batch
from crl.stream import Task, TaskStream


class EWC(Method):
    """Adds λ Σₖ Fₖ (θ − θₖ)² over the finished tasks k, on the shared parameters.

    Every finished task keeps its own anchor θₖ. With ``online`` there is one, the newest, and the
    importance of earlier tasks fades: online EWC (Schwarz et al. 2018, "Progress & Compress").

    The Fisher information is that of the Gaussian before squashing. It equals that of the squashed
    policy, since tanh is one-to-one; the published code differentiates tanh(μ) instead, which
    understates the weights behind saturated actions.
    """

    name = "ewc"
    paper = "Kirkpatrick et al. 2017"
    needs = ("boundaries", "replay")

    @dataclass(frozen=True)
    class Config:
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

        parts: tuple[str, ...] = ("actor",)
        coefficient: float = 1e4
        batches: int = 10
        batch_size: int = 256
        floor: float = 1e-5
        online: float | None = None

        def __post_init__(self) -> None:
            require(self.coefficient >= 0 and self.floor >= 0,
                    "coefficient and floor must not be negative")
            require(self.online is None or 0 <= self.online <= 1,
                    "online must be between 0 and 1")
            require(self.batches > 0 and self.batch_size > 0,
                    "batches and batch_size must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        self._anchors = Anchors(self.parts)

    def loss(self, part: Part, batch: Batch) -> Tensor | None:
        penalty = self._anchors.penalty(part)
        return None if penalty is None else self.config.coefficient * penalty

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            samples = [self.learner.replay.sample(self.config.batch_size, self._rng)
                       for _ in range(self.config.batches)]
            importance = fisher(part, samples, self.config.floor)
            if self.config.online is None:
                self._anchors.add(part, importance)
                continue
            faded = self._anchors.importance(part)
            self._anchors.replace(part, {name: self.config.online * faded[name] + new
                                         for name, new in importance.items()})

    def state_dict(self) -> Tree:
        return {"anchors": self._anchors.state_dict(), "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._anchors.load_state_dict(tree["anchors"])
        seeding.restore_generator(self._rng, tree["rng"])


def fisher(part: Part, batches: Sequence[Batch], floor: float = 0.0) -> Parameters:
    """Diagonal Fisher information of a part's shared parameters, averaged over samples.

    For Gaussian outputs Σ_out ((∂μ)² + 2(∂σ)²) / (σ² + 1e-6); for point predictions, taken as means
    of a unit Gaussian, Σ_out (∂y)². Each sample's value is at least ``floor``.
    """
    def of_sample(outputs: Outputs, parameters: Parameters) -> Parameters:
        values, slopes = outputs(parameters), jacrev(outputs)(parameters)
        weights = [torch.ones_like(values[0])]
        if part.gaussian:
            variance = values[1].square() + 1e-6
            weights = [1 / variance, 2 / variance]

        def information(name: str) -> Tensor:
            return sum((torch.tensordot(weight, slope[name].square(), 1)
                        for weight, slope in zip(weights, slopes, strict=True)), torch.tensor(0.0))

        return {name: information(name).clamp(min=floor) for name in parameters}

    return mean_over_samples(part, batches, of_sample)
