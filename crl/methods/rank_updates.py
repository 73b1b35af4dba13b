"""Incremental rank updates: every task adds a few rank-1 matrices to every hidden layer.

Hyder et al. 2022, "Incremental Task Learning with Incremental Rank Updates".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crl import seeding
from crl.config import require
from crl.methods.base import Learner
from crl.methods.freezing import Freezing, Masks, whole
from crl.methods.per_head import PerHead
from crl.nn.layers import Dense
from crl.stream import Task, TaskStream


class RankUpdates(Freezing):
    """Gives every hidden layer the kernel Wₜ = Uₜ diag(sₜ) Vₜᵀ in task t, of a rank that grows.

    Each task appends columns to U and V. It learns those, a selector sₜ over all columns so far,
    0 on old ones and 1 on new ones at first, and biases and a head of its own. Old columns are
    frozen and so is normalisation after the first task, so policies of finished tasks never change
    again, to the last bit.

    The first factors are the singular value decomposition of the layer's initial kernel.
    """

    name = "rank-updates"
    paper = "Hyder et al. 2022"
    needs = ("boundaries", "heads", "hidden layers")
    claims = ("kernels", "layers", "activations", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`RankUpdates`.

        Attributes:
            parts: Which parts to factorise.
            first_rank: Rank of each kernel in the first task, at most; None: full rank. Published:
                11, for layers of 256 units on images.
            rank: How much each later task adds. Published: 1.
        """

        parts: tuple[str, ...] = ("policy",)
        first_rank: int | None = None
        rank: int = 1

        def __post_init__(self) -> None:
            require(self.first_rank is None or self.first_rank > 0,
                    "first_rank must be above 0, or null for full rank")
            require(self.rank > 0, "rank must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        rng = seeding.generator(self.seed, self.name)
        order = list(dict.fromkeys(task.head for task in stream))  # heads, oldest first
        for part in self.parts:
            for network in part.networks:
                # A head that no task has is given the columns of the first.
                places = [order.index(head) if head in order else 0
                          for head in range(len(network.heads.items))]
                trunk = network.trunk
                trunk.dense = nn.ModuleList(
                    LowRankDense(dense, places, self.config.first_rank, self.config.rank, rng)
                    for dense in trunk.dense)

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            factors: Masks = {}
            for name, module in part.module.named_modules():
                if isinstance(module, LowRankDense):
                    factors |= module.columns(f"{name}.", task.head)
            others = (set(part.shared) - set(factors)) | set(part.heads[task.head])
            self._frozen.freeze(part, {**factors, **whole(part, others)})


class LowRankDense(PerHead):
    """A dense layer with kernel U[:, :r] diag(s) V[:, :r]ᵀ, where rank, s and bias are a head's.

    Args:
        dense: The layer to replace. The first rank of its kernel's singular value decomposition is
            where U and V begin; added columns are drawn so that their product has the size of a
            new layer's weights.
        places: For each head the place of its task in the stream, from 0.
        first_rank, rank: Columns of the first task (None: all), and of each later one.
        rng: Where added columns come from.
    """

    def __init__(self, dense: nn.Module, places: Sequence[int], first_rank: int | None, rank: int,
                 rng: np.random.Generator) -> None:
        assert isinstance(dense, Dense)
        kernel, bias = dense.kernel.detach(), dense.bias.detach()
        first = min(*kernel.shape, first_rank or min(kernel.shape))
        added = rank * max(places)

        def selector(place: int) -> Tensor:
            old = 0 if place == 0 else first + rank * (place - 1)
            new = first if place == 0 else rank
            return torch.cat((bias.new_zeros(old), bias.new_ones(new)))

        def uniform(rows: int, bound: float) -> Tensor:
            return kernel.new_tensor(rng.uniform(-bound, bound, (rows, added)))

        super().__init__(kernel.shape[1], (
            {"selector": selector(place), "bias": bias.clone()} for place in places))
        u, s, vt = torch.linalg.svd(kernel, full_matrices=False)
        root = s[:first].sqrt()
        fan_in, fan_out = kernel.shape
        self.u = nn.Parameter(torch.cat(
            (u[:, :first] * root, uniform(fan_in, 1 / math.sqrt(fan_in))), 1))
        self.v = nn.Parameter(torch.cat(
            (vt[:first].t() * root, uniform(fan_out, math.sqrt(3 / rank))), 1))

    def columns(self, prefix: str, head: int) -> Masks:
        """Masks of the columns of U and V that a head uses; their names begin with ``prefix``."""
        rank = len(self.own(head)["selector"])
        masks = {}
        for name, factor in (("u", self.u), ("v", self.v)):
            mask = torch.zeros_like(factor, dtype=torch.bool)
            mask[:, :rank] = True
            masks[prefix + name] = mask
        return masks

    def one(self, x: Tensor, own: nn.ParameterDict) -> Tensor:
        rank = len(own["selector"])
        inner = (x @ self.u[:, :rank]) * own["selector"]
        return torch.addmm(own["bias"], inner, self.v[:, :rank].t())
