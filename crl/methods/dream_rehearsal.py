"""Dream rehearsal: what is rehearsed of finished tasks is what a world model remembers of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.parts import Gaussian, Part
from crl.methods.rehearsal import replace_rows
from crl.nn.distributions import gaussian_kl
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream


class Dreamer(Learner, Protocol):
    """An agent with a world model."""

    def dream(self, starts: Tensor, count: int, head: int) -> Any:
        """Samples as of its replay, as many as ``count``, that begin at observations ``starts``."""
        ...


class DreamRehearsal(Method):
    """Generative replay (Shin et al. 2017) by the world model, and cloning of its dreamer.

    When a task ends, the agent dreams of every finished task, each from observations with which its
    episodes began; these are all that is kept of what really was, so that what is kept does not
    grow by much. Until the next task ends, some of the samples to learn from are such dreams, and
    the policy goes on doing in them what it did when it dreamt. Robins 1995 called this
    pseudo-rehearsal; Ketz, Kolouri & Pilly 2019 do it with a world model's dreams.
    """

    name = "dream-rehearsal"
    paper = "Ketz et al. 2019"
    needs = ("boundaries", "replay", "dreams")
    claims = ("rehearsal",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`DreamRehearsal`.

        Attributes:
            part: The part of the policy that is cloned.
            share: How likely each sample of a batch is replaced by a dream.
            coefficient: Weight of the cloning: of KL(dreamer ‖ now), or of the squared distance of
                the chances of choices.
            dreams: Samples dreamt, of all finished tasks together.
            starts: Observations kept of each finished task.
        """

        part: str = "actor"
        share: float = 0.5
        coefficient: float = 1.0
        dreams: int = 256
        starts: int = 64

        def __post_init__(self) -> None:
            require(0 <= self.share <= 1, "share must be between 0 and 1")
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.dreams > 0 and self.starts > 0, "dreams and starts must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        self._starts: dict[int, Tensor] = {}  # by head
        self._dreams: list[tuple[Samples, tuple[Tensor, ...]]] = []  # with what was done in them

    def rehearse(self, batch: Samples) -> Samples:
        if not self._dreams:
            return batch
        return replace_rows(batch, self.config.share, self._sample, self._rng)

    def _sample(self, count: int) -> Samples:
        return type(self._dreams[0][0]).join([
            self._dreams[i][0].rows(self._rows(i, n)) for i, n in self._of_each(count)])

    def _of_each(self, count: int) -> list[tuple[int, int]]:
        """How many of each finished task, of those of which there are any."""
        shares = self._rng.multinomial(count, [1 / len(self._dreams)] * len(self._dreams))
        return [(i, int(n)) for i, n in enumerate(shares) if n > 0]

    def _rows(self, task: int, count: int) -> Tensor:
        dreams = self._dreams[task][0].obs
        return torch.from_numpy(self._rng.integers(len(dreams), size=count)).to(dreams.device)

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part.name != self.config.part or not self._dreams or not self.config.coefficient:
            return None
        distances = []
        for i, count in self._of_each(max(1, round(self.config.share * len(batch.obs)))):
            dreams, then = self._dreams[i]
            rows = self._rows(i, count)
            now = part.outputs(dreams.rows(rows))
            distance = (gaussian_kl(then[0][rows], then[1][rows], *now)
                        if isinstance(now, Gaussian) else (now - then[0][rows]).square().sum(-1))
            distances.append(distance.flatten())
        return self.config.coefficient * torch.cat(distances).mean()

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        replay, learner, config = self.learner.replay, cast(Dreamer, self.learner), self.config
        batch = cast(Any, replay.take(self._rng.permutation(len(replay))))
        begins = batch.first & (batch.heads == task.head).unsqueeze(1)
        self._starts[task.head] = batch.obs[begins][:config.starts].clone()
        heads = [head for head, starts in self._starts.items() if len(starts)]
        part, self._dreams = self.parts[0], []
        for head in heads:
            dreams = learner.dream(self._starts[head], -(-config.dreams // len(heads)), head)
            outputs = part.outputs(dreams)
            self._dreams.append((dreams, tuple(outputs) if isinstance(outputs, Gaussian)
                                 else (outputs,)))

    def state_dict(self) -> Tree:
        return {
            "rng": seeding.generator_state(self._rng),
            "starts": tensors_to_tree({str(head): s for head, s in self._starts.items()}),
            "dreams": {str(i): {
                "samples": tensors_to_tree(samples.columns()),
                "outputs": tensors_to_tree({str(j): t for j, t in enumerate(outputs)})}
                for i, (samples, outputs) in enumerate(self._dreams)}}

    def load_state_dict(self, tree: Tree) -> None:
        seeding.restore_generator(self._rng, tree["rng"])
        replay = self.learner.replay
        self._starts = {int(head): s for head, s in
                        tree_to_tensors(tree["starts"], replay.device).items()}
        self._dreams = []
        for i in range(len(tree["dreams"])):
            of_task = tree["dreams"][str(i)]
            samples = replay.kind(**tree_to_tensors(of_task["samples"], replay.device))
            outputs = tree_to_tensors(of_task["outputs"], replay.device)
            self._dreams.append((samples, tuple(outputs.values())))
