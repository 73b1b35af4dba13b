"""Importance of parameters, measured one sample at a time and averaged: what EWC and MAS do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.anchors import Anchored
from crl.methods.base import Learner
from crl.methods.parts import Gaussian, Parameters, Part
from crl.nn.layers import rows_by_head
from crl.replay import Batch, Samples, in_samples
from crl.stream import TaskStream

Outputs = Callable[[Parameters], tuple[Tensor, ...]]
"""One sample's outputs, given the shared parameters: mean and standard deviation [outputs], or a
point prediction alone."""

_CHUNK = 16  # samples whose gradients are held at once: 16 × outputs × parameters floats


class SampledImportance(Anchored):
    """Anchors whose importance is measured on samples of the finishing task."""

    needs = ("boundaries", "replay")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`SampledImportance`.

        Attributes:
            parts: Which parts to protect.
            coefficient: λ.
            batches, batch_size: How many samples of the finishing task.
        """

        parts: tuple[str, ...] = ("policy",)
        coefficient: float = 1e4
        batches: int = 10
        batch_size: int = 256

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.batches > 0 and self.batch_size > 0,
                    "batches and batch_size must be above 0")

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)

    def samples(self) -> list[Samples]:
        """Transitions of the task that has just ended."""
        replay = self.learner.replay
        return [replay.sample(in_samples(self.config.batch_size, replay), self._rng)
                for _ in range(self.config.batches)]

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        seeding.restore_generator(self._rng, tree["rng"])


@torch.no_grad()  # of the outer kind: torch.func differentiates inside it all the same
def mean_over_samples(part: Part, batches: Sequence[Samples],
                      of_sample: Callable[[Outputs, Parameters], Parameters]) -> Parameters:
    """The mean over samples of an importance of a part's shared parameters, by name.

    The module is in ``eval`` mode meanwhile: a layer that samples its weights gives their mean.

    Args:
        part: The part.
        batches: The samples.
        of_sample: The importance for one sample, from its outputs as a function of the shared
            parameters, and those parameters; differentiates with ``torch.func``. A sequence's
            outputs are those of all its steps, [steps, outputs].
    """
    shared: Parameters = {n: p.detach() for n, p in part.shared_parameters().items()}
    total = {n: torch.zeros_like(p) for n, p in shared.items()}

    def importance(parameters: Parameters, columns: dict[str, Tensor], head: int) -> Parameters:
        rows = {name: column[None] for name, column in columns.items()}
        sample = kind(**rows, head=head)

        def outputs(parameters: Parameters) -> tuple[Tensor, ...]:
            out = part.outputs(sample, parameters)
            return (out.mean[0], out.std[0]) if isinstance(out, Gaussian) else (out[0],)

        return of_sample(outputs, parameters)

    kind: Any = type(batches[0])
    of_each = vmap(importance, in_dims=(None, 0, None))
    if not issubclass(kind, Batch):  # a memory looks where episodes begin, which vmap cannot
        of_each = partial(_one_by_one, importance)
    training = part.module.training
    part.module.eval()
    for batch in batches:
        for columns, head in _pieces(batch):
            for name, values in of_each(shared, columns, head).items():
                total[name] += values.sum(0)
    part.module.train(training)
    count = sum(len(batch.obs) for batch in batches)
    return {name: t / count for name, t in total.items()}


def _one_by_one(importance: Callable[..., Parameters], parameters: Parameters,
                columns: dict[str, Tensor], head: int) -> Parameters:
    """What ``vmap`` of ``importance`` gives."""
    found = [importance(parameters, {name: column[i] for name, column in columns.items()}, head)
             for i in range(len(columns["obs"]))]
    return {name: torch.stack([f[name] for f in found]) for name in parameters}


def _pieces(batch: Samples) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Cuts a batch into pieces of one head each and of a size whose gradients fit in memory."""
    columns = {name: c for name, c in batch.columns().items() if name != "head"}
    for head, rows in rows_by_head(batch.head):
        members = torch.arange(len(batch.obs), device=batch.obs.device)[rows]
        for piece in torch.split(members, _CHUNK):
            yield {name: column[piece] for name, column in columns.items()}, head
