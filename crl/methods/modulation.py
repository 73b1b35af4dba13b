"""Modulation: later tasks learn small changes to the layers of a network that is frozen by then.

After Schmied et al. 2023, "Learning to Modulate pre-trained Models in RL", whose network is a
transformer that was trained on other tasks before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch

from crl import seeding
from crl.config import require
from crl.memory.modulation import ModulationPool
from crl.memory.modulators import FiLM, LoRA, Modulator
from crl.methods.base import Learner
from crl.methods.freezing import Freezing, whole
from crl.methods.parts import Part
from crl.stream import Task, TaskStream

_SLOT = re.compile(r"\.slots\.(\d+)\.")


class Modulation(Freezing):
    """Gives each head but the first a slot of a pool of modulators, in all hidden layers.

    The networks learn in the first task only; every later task has its own slot and head, which
    learn in their own task only. Policies of finished tasks never change again, to the last bit. A
    new slot changes nothing, so that a task begins with what the first one learned. Freezing a
    critic saves no policy from forgetting, so by default only the actor is modulated.
    """

    name = "modulation"
    paper = "Schmied et al. 2023"
    needs = ("boundaries", "heads", "hidden layers")
    claims = ("kernels", "layers", "policy")

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`Modulation`.

        Attributes:
            parts: Which parts to modulate.
            kind: ``"lora"``, a change of each kernel, of low rank; or ``"film"``, scale and shift
                of what each layer gives, before its normalisation and activation.
            rank, alpha: Of LoRA.
        """

        parts: tuple[str, ...] = ("policy",)
        kind: Literal["lora", "film"] = "lora"
        rank: int = 8
        alpha: float = 16.0

        def modulator(self) -> Modulator:
            return LoRA(self.rank, self.alpha) if self.kind == "lora" else FiLM()

        def __post_init__(self) -> None:
            self.modulator()  # raises what is wrong

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        heads = list(dict.fromkeys(task.head for task in stream))
        require(heads == list(range(len(heads))),
                f"method {self.name!r} needs heads numbered as they come, got {heads}; number the "
                f"tasks' heads 0 to {len(heads) - 1}")
        generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        for part in self.parts:
            pool = ModulationPool(part.module, {"*trunk.dense.*": self.config.modulator()},
                                  generator)
            for _ in heads[1:]:
                pool.grow()

    def end_task(self, task: Task) -> None:
        for part in self.parts:
            self._frozen.freeze(part, whole(part, (*_done(part, task.head),
                                                   *part.heads[task.head])))


def _done(part: Part, head: int) -> list[str]:
    """What no later task trains of what is no head: all but the slots of others than this head."""
    return [name for name in part.shared
            if not (found := _SLOT.search(name)) or int(found[1]) == head]
