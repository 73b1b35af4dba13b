"""Half fine-tuning: a random half of the weights sits out each task.

Hui et al. 2024, "HFT: Half Fine-Tuning for Large Language Models".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.methods.base import Learner
from crl.methods.freezing import Freezing
from crl.methods.parts import Part
from crl.stream import Task, TaskStream


class HalfFineTuning(Freezing):
    """Freezes a random half of the entries of each shared parameter, another half for each task.

    The paper freezes half of the matrices of each kind, of which a language model has dozens. A
    control network has one or two of a kind, so here each of them is halved entry by entry. What
    the paper fine-tunes is pretrained; here the first task, before which there is nothing to
    forget, trains all weights. Heads are always trained.
    """

    name = "half-fine-tuning"
    paper = "Hui et al. 2024"
    needs = ("boundaries",)
    claims = ("kernels",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`HalfFineTuning`.

        Attributes:
            parts: Which parts to fine-tune by halves.
        """

        parts: tuple[str, ...] = ("policy",)

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._rng = seeding.generator(self.seed, self.name)
        self._begun = 0

    def begin_task(self, task: Task) -> None:
        self._frozen.release()
        if self._begun > 0:
            for part in self.parts:
                self._frozen.freeze(part, self._half(part))
        self._begun += 1

    def state_dict(self) -> Tree:
        return {"begun": self._begun, **super().state_dict(),
                "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._begun = tree["begun"]
        super().load_state_dict(tree)
        seeding.restore_generator(self._rng, tree["rng"])

    def _half(self, part: Part) -> dict[str, Tensor]:
        masks = {}
        for name, parameter in part.shared_parameters().items():
            order = torch.from_numpy(self._rng.permutation(parameter.numel()))
            masks[name] = (order < parameter.numel() // 2).view_as(parameter).to(parameter.device)
        return masks
