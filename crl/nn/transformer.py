"""A causal transformer whose every layer has a path of its own, for modulators to find."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl.nn.attention import join_heads, split_heads
from crl.nn.layers import Dense


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

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """[B, T, width], and [B, T], false at padding → [B, T, width]."""
        query, key, value = (split_heads(project(x), self.attend.heads)
                             for project in (self.query, self.key, self.value))
        found = self.attend(query, key, value, self._mask(x, valid))
        return cast(Tensor, self.out(join_heads(found)))

    def _mask(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """Added to the scores, [1 or B, heads, T, T]."""
        place = torch.arange(x.shape[1], device=x.device)
        distance = place[:, None] - place
        seen = (distance >= 0) & (distance < self.distance.shape[1])
        mask = self.distance[:, distance.clamp(0, self.distance.shape[1] - 1)].unsqueeze(0)
        if valid is not None:
            # A padded token sees itself, since a softmax over nothing is not a number.
            seen = (seen & valid[:, None, :]) | (distance == 0)
            seen = seen.unsqueeze(1)
        return mask.masked_fill(~seen, float("-inf"))


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

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm_attention(x), valid)
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
        self.blocks = nn.ModuleList(Block(width, heads, reach, generator) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """Tokens [B, T, width], and [B, T], false at padding → [B, T, width]."""
        for block in self.blocks:
            x = block(x, valid)
        return cast(Tensor, self.norm(x))
