"""A causal transformer whose every layer has a path of its own, for modulators to find."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.nn.attention import join_heads, split_heads
from crl.nn.layers import Dense


class Sight(NamedTuple):
    """What each of T tokens sees of the others."""

    distance: Tensor  # [T, T] int64, how far back, below the reach
    hidden: Tensor    # [T, T] or [B, 1, T, T] bool, what it does not see


def sight(length: int, reach: int, valid: Tensor | None = None,
          device: torch.device | str = "cpu") -> Sight:
    """Causal sight.

    Args:
        length: T.
        reach: As of :class:`Attention`.
        valid: [B, T], false at padding; None: there is none.
        device: Where to.
    """
    place = torch.arange(length, device=device)
    distance = place[:, None] - place
    hidden = (distance < 0) | (distance >= reach)
    if valid is not None:
        # A padded token sees itself, since a softmax over nothing is not a number.
        hidden = ((hidden | ~valid[:, None]) & (distance != 0)).unsqueeze(1)
    return Sight(distance.clamp(0, reach - 1), hidden)


class Attend(nn.Module):
    """softmax(QKᵀ/√d + mask) V of each head.

    Args:
        heads: Their number.
        head_size: d.
    """

    def __init__(self, heads: int, head_size: int) -> None:
        super().__init__()
        self.heads, self.head_size = heads, head_size

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """[B, heads, T, d] each, and [1 or B, heads, T, T] → [B, heads, T, d]."""
        return F.scaled_dot_product_attention(query, key, value, mask)


class Attention(nn.Module):
    """Causal self-attention, told apart by how far back a token lies rather than by where it is.

    A learned number for each distance is added to each head's scores (Raffel et al. 2020), so that
    what stands in front of a sequence as padding changes nothing of what follows.

    Args:
        width: Of tokens.
        heads: Their number; divides the width.
        reach: Distances that are told apart; tokens further back are not seen.
        generator: Source of the initial weights.
    """

    def __init__(self, width: int, heads: int, reach: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = Dense(width, width, generator)
        self.key = Dense(width, width, generator)
        self.value = Dense(width, width, generator)
        self.attend = Attend(heads, width // heads)
        self.out = Dense(width, width, generator)
        self.distance = nn.Parameter(torch.zeros(heads, reach))

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        """[B, T, width] → [B, T, width]."""
        query, key, value = (split_heads(project(x), self.attend.heads)
                             for project in (self.query, self.key, self.value))
        mask = self.distance[:, sight.distance].masked_fill(sight.hidden, float("-inf"))
        return cast(Tensor, self.out(join_heads(self.attend(query, key, value, mask))))


class FeedForward(nn.Module):
    """Two layers, four times as wide between them."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.wide = Dense(width, 4 * width, generator)
        self.narrow = Dense(4 * width, width, generator)

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] → [..., width]."""
        return cast(Tensor, self.narrow(F.gelu(self.wide(x), approximate="tanh")))


class Block(nn.Module):
    """Attention and a feed-forward network, each normalised before and added to what it got."""

    def __init__(self, width: int, heads: int, reach: int, generator: torch.Generator) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads, reach, generator)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = FeedForward(width, generator)

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        x = x + self.attention(self.norm_attention(x), sight)
        return cast(Tensor, x + self.mlp(self.norm_mlp(x)))


class Transformer(nn.Module):
    """Blocks as in GPT-2 (Radford et al. 2019), without positions: distances are the attention's.

    Args:
        width: Of tokens.
        layers: Their number.
        heads: Of each attention.
        reach: As of :class:`Attention`.
        generator: Source of the initial weights.
    """

    def __init__(self, width: int, layers: int, heads: int, reach: int,
                 generator: torch.Generator) -> None:
        super().__init__()
        self._reach = reach
        self.blocks = nn.ModuleList(Block(width, heads, reach, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tokens [B, T, width], and [B, T], false at padding → [B, T, width]."""
        seen = sight(x.shape[1], self._reach, valid, x.device)
        for block in self.blocks:
            x = block(x, seen)
        return cast(Tensor, self.norm(x))
