"""Relevance mapping: every task learns which weights matter to it, and freezes those.

Kaushik et al. 2021, "Understanding Catastrophic Forgetting and Remembering in Continual Learning
with Optimal Relevance Mapping".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crl import seeding
from crl.config import require
from crl.methods.base import Learner
from crl.methods.freezing import Freezing, whole
from crl.methods.parts import Part
from crl.methods.per_head import PerHead
from crl.nn.layers import Dense
from crl.stream import Task, TaskStream


class RelevanceMasks(Freezing):
    """Gives every hidden layer the kernel W ⊙ 1[sₜ > 0] in task t, and learns W and sₜ together.

    The scores sₜ have the straight-through gradient of the sigmoid σ(sₜ). When a task ends, the
    weights that its mask lets through are frozen; a later task may let them through too, but only
    trains the others. Biases and normalisation are trained in the first task only, heads and
    scores in their own task only, so policies of finished tasks never change again, to the last
    bit. Masks on units would not keep them where there is layer normalisation, whose statistics
    mix all units: hence masks on weights, as in the paper.

    The paper's relevances are soft while they are learned and rounded when the task ends. Here the
    mask is binary from the first step on: what is kept is what was trained.
    """

    name = "relevance-masks"
    paper = "Kaushik et al. 2021"
    needs = ("boundaries", "heads", "hidden layers")
    claims = ("kernels", "layers", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`RelevanceMasks`.

        Attributes:
            parts: Which parts to mask.
            density: Share of the weights, drawn at random, that a task's mask lets through at
                first. About (1 − density)ᵗ of them are still free after t tasks.
        """

        parts: tuple[str, ...] = ("policy",)
        density: float = 0.5

        def __post_init__(self) -> None:
            require(0 < self.density < 1, "density must be between 0 and 1")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        rng = seeding.generator(self.seed, self.name)
        for part in self.parts:
            for network in part.networks:
                trunk, heads = network.trunk, len(network.heads.items)
                trunk.dense = nn.ModuleList(
                    MaskedDense(dense, heads, self.config.density, rng) for dense in trunk.dense)

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            self._frozen.freeze(part, {
                **whole(part, set(part.shared) - set(part.kernels)),
                **whole(part, part.heads[task.head]),
                **{f"{name}.kernel": layer.mask(task.head) for name, layer in masked(part)},
            })

    def free(self, part: Part) -> float:
        """Share of the hidden weights that no finished task uses."""
        used = [self._frozen.mask(part, name).flatten() for name in part.kernels]
        return 1 - float(torch.cat(used).float().mean())


class MaskedDense(PerHead):
    """A dense layer whose kernel is seen through a binary mask per head.

    Args:
        dense: The layer to replace; its kernel and bias go on being used.
        heads: The number of heads.
        density: Share of each mask that is 1 at first.
        rng: Where the first masks come from.
    """

    def __init__(self, dense: nn.Module, heads: int, density: float, rng: np.random.Generator
                 ) -> None:
        assert isinstance(dense, Dense)
        super().__init__(dense.kernel.shape[1], (
            {"scores": dense.kernel.new_tensor(rng.uniform(density - 1, density,
                                                           dense.kernel.shape))}
            for _ in range(heads)))
        self.kernel, self.bias = dense.kernel, dense.bias

    def mask(self, head: int) -> Tensor:
        """Which weights a head uses, [in, out] bool."""
        scores: Tensor = self.own(head)["scores"]
        return scores > 0

    def one(self, x: Tensor, own: nn.ParameterDict) -> Tensor:
        soft = own["scores"].sigmoid()
        mask = (soft - soft.detach()) + (own["scores"] > 0)  # 0 + mask: exact, with a gradient
        return torch.addmm(self.bias, x, self.kernel * mask)


def masked(part: Part) -> Iterator[tuple[str, MaskedDense]]:
    """The masked layers of a part, by name."""
    for name, module in part.module.named_modules():
        if isinstance(module, MaskedDense):
            yield name, module
