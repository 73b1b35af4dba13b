"""The cross-entropy method, as model-predictive control has used it since PETS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.config import require, require_positive
from crl.planners.base import Planner, PlannerConfig, Score, State, best


class CEM(Planner):
    """Sequences are drawn around a mean, which is fitted to the best of them, several times.

    De Boer et al. 2005, "A Tutorial on the Cross-Entropy Method", with the settings of HyperCRL
    (Huang et al. 2021): every step begins at mean 0, and what is done is the best of a last
    population. Bounds are kept by clipping.
    """

    @dataclass(frozen=True)
    class Config(PlannerConfig):
        """Settings of :class:`CEM`.

        Attributes:
            iterations: Fits a step.
            elites: The best sequences, to which mean and spread are fitted.
            std: The spread at the start of a step; 1 is half the range of an action.
        """

        population: int = 500
        iterations: int = 5
        elites: int = 40
        std: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            require_positive(self, "iterations", "elites", "std")
            require(self.population >= self.elites, "population must be at least elites")

    config: Config

    @property
    def evaluations(self) -> int:
        return (self.config.iterations + 1) * self.config.population * self.config.horizon

    def _plan(self, score: Score, state: State, batch: int, generator: torch.Generator
              ) -> tuple[Tensor, State]:
        settings = self.config
        mean = torch.zeros(batch, *self.shape)
        std = torch.full_like(mean, settings.std)
        for _ in range(settings.iterations):
            elites = self._best(score, mean, std, settings.elites, generator)
            mean, std = elites.mean(1), elites.std(1, correction=0)
        return self._best(score, mean, std, 1, generator)[:, 0], ()

    def _best(self, score: Score, mean: Tensor, std: Tensor, count: int,
              generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(mean), self.config.population, *self.shape, generator=generator)
        sequences = (mean[:, None] + std[:, None] * noise).clamp_(-1, 1)
        return best(sequences, score(sequences), count)
