"""What a policy's outputs mean: bounded continuous actions, or one of n choices.

An action is a float vector either way: in [-1, 1], or with a single 1 at the choice.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from crl.agent import FloatArray
from crl.methods.parts import Gaussian
from crl.nn.distributions import TanhGaussian, mean_and_log_std, one_of
from crl.stream import space_bounds

Values = Callable[[Tensor], Tensor]
"""Twin values: [M, 2] of an action each [M, act]; of discrete actions [M, 2, n] of every choice,
whatever action is given."""


_NEAR_ONE = 2.0**-23


class Actions(ABC):
    """An agent's view of an action space.

    Attributes:
        discrete: Whether actions are choices.
        size: Width of an action.
        policy_size: Width of a policy's output.
        critic_inputs: Width of the action that critics are given; 0: they value all choices.
        critic_outputs: Width of a critic's output.
    """

    discrete: bool
    size: int
    policy_size: int
    critic_inputs: int
    critic_outputs: int

    def __init__(self, low: FloatArray, high: FloatArray) -> None:
        self.low, self.high = low, high
        self.size = len(low)

    @abstractmethod
    def target_entropy(self, share: float | None) -> float:
        """The entropy to hold: ``share`` of a unit for each action dimension, or of log n.

        None: −1 for each dimension (Haarnoja et al. 2018); 0.02 of log n, since one slip in fifty
        steps undoes what a memory is tested for at its end.
        """

    @abstractmethod
    def uniform(self, rows: int, rng: np.random.Generator) -> FloatArray:
        """Actions [rows, act] drawn at random."""

    @abstractmethod
    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Actions [B, act] drawn from a policy's output [B, policy_size]."""

    @abstractmethod
    def mode(self, out: Tensor) -> Tensor:
        """The likeliest actions [B, act]."""

    @abstractmethod
    def to_env(self, action: FloatArray) -> FloatArray:
        """Actions as the environment's: scaled to its bounds, if it has any."""

    @abstractmethod
    def soft_value(self, out: Tensor, values: Values, generator: torch.Generator
                   ) -> tuple[Tensor, Tensor]:
        """E[min Q] and E[log π] over a policy's actions, [M] each: by a sample, or exactly."""

    @abstractmethod
    def value_of(self, action: Tensor, values: Tensor) -> Tensor:
        """Twin values [M, 2] of actions [M, act], from what :class:`Values` gives for them."""

    @abstractmethod
    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        """log π(action) [M] of actions [M, act]."""

    @abstractmethod
    def entropy(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """−E[log π] [M]: by a sample, or exactly."""

    @abstractmethod
    def outputs(self, out: Tensor, usable: Tensor) -> Gaussian | Tensor:
        """What methods compare of a policy's output; the same for all rows that are not usable."""


class BoundedActions(Actions):
    """A tanh-squashed Gaussian over a box."""

    discrete = False

    def __init__(self, low: FloatArray, high: FloatArray) -> None:
        super().__init__(low, high)
        self.policy_size, self.critic_inputs, self.critic_outputs = 2 * self.size, self.size, 1

    def target_entropy(self, share: float | None) -> float:
        return self.size * (-1.0 if share is None else share)

    def uniform(self, rows: int, rng: np.random.Generator) -> FloatArray:
        action: FloatArray = rng.uniform(-1, 1, (rows, self.size)).astype(np.float32)
        return action

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return TanhGaussian(out, self._noise(out, generator)).action

    def mode(self, out: Tensor) -> Tensor:
        return mean_and_log_std(out)[0].tanh()

    def to_env(self, action: FloatArray) -> FloatArray:
        scaled: FloatArray = np.clip(self.low + (action + 1) * ((self.high - self.low) / 2),
                                     self.low, self.high)
        return scaled

    def from_env(self, action: FloatArray) -> FloatArray:
        """The environment's actions as ones in [-1, 1]."""
        scaled: FloatArray = (2 * action - self.low - self.high) / (self.high - self.low)
        return scaled

    def soft_value(self, out: Tensor, values: Values, generator: torch.Generator
                   ) -> tuple[Tensor, Tensor]:
        policy = TanhGaussian(out, self._noise(out, generator))
        return values(policy.action).amin(-1), policy.log_prob

    def value_of(self, action: Tensor, values: Tensor) -> Tensor:
        return values

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        mean, log_std = mean_and_log_std(out)
        # Where tanh is 1 in float32 the draw is lost: the nearest one that is not stands for it.
        draw = action.clamp(-1 + _NEAR_ONE, 1 - _NEAR_ONE).atanh()
        return TanhGaussian(out, (draw - mean) * (-log_std).exp()).log_prob

    def entropy(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return -TanhGaussian(out, self._noise(out, generator)).log_prob

    def outputs(self, out: Tensor, usable: Tensor) -> Gaussian:
        mean, log_std = mean_and_log_std(out)
        usable = usable.unsqueeze(-1)
        return Gaussian(torch.where(usable, mean, 0), torch.where(usable, log_std.exp(), 1))

    def _noise(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randn((len(out), self.size), generator=generator).to(out.device)


class DiscreteActions(Actions):
    """A softmax over n choices; expectations are sums over them (Christodoulou 2019)."""

    discrete = True

    def __init__(self, choices: int) -> None:
        super().__init__(np.zeros(choices, np.float32), np.ones(choices, np.float32))
        self.policy_size, self.critic_inputs, self.critic_outputs = choices, 0, choices

    def target_entropy(self, share: float | None) -> float:
        return math.log(self.size) * (0.02 if share is None else share)

    def uniform(self, rows: int, rng: np.random.Generator) -> FloatArray:
        action: FloatArray = np.eye(self.size, dtype=np.float32)[rng.integers(self.size, size=rows)]
        return action

    def sample(self, out: Tensor, generator: torch.Generator) -> Tensor:
        return one_of(out, generator)

    def mode(self, out: Tensor) -> Tensor:
        return one_of(out, None)

    def to_env(self, action: FloatArray) -> FloatArray:
        return action

    def soft_value(self, out: Tensor, values: Values, generator: torch.Generator
                   ) -> tuple[Tensor, Tensor]:
        log_probs = out.log_softmax(-1)
        probs = log_probs.exp()
        return (probs * values(out).amin(-2)).sum(-1), (probs * log_probs).sum(-1)

    def value_of(self, action: Tensor, values: Tensor) -> Tensor:
        return (values * action.unsqueeze(-2)).sum(-1)

    def log_prob(self, out: Tensor, action: Tensor) -> Tensor:
        return (out.log_softmax(-1) * action).sum(-1)

    def entropy(self, out: Tensor, generator: torch.Generator) -> Tensor:
        log_probs = out.log_softmax(-1)
        return -(log_probs.exp() * log_probs).sum(-1)

    def outputs(self, out: Tensor, usable: Tensor) -> Tensor:
        return torch.where(usable.unsqueeze(-1), out.softmax(-1), 0)


def make_actions(space: Box | Discrete) -> Actions:
    """The view of a stream's action space."""
    if isinstance(space, Discrete):
        return DiscreteActions(int(space.n))
    return BoundedActions(*space_bounds(space))
