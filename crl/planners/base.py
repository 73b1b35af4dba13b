"""The Planner contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from crl.config import require_positive

Score = Callable[[Tensor], Tensor]
"""Sequences of actions [B, K, H, act] in [-1, 1] → how good each is, [B, K]: the return a model
expects of it from where its environment is. What is not finite is the worst."""

State = tuple[Tensor, ...]


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of any planner.

    Attributes:
        horizon: Steps that a sequence of actions is long.
        population: Sequences tried at a time, for each environment.
    """

    horizon: int = 25
    population: int = 40

    def __post_init__(self) -> None:
        require_positive(self, "horizon", "population")


class Planner(ABC):
    """Model-predictive control: plans at every step anew, and remembers what helps the next time.

    Actions are in [-1, 1], always. Subclasses have a frozen dataclass ``Config``, a
    :class:`PlannerConfig`.

    Args:
        size: Of an action.
        settings: The configuration.

    Attributes:
        shape: Of a sequence of actions: horizon and size.
        state_shapes: Of what it remembers, without the batch; begun as zeros.
    """

    Config: ClassVar[type[PlannerConfig]]
    state_shapes: tuple[tuple[int, ...], ...] = ()

    def __init__(self, size: int, settings: Any) -> None:
        self.config = settings
        self.shape = (settings.horizon, size)

    def initial_state(self, batch: int) -> State:
        """What it remembers at the start of an episode, for ``batch`` environments."""
        return tuple(torch.zeros(batch, *shape) for shape in self.state_shapes)

    def plan(self, score: Score, state: State, first: Tensor, generator: torch.Generator
             ) -> tuple[Tensor, State]:
        """An action for each of B environments.

        Args:
            score: See :data:`Score`.
            state: What the last call returned, or :meth:`initial_state`.
            first: [B] bool: an episode begins, state before it is ignored.
            generator: Source of all draws.

        Returns:
            Actions [B, act], and the next state.
        """
        kept = tuple(torch.where(first.view(-1, *(1,) * (s.dim() - 1)), 0, s) for s in state)
        sequence, state = self._plan(lambda actions: _finite(score(actions)), kept, len(first),
                                     generator)
        return sequence[:, 0].clamp(-1, 1), state

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Steps of a model that an action of one environment costs."""

    @abstractmethod
    def _plan(self, score: Score, state: State, batch: int, generator: torch.Generator
              ) -> tuple[Tensor, State]:
        """Sequences [B, H, act] and the next state."""


def shifted(sequences: Tensor) -> Tensor:
    """Sequences [..., H, act] one step later; the last action stays."""
    return torch.cat((sequences[..., 1:, :], sequences[..., -1:, :]), -2)


def best(sequences: Tensor, scores: Tensor, count: int) -> Tensor:
    """The ``count`` best of sequences [B, K, H, act] by scores [B, K], the best first."""
    chosen = scores.topk(count, dim=1).indices
    return sequences.gather(1, chosen[:, :, None, None].expand(-1, -1, *sequences.shape[2:]))


def _finite(scores: Tensor) -> Tensor:
    return torch.where(scores.isfinite(), scores, -torch.inf)
