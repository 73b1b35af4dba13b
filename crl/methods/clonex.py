"""Behaviour cloning of old tasks: the policy must go on doing what it did where it did it.

The cloning half of ClonEx-SAC (Wołczyk et al. 2022, "Disentangling Transfer in Continual
Reinforcement Learning"). Its other half, exploring with the best old policy, is a setting of the
agent: ``agent.explore=best_return``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.cloning import StoredOutputs, draw, outputs_at, store
from crl.methods.parts import Part
from crl.nn.distributions import gaussian_kl
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples, in_samples
from crl.stream import Task, TaskStream


class ClonEx(Method):
    """Adds c · KL(stored ‖ current) on states of the finished tasks.

    When a task ends, states are drawn from its replay and stored with the mean and standard
    deviation that the policy gives there. The release halves the sum of this and SAC's gradient;
    Adam does not notice, so here they are added.
    """

    name = "clonex"
    paper = "Wołczyk et al. 2022"
    needs = ("boundaries", "replay", "gaussian")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`ClonEx`.

        Attributes:
            part: The part to clone; its outputs must be Gaussian.
            coefficient: Weight of the KL; published: 100.
            samples_per_task: States stored per finished task; published: 10k.
            batch_size: States per gradient step, over all finished tasks.
            clip_norm: Clips the part's gradient to this norm; None: no clipping. Published: 0.1.
        """

        part: str = "actor"
        coefficient: float = 100.0
        samples_per_task: int = 10_000
        batch_size: int = 128
        clip_norm: float | None = 0.1

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.samples_per_task > 0 and self.batch_size > 0,
                    "samples_per_task and batch_size must be above 0")
            require(self.clip_norm is None or self.clip_norm > 0, "clip_norm must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, "clonex")
        self._device = next(self.parts[0].module.parameters()).device
        self._memory: StoredOutputs = {}

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part.name != self.config.part or not self._memory:
            return None
        return self.config.coefficient * self.divergence(part)

    def divergence(self, part: Part) -> Tensor:
        """Mean KL(stored ‖ current) over a batch of stored states."""
        replay = self.learner.replay
        memory = draw(self._memory, in_samples(self.config.batch_size, replay), self._rng)
        now = outputs_at(part, replay.kind.from_seen(memory))
        return gaussian_kl(memory["mean"], memory["std"], now.mean, now.std).mean()

    def gradients(self) -> None:
        if self.config.clip_norm is not None:
            parameters = self.parts[0].module.parameters()
            torch.nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)

    def end_task(self, task: Task) -> None:
        replay = self.learner.replay
        batch = replay.sample(in_samples(self.config.samples_per_task, replay), self._rng)
        self._memory = store(self._memory, self.parts[0], batch)

    def state_dict(self) -> Tree:
        return {"memory": tensors_to_tree(self._memory), "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._memory = tree_to_tensors(tree["memory"], self._device)
        seeding.restore_generator(self._rng, tree["rng"])
