"""Complex modes xₜ = a xₜ₋₁ + bₜ as pairs of reals: what states are kept and exported as."""

from __future__ import annotations

import torch
from torch import Tensor

from crl.nn.scan import linear_scan

Pair = tuple[Tensor, Tensor]
"""Real and imaginary parts."""


def advance(a: Pair, b: Pair, state: Tensor) -> Tensor:
    """One step, in real arithmetic.

    Args:
        a: [P] each, or [B, P].
        b: [B, P] each.
        state: [B, 2P], real parts, then imaginary.

    Returns:
        The next state.
    """
    real, imag = state.chunk(2, -1)
    return torch.cat((b[0] + a[0] * real - a[1] * imag, b[1] + a[0] * imag + a[1] * real), -1)


def scan(a: Pair, b: Pair, state: Tensor, first: Tensor) -> Tensor:
    """All steps: ``a`` [P] or [B, L, P] each, ``b`` [B, L, P] each, ``state`` [B, 2P], ``first``
    [B, L] → states [B, L, 2P].
    """
    x = linear_scan(torch.complex(*a), torch.complex(*b), torch.complex(*state.chunk(2, -1)), first)
    return torch.cat((x.real, x.imag), -1)
