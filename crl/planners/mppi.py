"""Model-predictive path integral control."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crl.config import require_positive
from crl.planners.base import Planner, PlannerConfig, Score, State, shifted


class MPPI(Planner):
    """Sequences drawn around a mean are averaged, the better ones with exponentially more weight.

    Williams et al. 2017, "Information Theoretic MPC for Model-Based Reinforcement Learning": the
    weight of a sequence is exp((score − λ Σ mean · noise / std²) / λ), λ being the temperature.
    """

    @dataclass(frozen=True)
    class Config(PlannerConfig):
        """Settings of :class:`MPPI`.

        Attributes:
            temperature: λ, in units of returns: what a difference of scores is measured by.
            std: Of the noise; 1 is half the range of an action.
        """

        population: int = 100
        temperature: float = 0.1
        std: float = 0.5

        def __post_init__(self) -> None:
            super().__post_init__()
            require_positive(self, "temperature", "std")

    config: Config

    def __init__(self, size: int, settings: Config) -> None:
        super().__init__(size, settings)
        self.state_shapes = (self.shape,)  # the mean

    @property
    def evaluations(self) -> int:
        return self.config.population * self.config.horizon

    def _plan(self, score: Score, state: State, batch: int, generator: torch.Generator
              ) -> tuple[torch.Tensor, State]:
        (mean,), settings = state, self.config
        noise = settings.std * torch.randn(batch, settings.population, *self.shape,
                                           generator=generator)
        sequences = (mean[:, None] + noise).clamp_(-1, 1)
        noise = sequences - mean[:, None]  # what is left of it within bounds
        cost = settings.temperature / settings.std**2 * (mean[:, None] * noise).sum((2, 3))
        goodness = (score(sequences) - cost) / settings.temperature
        mean = mean + torch.einsum("bk,bkha->bha", goodness.softmax(1), noise)
        return mean, (shifted(mean),)
