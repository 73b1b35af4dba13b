"""Coloured noise: draws that are correlated over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def colouring(length: int, exponent: float) -> Tensor:
    """The matrix [n, length] that makes n white draws a sequence with the spectrum 1/f^exponent.

    Timmer and König 1995, "On generating power law noise": cosines and sines of all frequencies,
    scaled; frequency 0 is taken for the lowest there is. Every number of a sequence has variance 1.
    """
    time = torch.arange(length, dtype=torch.float64)
    rows = []
    for k in range(length // 2 + 1):
        scale = (max(k, 1) / length) ** (-exponent / 2)
        phase = 2 * math.pi * k * time / length
        if 2 * k in (0, length):  # real: as much power as any other frequency in one row
            rows.append(math.sqrt(2) * scale * phase.cos())
        else:
            rows += [scale * phase.cos() * 2, scale * phase.sin() * 2]
    matrix = torch.stack(rows)
    return (matrix / matrix.square().sum(0).sqrt()).float()
