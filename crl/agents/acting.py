"""What agents act with while they learn, apart from how they learn: a copy of it acts anywhere."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crl import seeding
from crl.agent import BoolArray, FloatArray, Taken
from crl.agents.actions import Actions
from crl.nn.scaling import ObservationScaling
from crl.nn.state import to_tensor

A = TypeVar("A", bound="Acting")
_NOTHING = np.zeros(0, np.float32)


class Acting(ABC):
    """Weights, draws, and what is remembered of an episode.

    An agent has one, which shares the weights that it learns and draws where it draws. A copy is an
    :class:`~crl.agent.Explorer`.

    Args:
        actions: What actions are.
        rng, generator: Sources of all draws.
        device: Where the weights are.

    Attributes:
        head: The task's.
        acts_as: The head whose actions are taken; None: actions at random.
    """

    def __init__(self, actions: Actions, rng: np.random.Generator, generator: torch.Generator,
                 device: str) -> None:
        self._actions, self._rng, self._generator = actions, rng, generator
        self.device = device
        self.head = 0
        self.acts_as: int | None = 0
        self._last = np.zeros((1, actions.size), np.float32)  # not scaled to the space

    def seed(self, seed: int) -> None:
        """Seeds all draws."""
        self._rng = seeding.generator(seed, "explore", "numpy")
        self._generator.manual_seed(seeding.integer(seed, "explore", "torch"))

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        """Exploring actions [1, act] for observations [1, obs], as the environment's."""
        return self._actions.to_env(self.choose(obs, first))

    def choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        """As :meth:`act`, not scaled to the space."""
        self._last = self._choose(obs, first)
        return self._last

    @property
    def taken(self) -> Taken:
        """What a replay is told of the last action."""
        return Taken(self._last[0], self._remembered())

    def apart(self: A) -> A:
        """A copy on the CPU, which shares nothing."""
        copied = copy.deepcopy(self)
        copied.device = "cpu"
        for name, value in vars(copied).items():
            if isinstance(value, (nn.Module, Tensor, ObservationScaling)):
                setattr(copied, name, value.cpu())
        return copied

    @abstractmethod
    def _choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        """Actions [1, act], not scaled."""

    def _remembered(self) -> FloatArray:
        """What a replay stores of the memory with the last action, [n]."""
        return _NOTHING

    def _drawn(self, out: Tensor) -> FloatArray:
        """Actions [1, act] from a policy's output."""
        action: FloatArray = self._actions.sample(out, self._generator).cpu().numpy()
        return action

    def _at_random(self) -> FloatArray:
        return self._actions.uniform(1, self._rng)

    def _seen(self, obs: FloatArray) -> Tensor:
        return to_tensor(obs).to(self.device)


class ReactiveActing(Acting):
    """An actor that sees the newest observation alone.

    Args:
        actor: Called with observations and the head.
        scaling: Of observations; None: as they are.
        actions, rng, generator, device: As of :class:`Acting`.
    """

    def __init__(self, actor: nn.Module, scaling: ObservationScaling | None, actions: Actions,
                 rng: np.random.Generator, generator: torch.Generator, device: str) -> None:
        super().__init__(actions, rng, generator, device)
        self._actor, self._scaling = actor, scaling

    def _choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        if self.acts_as is None:
            return self._at_random()
        with torch.inference_mode():
            seen = self._seen(obs)
            if self._scaling is not None:
                seen = self._scaling(seen, self.acts_as)
            return self._drawn(self._actor(seen, self.acts_as))
