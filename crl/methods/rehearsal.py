"""Rehearsal: some of the transitions to learn from are those of finished tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from crl.config import require
from crl.methods.memory import Remembering
from crl.replay import Samples


def replace_rows(batch: Samples, share: float, sample: Callable[[int], Samples],
                 rng: np.random.Generator) -> Samples:
    """Replaces each row of a batch with probability ``share``.

    Args:
        batch: B transitions.
        share: How likely each is replaced.
        sample: ``sample(count)`` gives transitions to put in their places.
        rng: Where the draws come from.

    Returns:
        B transitions, the replacements last.
    """
    replaced = rng.random(len(batch.obs)) < share
    if not replaced.any():
        return batch
    kept = torch.from_numpy(np.flatnonzero(~replaced)).to(batch.obs.device)
    return type(batch).join([batch.rows(kept), sample(int(replaced.sum()))])


class TaskRehearsal(Remembering):
    """Rehearses from a memory of each finished task; subclasses say which task how often."""

    claims = ("rehearsal",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`TaskRehearsal`.

        Attributes:
            share: How likely each transition of a batch is replaced by one of a finished task.
            samples_per_task: Transitions stored per finished task.
        """

        share: float = 0.5
        samples_per_task: int = 10_000

        def __post_init__(self) -> None:
            require(0 <= self.share <= 1, "share must be between 0 and 1")
            require(self.samples_per_task > 0, "samples_per_task must be above 0")

    config: Config

    def task_weights(self) -> NDArray[np.float64]:
        """How likely a rehearsed transition is of each finished task, in their order.

        Not normalised; all zero, or empty, where there is nothing to rehearse.
        """
        raise NotImplementedError

    def rehearse(self, batch: Samples) -> Samples:
        weights = self.task_weights()
        if not weights.any():
            return batch

        def sample(count: int) -> Samples:
            return self._memory.sample(count, self._rng, weights)

        return replace_rows(batch, self.config.share, sample, self._rng)
