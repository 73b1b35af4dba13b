"""Perfect memory: learning from a uniform sample of everything seen, in all tasks.

A baseline of Continual World (Wołczyk et al. 2021); the reservoir is Vitter's (1985).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.rehearsal import replace_rows
from crl.methods.reservoir import Reservoir
from crl.replay import Samples, in_samples
from crl.stream import Task, TaskStream


class PerfectMemory(Method):
    """Replaces each row of a batch by an old one with probability N_old / (N_old + N_current).

    N_old counts the transitions of finished tasks, of which a reservoir keeps a uniform sample, and
    N_current those in the agent's replay: a batch is uniform over all of them, however few the
    reservoir keeps. The share of the current task therefore shrinks as 1 / its number, and batches
    must grow: published with 512 transitions, which is ``--set agent.batch_size=512``.
    """

    name = "perfect-memory"
    paper = "Wołczyk et al. 2021"
    needs = ("boundaries", "fresh replay")
    claims = ("rehearsal",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`PerfectMemory`.

        Attributes:
            capacity: Transitions kept of all finished tasks.
        """

        capacity: int = 1_000_000

        def __post_init__(self) -> None:
            require(self.capacity > 0, "capacity must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        replay = learner.replay
        self._reservoir = Reservoir(in_samples(self.config.capacity, replay), replay.kind,
                                    replay.device)

    def rehearse(self, batch: Samples) -> Samples:
        old, current = self._reservoir.seen, len(self.learner.replay)
        if old == 0:
            return batch

        def sample(count: int) -> Samples:
            return self._reservoir.sample(count, self._rng)

        return replace_rows(batch, old / (old + current), sample, self._rng)

    def end_task(self, task: Task) -> None:
        replay = self.learner.replay
        self._reservoir.extend(replay.take(np.arange(len(replay))), self._rng)

    def state_dict(self) -> Tree:
        return {"reservoir": self._reservoir.state_dict(),
                "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._reservoir.load_state_dict(tree["reservoir"])
        seeding.restore_generator(self._rng, tree["rng"])
