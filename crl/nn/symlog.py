"""Numbers of any size, as networks can be trained on them (Hafner et al. 2023, DreamerV3)."""

from __future__ import annotations

import torch
from torch import Tensor


def symlog(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """The inverse of :func:`symlog`."""
    return x.sign() * x.abs().expm1()


class TwoHot:
    """Numbers as distributions over bins that are equally far apart in symlog.

    A number's distribution is on the two bins beside it, so that their mean is the number; what is
    beyond the last bin is taken for it.

    Args:
        bins: How many.
        limit: The outermost bins, in symlog.
    """

    def __init__(self, bins: int = 255, limit: float = 20.0) -> None:
        self.bins, self._limit = bins, limit
        self._gap = 2 * limit / (bins - 1)

    def loss(self, logits: Tensor, values: Tensor) -> Tensor:
        """Cross-entropy: [..., bins], [...] → [...]."""
        place = ((symlog(values) + self._limit) / self._gap).clamp(0, self.bins - 1)
        below = place.long().clamp(max=self.bins - 2)
        share = place - below
        log_probs = logits.log_softmax(-1)
        at = log_probs.gather(-1, torch.stack((below, below + 1), -1))
        return -(1 - share) * at[..., 0] - share * at[..., 1]

    def mean(self, logits: Tensor) -> Tensor:
        """The number that logits [..., bins] stand for: symexp of the mean bin, [...]."""
        centres = torch.linspace(-self._limit, self._limit, self.bins, device=logits.device)
        return symexp(logits.softmax(-1) @ centres)
