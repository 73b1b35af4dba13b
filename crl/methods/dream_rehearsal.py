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
        self._dreams: Samples | None = None   # of all finished tasks, as many of each
        self._done: tuple[Tensor, ...] = ()   # what the part gave in them

    def rehearse(self, batch: Samples) -> Samples:
        dreams = self._dreams
        if dreams is None:
            return batch
        return replace_rows(batch, self.config.share,
                            lambda count: dreams.rows(self._rows(dreams, count)), self._rng)

    def _rows(self, dreams: Samples, count: int) -> Tensor:
        drawn = self._rng.integers(len(dreams.obs), size=count)
        return torch.from_numpy(drawn).to(dreams.obs.device)

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        dreams, config = self._dreams, self.config
        if part.name != config.part or dreams is None or not config.coefficient:
            return None
        rows = self._rows(dreams, max(1, round(config.share * len(batch.obs))))
        now, then = part.outputs(dreams.rows(rows)), [done[rows] for done in self._done]
        distance = (gaussian_kl(then[0], then[1], *now) if isinstance(now, Gaussian)
                    else (now - then[0]).square().sum(-1))
        return config.coefficient * distance.mean()

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        replay, learner, config = self.learner.replay, cast(Dreamer, self.learner), self.config
        batch = cast(Any, replay.take(self._rng.permutation(len(replay))))
        begins = batch.first & (batch.heads == task.head).unsqueeze(1)
        self._starts[task.head] = batch.obs[begins][:config.starts].clone()
        heads = [head for head, starts in self._starts.items() if len(starts)]
        if not heads:
            return
        each = -(-config.dreams // len(heads))
        self._dreams = replay.kind.join([learner.dream(self._starts[head], each, head)
                                         for head in heads])
        outputs = self.parts[0].outputs(self._dreams)
        self._done = tuple(outputs) if isinstance(outputs, Gaussian) else (outputs,)

    def state_dict(self) -> Tree:
        return {
            "rng": seeding.generator_state(self._rng),
            "starts": tensors_to_tree({str(head): s for head, s in self._starts.items()}),
            "dreams": tensors_to_tree(self._dreams.columns() if self._dreams else {}),
            "done": tensors_to_tree({str(i): done for i, done in enumerate(self._done)})}

    def load_state_dict(self, tree: Tree) -> None:
        seeding.restore_generator(self._rng, tree["rng"])
        replay = self.learner.replay
        self._starts = {int(head): s for head, s in
                        tree_to_tensors(tree["starts"], replay.device).items()}
        dreams = tree_to_tensors(tree["dreams"], replay.device)
        self._dreams = replay.kind(**dreams) if dreams else None
        self._done = tuple(tree_to_tensors(tree["done"], replay.device).values())
