"""Modulators: small learned changes to what one module of a frozen network gives."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from crl.config import require_positive
from crl.nn.layers import Dense

Own = Mapping[str, Tensor]
"""The tensors of a slot for one module, by name."""


class Modulator(ABC):
    """A kind of change, the same for all modules that it is given to.

    A kind need only say how its tensors begin and what they do. It is written for a batch in which
    each sample has tensors of its own; where all have the same ones, these come as a batch of one.
    """

    def fits(self, module: nn.Module) -> bool:
        """Whether it can change what ``module`` gives."""
        return True

    @abstractmethod
    def init(self, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        """The tensors of a new slot, with which :meth:`apply` changes nothing."""

    @abstractmethod
    def apply(self, x: Tensor, out: Tensor, own: Own) -> Tensor:
        """What is given in the place of ``out``.

        Args:
            x: The module's (first) input, [B, …, in].
            out: What it made of it, [B, …, out].
            own: What :meth:`init` gave, learned since; each tensor with a first dimension of B, or
                of 1 for all samples alike.
        """

    def merge(self, module: nn.Module, own: Own) -> bool:
        """Has ``module`` do by itself what it does when changed, if that can be.

        Args:
            module: A copy of the module, to be changed in place, outside autograd.
            own: What :meth:`init` gave, learned since.

        Returns:
            Whether it does now; if not, it is as it was.
        """
        return False


@dataclass(frozen=True)
class LoRA(Modulator):
    """x ↦ f(x) + α/r · x A B for a dense layer f: a change of its kernel, of low rank.

    Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models". A [in, r] is drawn as
    PyTorch draws kernels, uniformly from ±1/√in; B [r, out] is zero at first.

    Attributes:
        rank: r.
        alpha: α.
    """

    rank: int = 8
    alpha: float = 16.0

    def __post_init__(self) -> None:
        require_positive(self, "rank", "alpha")

    def fits(self, module: nn.Module) -> bool:
        return isinstance(module, (Dense, nn.Linear))

    def init(self, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        size_in, size_out = kernel(module).shape
        bound = 1 / math.sqrt(size_in)
        a = torch.empty(size_in, self.rank).uniform_(-bound, bound, generator=generator)
        return {"a": a, "b": torch.zeros(self.rank, size_out)}

    def apply(self, x: Tensor, out: Tensor, own: Own) -> Tensor:
        change = rows(x, own["a"]) @ own["a"] @ own["b"]
        return out + self.alpha / self.rank * change.view_as(out)

    def merge(self, module: nn.Module, own: Own) -> bool:
        kernel(module).add_(own["a"] @ own["b"], alpha=self.alpha / self.rank)
        return True


@dataclass(frozen=True)
class FiLM(Modulator):
    """x ↦ scale ⊙ f(x) + shift, unit by unit of what f gives; 1 and 0 at first.

    Perez et al. 2018, "FiLM: Visual Reasoning with a General Conditioning Layer".

    Attributes:
        width: Of what the module gives; None: as a dense layer or a layer normalisation says.
    """

    width: int | None = None

    def fits(self, module: nn.Module) -> bool:
        return self.width is not None or isinstance(module, (Dense, nn.Linear, nn.LayerNorm))

    def init(self, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        width = self.width
        if width is None:
            width = (module.normalized_shape[-1] if isinstance(module, nn.LayerNorm)
                     else kernel(module).shape[1])
        return {"scale": torch.ones(width), "shift": torch.zeros(width)}

    def apply(self, x: Tensor, out: Tensor, own: Own) -> Tensor:
        changed = rows(out, own["scale"]) * own["scale"].unsqueeze(1)
        if "shift" in own:
            changed = changed + own["shift"].unsqueeze(1)
        return changed.view_as(out)

    def merge(self, module: nn.Module, own: Own) -> bool:
        weights, bias = _by_output(module), getattr(module, "bias", None)
        if weights is None or (bias is None and "shift" in own):
            return False
        weights.mul_(own["scale"])
        if bias is not None:
            bias.mul_(own["scale"]).add_(own.get("shift", 0))
        return True


@dataclass(frozen=True)
class IA3(FiLM):
    """x ↦ scale ⊙ f(x), unit by unit of what f gives; 1 at first.

    Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context
    Learning", which scales keys, values and the inside of feed-forward layers.
    """

    def init(self, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        return {"scale": super().init(module, generator)["scale"]}


@dataclass(frozen=True)
class Prefix(Modulator):
    """Q ↦ f(Q, …) + g · softmax(Q Kᵀ/√d) V: learned keys K and values V for an attention f.

    Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", with a softmax
    of their own and a gate g for each head, zero at first, as in Zhang et al. 2023,
    "LLaMA-Adapter: Efficient Fine-tuning of Language Models with Zero-init Attention". In one
    softmax with the sequence's own keys, a prefix changes something from the start.

    It changes a module that is called with queries [B, heads, T, d] first, gives a tensor of that
    shape, and says its ``heads`` and its ``head_size`` d.

    Attributes:
        length: How many keys, and values.
    """

    length: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "length")

    def fits(self, module: nn.Module) -> bool:
        return all(isinstance(getattr(module, n, None), int) for n in ("heads", "head_size"))

    def init(self, module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
        heads, size = cast(tuple[int, int], (module.heads, module.head_size))
        key, value = torch.randn(2, heads, self.length, size, generator=generator)
        return {"key": key, "value": value, "gate": torch.zeros(heads)}

    def apply(self, x: Tensor, out: Tensor, own: Own) -> Tensor:
        scores = x @ own["key"].mT / math.sqrt(x.shape[-1])
        return out + own["gate"][..., None, None] * (scores.softmax(-1) @ own["value"])


def rows(x: Tensor, own: Tensor) -> Tensor:
    """[B, …, d] as [1, N, d] or [B, N, d], which a slot's tensor [1 or B, …] can be applied to."""
    return x.reshape(len(own), -1, x.shape[-1])


def kernel(module: nn.Module) -> Tensor:
    """The weights of a dense layer, [in, out], as a view outside autograd."""
    if isinstance(module, Dense):
        return module.kernel.detach()
    assert isinstance(module, nn.Linear)
    return module.weight.detach().t()


def _by_output(module: nn.Module) -> Tensor | None:
    """What multiplies each of the outputs, [..., out]; None: nothing does."""
    if isinstance(module, nn.LayerNorm):
        return cast(Tensor | None, module.weight)
    return kernel(module) if isinstance(module, (Dense, nn.Linear)) else None
