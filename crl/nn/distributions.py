"""Distributions over bounded actions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def mean_and_log_std(out: Tensor) -> tuple[Tensor, Tensor]:
    """A policy network's output [..., 2A] as mean and bounded log standard deviation [..., A]."""
    mean, log_std = out.chunk(2, dim=-1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


class TanhGaussian:
    """A squashed Gaussian sample, its log-density and its gradient (Haarnoja et al. 2018, app. C).

    The Jacobian log(1 − tanh²x) is computed as 2(log 2 − x − softplus(−2x)), which is exact where
    tanh saturates; adding 1e-6 inside the logarithm, as is common, is not.

    Args:
        out: Mean and log standard deviation before squashing, [B, 2A].
        noise: Standard normal draws, [B, A].

    Attributes:
        action: In (-1, 1), [B, A].
        log_prob: log π(action), [B].
    """

    def __init__(self, out: Tensor, noise: Tensor) -> None:
        mean, log_std = mean_and_log_std(out)
        self._spread = log_std.exp() * noise
        x = mean + self._spread
        self.action = x.tanh()
        terms = 2 * (x + F.softplus(-2 * x)) - log_std - 0.5 * noise.square()
        self.log_prob = terms.sum(-1) - mean.shape[-1] * (_HALF_LOG_TAU + 2 * math.log(2))
        self._within = out[..., mean.shape[-1]:] == log_std

    def to_out(self, at_action: Tensor, at_log_prob: Tensor) -> Tensor:
        """The gradient at ``out`` [B, 2A], from those at ``action`` [B, A] and ``log_prob`` [B]."""
        at_log_prob = at_log_prob.unsqueeze(-1)
        at_mean = at_action * (1 - self.action.square()) + 2 * at_log_prob * self.action
        at_log_std = (at_mean * self._spread - at_log_prob) * self._within
        return torch.cat((at_mean, at_log_std), -1)


def one_of(scores: Tensor, generator: torch.Generator | None) -> Tensor:
    """One choice a row, as ones and zeros: log-probabilities [..., n], of any sum → [..., n].

    Args:
        scores: See above.
        generator: Source of the draws, on the CPU; None: the likeliest choices.
    """
    if generator is not None:
        uniform = torch.rand(scores.shape, generator=generator).to(scores.device)
        scores = scores - (-uniform.clamp_min(1e-30).log()).log()  # Gumbel's trick
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype)


def gaussian_kl(mean_p: Tensor, std_p: Tensor, mean_q: Tensor, std_q: Tensor) -> Tensor:
    """KL(p‖q) of independent normals, summed over the last axis: [..., A] → [...]."""
    ratio = (std_p / std_q).square()
    shift = ((mean_p - mean_q) / std_q).square()
    return 0.5 * (ratio + shift - 1 - torch.log(ratio)).sum(-1)
