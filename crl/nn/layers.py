"""Dense layers, alone or as an ensemble in one batched product.

Initial weights come from a generator that is passed in: ``torch.nn.Linear`` would draw from the
global one. Kernels are stored [in, out], with the ensemble in front: [E, in, out].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dense(nn.Module):
    """Affine layer. Uniform(±1/√in) for kernel and bias, PyTorch's default for ``nn.Linear``.

    Args:
        size_in, size_out: Widths.
        generator: Source of the initial weights.
        ensemble: E independent layers: [B, in] or [E, B, in] → [E, B, out]; None: one layer,
            [B, in] → [B, out].
    """

    def __init__(self, size_in: int, size_out: int, generator: torch.Generator,
                 ensemble: int | None = None) -> None:
        super().__init__()
        stack = () if ensemble is None else (ensemble,)
        bound = 1 / math.sqrt(size_in)
        self.kernel = nn.Parameter(torch.empty(*stack, size_in, size_out))
        self.bias = nn.Parameter(torch.empty(*stack, size_out))
        with torch.no_grad():
            self.kernel.uniform_(-bound, bound, generator=generator)
            self.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel.ndim == 2:
            return torch.addmm(self.bias, x, self.kernel)
        if x.ndim == 2:
            x = x.expand(len(self.kernel), *x.shape)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.kernel)


class LayerNorm(nn.Module):
    """Layer normalisation with a scale and shift per ensemble member."""

    def __init__(self, size: int, ensemble: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        stack = () if ensemble is None else (ensemble,)
        self.scale = nn.Parameter(torch.ones(*stack, size))
        self.shift = nn.Parameter(torch.zeros(*stack, size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if self.scale.ndim == 1:
            return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)
        normal = F.layer_norm(x, self.scale.shape[1:], eps=self.eps)
        return torch.addcmul(self.shift.unsqueeze(1), normal, self.scale.unsqueeze(1))


class Trunk(nn.Module):
    """Hidden layers: Dense, then layer normalisation if asked for, then ReLU.

    Args:
        size_in: Width of the input.
        hidden: Width of each hidden layer.
        generator, ensemble: As in :class:`Dense`.
        layer_norm: Normalise before each activation.
    """

    def __init__(self, size_in: int, hidden: Sequence[int], generator: torch.Generator, *,
                 ensemble: int | None = None, layer_norm: bool = True) -> None:
        super().__init__()
        sizes = (size_in, *hidden)
        self.size_out = sizes[-1]
        self.dense = nn.ModuleList(
            Dense(a, b, generator, ensemble) for a, b in pairwise(sizes)
        )
        self.norm = nn.ModuleList(LayerNorm(b, ensemble) for b in hidden) if layer_norm else None

    def forward(self, x: Tensor) -> Tensor:
        for i, dense in enumerate(self.dense):
            x = dense(x)
            if self.norm is not None:
                x = self.norm[i](x)
            x = F.relu(x)
        return x


class Heads(nn.Module):
    """One output layer per task on a common trunk.

    Each head is a parameter of its own, so a head that a loss does not touch has no gradient and
    no optimiser moves it.
    """

    def __init__(self, size_in: int, size_out: int, heads: int, generator: torch.Generator,
                 ensemble: int | None = None) -> None:
        super().__init__()
        self.items = nn.ModuleList(
            Dense(size_in, size_out, generator, ensemble) for _ in range(heads)
        )

    def forward(self, x: Tensor, head: int | Tensor) -> Tensor:
        """The output of one head, or of each row's own head ([B] int64): [(E,) B, out]."""
        if not isinstance(head, Tensor):
            out: Tensor = self.items[head](x)
            return out
        # Only the heads that occur: the others must keep having no gradient.
        result: Tensor | None = None
        for h in torch.unique(head).tolist():
            mask = (head == h).unsqueeze(-1)
            own = self.items[h](x)
            result = own if result is None else torch.where(mask, own, result)
        assert result is not None
        return result
