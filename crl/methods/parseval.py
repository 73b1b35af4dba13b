"""Parseval regularisation: weight matrices are kept near orthogonal, so that they stay trainable.

Chung, Cherif, Meger and Precup 2024, "Parseval Regularization for Continual Reinforcement
Learning"; the penalty is that of Cissé et al. 2017, "Parseval Networks: Improving Robustness to
Adversarial Examples".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.config import require
from crl.methods.base import Method
from crl.methods.parts import Part
from crl.replay import Samples


class Parseval(Method):
    """Adds β Σ ‖W Wᵀ − s I‖² (Frobenius) over the weight matrices that tasks share.

    At its minimum, 0, all singular values of every W are √s. It is taken on the smaller side: WᵀW
    of a tall matrix. The other side, used by the released code whatever the shape, differs by
    s² times the difference of the sides, a constant, and has larger products.
    """

    name = "parseval"
    paper = "Chung et al. 2024"
    claims = ("layers",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`Parseval`.

        Attributes:
            parts: Which parts to regularise; published: policy and value networks.
            coefficient: β. Published: 1e-3 or 1e-4, at width 64; the released code multiplies it by
                (64 / width)².
            scale: s. Published: 2, which fits ReLU.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        coefficient: float = 1e-3
        scale: float = 2.0

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.scale > 0, "scale must be above 0")

    config: Config

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part not in self.parts:
            return None
        parameters = part.parameters()
        penalties = [distance(parameters[name], self.config.scale) for name in part.kernels]
        return self.config.coefficient * torch.stack(penalties).sum()


def distance(kernel: Tensor, scale: float) -> Tensor:
    """‖W Wᵀ − s I‖² or ‖WᵀW − s I‖², whichever is smaller; zero iff W/√s is (semi-)orthogonal."""
    size_in, size_out = kernel.shape
    gram = kernel @ kernel.t() if size_in <= size_out else kernel.t() @ kernel
    return (gram - scale * torch.eye(len(gram), device=gram.device)).square().sum()
