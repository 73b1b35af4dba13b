"""Transitions of finished tasks, kept by methods that rehearse or compare."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from crl import seeding
from crl.checkpoint import Tree
from crl.methods.base import Learner, Method
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import AnyReplay, Batch, Samples, in_samples
from crl.stream import Task, TaskStream


class TaskMemory:
    """A fixed number of transitions of each finished task.

    Args:
        per_task: Transitions kept of a task; fewer if its replay holds fewer.
        kind: Of the samples.
        device: Where they are kept.
    """

    def __init__(self, per_task: int, kind: type[Samples] = Batch,
                 device: torch.device | str = "cpu") -> None:
        self.per_task = per_task
        self._kind, self._device = kind, device
        self.tasks: list[Samples] = []

    def __len__(self) -> int:
        """Transitions kept, of all tasks."""
        return sum(len(task.obs) for task in self.tasks)

    def add(self, replay: AnyReplay, rng: np.random.Generator) -> None:
        """Keeps transitions of the task in ``replay``, drawn without replacement."""
        count = min(self.per_task, len(replay))
        batch = replay.take(rng.choice(len(replay), count, replace=False))
        self.tasks.append(self._kind(**batch.columns()))

    def sample(self, count: int, rng: np.random.Generator, weights: ArrayLike | None = None
               ) -> Samples:
        """Draws transitions with replacement.

        Args:
            count: How many.
            rng: Where the draws come from.
            weights: [tasks] how likely a draw is of each task, not normalised; None: all
                transitions are alike.
        """
        sizes = np.array([len(task.obs) for task in self.tasks])
        shares = np.asarray(sizes if weights is None else weights, np.float64)
        of_each = rng.multinomial(count, shares / shares.sum())
        return self._kind.join([
            task.rows(torch.from_numpy(rng.integers(len(task.obs), size=n)).to(self._device))
            for task, n in zip(self.tasks, of_each, strict=True) if n > 0])

    def state_dict(self) -> Tree:
        return {str(i): tensors_to_tree(task.columns()) for i, task in enumerate(self.tasks)}

    def load_state_dict(self, tree: Tree) -> None:
        self.tasks = [self._kind(**tree_to_tensors(tree[str(i)], self._device))
                      for i in range(len(tree))]


class Remembering(Method):
    """A method with a memory of every finished task, of ``config.samples_per_task`` each."""

    needs = ("boundaries", "fresh replay")

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        replay = learner.replay
        self._memory = TaskMemory(in_samples(self.config.samples_per_task, replay), replay.kind,
                                  replay.device)

    def end_task(self, task: Task) -> None:
        self._memory.add(self.learner.replay, self._rng)

    def state_dict(self) -> Tree:
        return {"memory": self._memory.state_dict(), "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._memory.load_state_dict(tree["memory"])
        seeding.restore_generator(self._rng, tree["rng"])
