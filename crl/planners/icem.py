"""iCEM: the cross-entropy method made sample-efficient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.config import require, require_not_negative, require_positive
from crl.planners.base import Planner, PlannerConfig, Score, State, best, shifted
from crl.planners.noise import colouring


class ICEM(Planner):
    """Sequences are drawn around a mean, which moves to the best of them; the next step goes on.

    Pinneri et al. 2020, "Sample-efficient Cross-Entropy Method for Real-time Planning". Draws are
    coloured, populations shrink, the best sequences are tried again, the mean begins where it was
    at the step before. What is done is the mean of the best, not the best one, which over-fits a
    learned model.
    """

    @dataclass(frozen=True)
    class Config(PlannerConfig):
        """Settings of :class:`ICEM`; those of its authors, but for the horizon.

        Attributes:
            iterations: Populations a step.
            decay: Each is so many times smaller than the one before, but twice the elites at least.
            elites: The best sequences, to which the mean moves.
            reuse: Share of them that the next population and the next step try again.
            momentum: Share of the old mean and spread that stays.
            std: The spread at the start of a step; 1 is half the range of an action.
            exponent: Of the noise's spectrum, 1/f^exponent; 0: white.
        """

        iterations: int = 3
        decay: float = 1.25
        elites: int = 10
        reuse: float = 0.3
        momentum: float = 0.1
        std: float = 0.5
        exponent: float = 3.0

        def __post_init__(self) -> None:
            super().__post_init__()
            require_positive(self, "iterations", "elites", "std")
            require_not_negative(self, "exponent")
            require(self.decay >= 1, f"decay must be from 1, got {self.decay}")
            require(self.population >= self.elites, "population must be at least elites")
            require(0 <= self.reuse <= 1, f"reuse must be between 0 and 1, got {self.reuse}")
            require(0 <= self.momentum < 1, f"momentum must be from 0 and below 1, got "
                    f"{self.momentum}")

    config: Config

    def __init__(self, size: int, settings: Config) -> None:
        super().__init__(size, settings)
        self._kept = round(settings.reuse * settings.elites)
        self._sizes = [max(int(settings.population * settings.decay**-i), 2 * settings.elites)
                       for i in range(settings.iterations)]
        self._colouring = colouring(settings.horizon, settings.exponent)
        self.state_shapes = (self.shape, (self._kept, *self.shape))  # mean, sequences to try again

    @property
    def evaluations(self) -> int:
        tried = sum(self._sizes) + self._kept * len(self._sizes) + 1
        return tried * self.config.horizon

    def _plan(self, score: Score, state: State, batch: int, generator: torch.Generator
              ) -> tuple[Tensor, State]:
        settings = self.config
        mean, again = state
        std = torch.full_like(mean, settings.std)
        elites = again
        for i, size in enumerate(self._sizes):
            sequences = (mean[:, None] + std[:, None] * self._noise(batch, size, generator)
                         ).clamp_(-1, 1)
            tried = [sequences, again]
            if i + 1 == len(self._sizes):
                tried.append(mean[:, None])
            sequences = torch.cat(tried, 1)
            elites = best(sequences, score(sequences), settings.elites)
            again = elites[:, :self._kept]
            mean = torch.lerp(elites.mean(1), mean, settings.momentum)
            std = torch.lerp(elites.std(1, correction=0), std, settings.momentum)
        return mean, (shifted(mean), shifted(again))

    def _noise(self, batch: int, size: int, generator: torch.Generator) -> Tensor:
        """[B, size, H, act], of variance 1."""
        white = torch.randn(batch, size, self.shape[1], len(self._colouring), generator=generator)
        return (white @ self._colouring).transpose(2, 3)
