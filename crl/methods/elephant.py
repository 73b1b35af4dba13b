"""Elephant activations: bumps instead of ReLU, so that learning here changes little elsewhere.

Lan and Mahmood 2023, "Elephant Neural Networks: Born to Be a Continual Learner"; the learned form
and the settings for SAC from Lan, Vasan and Mahmood 2025, "Efficient Reinforcement Learning by
Reducing Forgetting with Elephant Activation Functions".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crl.config import require
from crl.methods.base import Learner, Method
from crl.nn.layers import Trunk
from crl.stream import TaskStream


class Elephant(Method):
    """h / (1 + |x/σ|ᵈ) in the place of ReLU; log h and log σ of every unit are learned.

    Output and gradient vanish away from 0. For the bumps of a layer to lie in different places, its
    biases begin evenly spread. The published networks normalise before the activation, as
    ``agent.layer_norm`` does.
    """

    name = "elephant"
    paper = "Lan & Mahmood 2023"
    needs = ("hidden layers",)
    claims = ("activations",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`Elephant`.

        Attributes:
            parts: Whose activations.
            d: How steep the bumps are.
            h, sigma: Their height and half width at the start.
            bias_std: Standard deviation of the biases at the start.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        d: float = 4.0
        h: float = 1.0
        sigma: float = 1.0
        bias_std: float = 2.0

        def __post_init__(self) -> None:
            require(self.d >= 2, "d must be 2 or more")
            require(self.h > 0 and self.sigma > 0, "h and sigma must be above 0")
            require(self.bias_std >= 0, "bias_std must not be negative")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        for part in self.parts:
            require(part.name not in learner.renewed,
                    f"method {self.name!r} changes the form of {part.name!r}, which agent.reset "
                    f"would draw in the old one; leave {part.name!r} out of it")
            for network in part.networks:
                use_elephants(network.trunk, self.config)


class ElephantActivation(nn.Module):
    """h / (1 + |x/σ|ᵈ) with a height and a width for each unit."""

    def __init__(self, units: int, config: Elephant.Config) -> None:
        super().__init__()
        self.d = config.d
        self.log_h = nn.Parameter(torch.full((units,), math.log(config.h)))
        self.log_sigma = nn.Parameter(torch.full((units,), math.log(config.sigma)))

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """[B, units] → [B, units]."""
        squares = (x * torch.exp(-self.log_sigma)).square()
        return self.log_h.exp() / (1 + squares.pow(self.d / 2))  # fast for d = 4: a square again


@torch.no_grad()
def use_elephants(trunk: Trunk, config: Elephant.Config) -> None:
    """Replaces a trunk's activations, and spreads its biases over ±√3 ``bias_std``."""
    bound = math.sqrt(3) * config.bias_std
    activations = []
    for dense in trunk.dense:
        bias = dense.bias
        assert isinstance(bias, Tensor)
        bias.copy_(torch.linspace(-bound, bound, len(bias)))
        activations.append(ElephantActivation(len(bias), config).to(bias.device))
    trunk.activation = nn.ModuleList(activations)
