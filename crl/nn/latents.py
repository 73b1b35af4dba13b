"""Categorical latents: groups of one-of-n choices (Hafner et al. 2021, DreamerV2)."""

from __future__ import annotations

import torch
from torch import Tensor

from crl.nn.distributions import one_of

UNIFORM = 0.01  # share of the uniform distribution, which keeps every choice possible


def log_probs(logits: Tensor, classes: int) -> Tensor:
    """Logits [..., groups · classes] → log-probabilities [..., groups, classes]."""
    return _log_softmax(logits.view(*logits.shape[:-1], -1, classes))


def mixed(logits: Tensor) -> Tensor:
    """Logits [..., n] → log-probabilities with a hundredth of the uniform distribution mixed in."""
    return ((1 - UNIFORM) * _log_softmax(logits).exp() + UNIFORM / logits.shape[-1]).log()


def sample(chances: Tensor, generator: torch.Generator | None) -> Tensor:
    """One choice a group, as ones and zeros: [..., groups, classes] → [..., groups · classes].

    Its gradient is that of the probabilities (straight through).

    Args:
        chances: Log-probabilities.
        generator: Source of the draws, on the CPU; None: the likeliest choices.
    """
    choice = one_of(chances.detach(), generator)
    if chances.requires_grad:
        probs = chances.exp()
        choice = choice + probs - probs.detach()
    return choice.flatten(-2)


def entropy(p: Tensor) -> Tensor:
    """Summed over groups, in nats: log-probabilities [..., groups, classes] → [...]."""
    return -(p.exp() * p).sum((-2, -1))


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p‖q), summed over groups: log-probabilities [..., groups, classes] → [...]."""
    return (p.exp() * (p - q)).sum((-2, -1))


def balanced_kl(posterior: Tensor, prior: Tensor, free: float) -> tuple[Tensor, Tensor]:
    """KL(sg(posterior)‖prior) and KL(posterior‖sg(prior)) [...].

    The first teaches the prior what comes, the second the posterior to be told, which has no
    gradient below ``free``: so much may come unforeseen. Both of mixed distributions, so that
    nothing is infinitely surprising.
    """
    posterior, prior = mixed(posterior), mixed(prior)
    return kl(posterior.detach(), prior), kl(posterior, prior.detach()).clamp(min=free)


def _log_softmax(logits: Tensor) -> Tensor:
    """torch's own takes four times as long where there are eight classes."""
    shifted = logits - logits.detach().amax(-1, keepdim=True)
    return shifted - shifted.exp().sum(-1, keepdim=True).log()
