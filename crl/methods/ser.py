"""Strong experience replay: a policy must go on saying what it said, on old states and on new ones.

Zhuo, Cheng, Gao, Fan & Kankanhalli 2023, "Continual Learning with Strong Experience Replay".
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
from crl.methods.parts import Parameters, Part
from crl.nn.distributions import gaussian_kl
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples, in_samples
from crl.stream import Task, TaskStream


class SER(Method):
    """Adds α · KL(stored ‖ now) on old states, and β · KL(old policy ‖ now) on those of the batch.

    The first, backward consistency, is cloning: states of finished tasks are stored with the
    Gaussian that the policy gave there when its task ended. The second, forward consistency, asks
    the policy as it was when the last task ended about states that it had not seen. Both are asked
    for the heads of finished tasks only: for the head of the current task the old policy has no
    more to say than its initial weights.

    The source compares logits by squared distance, and adds the supervised loss on stored samples,
    which here is the business of a rehearsal method beside this one.
    """

    name = "ser"
    paper = "Zhuo et al. 2023"
    needs = ("boundaries", "replay", "gaussian")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`SER`.

        Attributes:
            part: The part to hold; its outputs must be Gaussian.
            alpha: Weight of backward consistency. Published, for logits: 0.2 to 0.5; 100 is what
                ClonEx-SAC publishes for this KL.
            beta: Weight of forward consistency. Published, for logits: 0.2 to 1.
            samples_per_task: States stored per finished task.
        """

        part: str = "actor"
        alpha: float = 100.0
        beta: float = 100.0
        samples_per_task: int = 10_000

        def __post_init__(self) -> None:
            require(self.alpha >= 0 and self.beta >= 0, "alpha and beta must not be negative")
            require(self.samples_per_task > 0, "samples_per_task must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        self._device = next(self.parts[0].module.parameters()).device
        self._stored: StoredOutputs = {}
        self._old: Parameters = {}

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part.name != self.config.part or not self._stored:
            return None
        backward, forward = self.divergences(part, batch)
        return self.config.alpha * backward + self.config.beta * forward

    def divergences(self, part: Part, batch: Samples) -> tuple[Tensor, Tensor]:
        """Mean KL(stored ‖ now) on as many stored states, and KL(old ‖ now) on a batch."""
        stored = draw(self._stored, len(batch.obs), self._rng)
        fresh = {**batch.what_is_seen(), "head": stored["head"]}  # under the heads of old tasks
        samples = self.learner.replay.kind.from_seen
        with torch.no_grad():
            old = outputs_at(part, samples(fresh), self._old)
        now = outputs_at(part, samples({n: torch.cat((stored[n], fresh[n])) for n in fresh}))
        kl = gaussian_kl(torch.cat((stored["mean"], old.mean)),
                         torch.cat((stored["std"], old.std)), now.mean, now.std)
        backward, forward = kl.chunk(2)
        return backward.mean(), forward.mean()

    def end_task(self, task: Task) -> None:
        part = self.parts[0]
        replay = self.learner.replay
        batch = replay.sample(in_samples(self.config.samples_per_task, replay), self._rng)
        self._stored = store(self._stored, part, batch)
        self._old = {name: p.detach().clone() for name, p in part.parameters().items()}

    def state_dict(self) -> Tree:
        return {"stored": tensors_to_tree(self._stored), "old": tensors_to_tree(self._old),
                "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._stored = tree_to_tensors(tree["stored"], self._device)
        self._old = tree_to_tensors(tree["old"], self._device)
        seeding.restore_generator(self._rng, tree["rng"])
