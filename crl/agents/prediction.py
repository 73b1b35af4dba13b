"""What a memory can be trained to tell besides values: what will be seen next."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.nn.layers import Dense
from crl.sequences import Sequences


class FuturePredictor(nn.Module):
    """The next observation from features and an action, as the mean of a unit Gaussian.

    A memory that predicts what comes next holds what there is to know of the past: DRL² trains it
    by this alone, −log p(oₜ₊₁ | hₜ, aₜ), and its values do not reach it.

    Args:
        features, action, obs: Widths.
        hidden: Width of the one hidden layer.
        generator: Source of the initial weights.
    """

    def __init__(self, features: int, action: int, obs: int, hidden: int,
                 generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = Dense(features + action, hidden, generator)
        self.out = Dense(hidden, obs, generator)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[..., features], [..., act] → [..., obs]."""
        out: Tensor = self.out(F.relu(self.hidden(torch.cat((features, action), -1))))
        return out

    def loss(self, features: Tensor, batch: Sequences) -> Tensor:
        """½ ‖oₜ₊₁ − prediction‖², a mean over all usable steps; ``features`` are of every row."""
        found = self(features[:, :-1], batch.action[:, 1:])
        error = 0.5 * (found - batch.obs[:, 1:]).square().sum(-1)
        mean: Tensor = error[batch.usable].mean()
        return mean


class SelfPredictor(nn.Module):
    """Linear maps between the features of the past and a code of what comes next, both ways.

    Bidirectional self-prediction (Tang et al. 2023, "Understanding Self-Predictive Learning for
    Reinforcement Learning"): no observation has to be reconstructed. Neither side's representation
    may follow the other's error towards itself, and the maps must learn faster than the
    representations; else all collapses to a constant.

    Args:
        features, action, code: Widths.
        generator: Source of the initial weights.
    """

    def __init__(self, features: int, action: int, code: int, generator: torch.Generator) -> None:
        super().__init__()
        self.forth = Dense(features + action, code, generator)
        self.back = Dense(code, features, generator)

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """[..., features], [..., act] → [..., code]."""
        out: Tensor = self.forth(torch.cat((features, action), -1))
        return out

    def loss(self, features: Tensor, action: Tensor, code: Tensor) -> Tensor:
        """Of n pairs: ½ ‖forth(features, action) − code‖² + ½ ‖back(code) − features‖², a mean.

        Args:
            features: [n, features], of the past.
            action: [n, act].
            code: [n, code], of what was seen next.
        """
        there = (self(features, action) - code.detach()).square().sum(-1)
        back = (self.back(code) - features.detach()).square().sum(-1)
        mean: Tensor = 0.5 * (there + back).mean()
        return mean
