"""Distributions over bounded actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def tanh_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A squashed Gaussian sample and its log-density (Haarnoja et al. 2018, appendix C).

    Args:
        mean, log_std: Of the Gaussian before squashing, [B, A].
        noise: Standard normal draws, [B, A].

    Returns:
        Actions in (-1, 1), [B, A], and log π(a), [B]. The Jacobian log(1 − tanh²x) is computed as
        2(log 2 − x − softplus(−2x)), which is exact where tanh saturates; adding 1e-6 inside the
        logarithm, as is common, is not.
    """
    x = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - _HALF_LOG_TAU
    log_jacobian = 2 * (math.log(2) - x - F.softplus(-2 * x))
    return x.tanh(), (log_normal - log_jacobian).sum(-1)


def gaussian_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p‖q) of independent normals, summed over the last axis: [..., A] → [...]."""
    ratio = (std_p / std_q).square()
    shift = ((mean_p - mean_q) / std_q).square()
    return 0.5 * (ratio + shift - 1 - torch.log(ratio)).sum(-1)
