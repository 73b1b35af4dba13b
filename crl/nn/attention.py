"""Attention with several heads, and the sinusoids that tell it where."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor) -> Tensor:
    """softmax(QKᵀ/√d + mask) V, head by head.

    Args:
        query: [..., Q, W]; W is split among the heads.
        key, value: [..., K, W].
        heads: Their number.
        mask: Added to the scores, [..., heads or 1, Q, K]; or bool, true where attended.

    Returns:
        [..., Q, W].
    """
    query, key, value = (split_heads(t, heads) for t in (query, key, value))
    return join_heads(F.scaled_dot_product_attention(query, key, value, mask))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[..., L, W] → [..., heads, L, W/heads]."""
    return x.view(*x.shape[:-1], heads, -1).transpose(-2, -3)


def join_heads(x: Tensor) -> Tensor:
    """[..., heads, L, W/heads] → [..., L, W]."""
    return x.transpose(-2, -3).flatten(-2)


def sinusoids(length: int, width: int) -> Tensor:
    """Positions 0 … length − 1 as sines and cosines (Vaswani et al. 2017), [length, width]."""
    rate = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.cat((angle.sin(), angle.cos()), -1)[:, :width]
