"""The decision transformer of L2M, and what it calls an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.nn.layers import Dense
from crl.nn.transformer import Transformer

_LONG = 100  # steps whose rewards make a return of one


@dataclass(frozen=True)
class Bins:
    """Numbers in [-1, 1] as one of so many equal bins; a bin stands for its centre.

    The published code gives the lower edge back, which is half a bin too low, always.
    """

    count: int

    def of(self, values: Tensor) -> Tensor:
        """The bin that each number lies in, int64 of the same shape."""
        return ((values + 1) * (self.count / 2)).long().clamp(0, self.count - 1)

    def centre(self, bins: Tensor) -> Tensor:
        """The middle of each bin."""
        return (2 * bins + 1) / self.count - 1


class DecisionTransformer(nn.Module):
    """From the last steps of an episode to the next action (Chen et al. 2021; Schmied et al. 2023).

    A step is a token of what is observed and, with ``returns``, one of the return that is to come
    and one of the reward that came. All numbers of an action are told at once from the step's last
    token. There is no token of actions: policies that see what they did just now repeat it.

    Args:
        obs_size, action_size: Widths of the vectors.
        width, layers, heads: Of the transformer.
        window: Steps that it sees.
        bins: Of each number of an action.
        returns: Whether it is told rewards.
        generator: Source of the initial weights.
    """

    def __init__(self, obs_size: int, action_size: int, *, width: int, layers: int, heads: int,
                 window: int, bins: int, returns: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.bins = Bins(bins)
        self.state = Dense(obs_size, width, generator)
        self.rewards = nn.ModuleList(Dense(1, width, generator) for _ in range(2 * returns))
        self.norm = nn.LayerNorm(width)
        self._tokens = 1 + len(self.rewards)
        self.transformer = Transformer(width, layers, heads, self._tokens * window, generator)
        self.head = Dense(width, action_size * bins, generator)

    def forward(self, obs: Tensor, to_go: Tensor, reward: Tensor, valid: Tensor) -> Tensor:
        """What the actions of T steps are, as log-probabilities of any sum.

        Args:
            obs: [B, T, obs], scaled.
            to_go: [B, T], the return that is to come.
            reward: [B, T], of the step before.
            valid: [B, T] bool, false at padding in front of an episode.

        Returns:
            [B, T, act, bins].
        """
        told = (to_go / _LONG, reward)[:len(self.rewards)]
        tokens = [self.state(obs), *(embed(x.unsqueeze(-1)) for embed, x in
                                     zip(self.rewards, told, strict=True))]
        x = self.norm(torch.stack(tokens, 2).flatten(1, 2))  # [B, T · tokens, width]
        x = self.transformer(x, valid.repeat_interleave(self._tokens, 1))
        logits = self.head(x[:, self._tokens - 1::self._tokens])
        return cast(Tensor, logits.unflatten(-1, (-1, self.bins.count)))

    def loss(self, logits: Tensor, action: Tensor, valid: Tensor) -> Tensor:
        """Mean cross-entropy with actions [B, T, act] in [-1, 1], over what is no padding."""
        return F.cross_entropy(logits[valid].flatten(0, 1),
                               self.bins.of(action[valid]).flatten())
