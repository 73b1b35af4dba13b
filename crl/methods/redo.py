"""ReDo: units that have all but fallen silent are recycled.

Sokar et al. 2023, "The Dormant Neuron Phenomenon in Deep Reinforcement Learning".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.recycling import REDRAWS, recycle
from crl.nn.state import generator_to_tree, load_generator
from crl.replay import Samples
from crl.stream import TaskStream


class ReDo(Method):
    """Every ``period`` gradient steps, recycles the units with E|hᵢ| ≤ τ · mean over j of E|hⱼ|.

    The means are over the batch of the step and the units of a layer. A dormant unit's incoming
    weights are drawn from their initial distribution, its outgoing ones become zero, in every head,
    and so do the optimiser's moments of both. What the network computes changes by what the unit
    had contributed: by nothing if it was silent.

    With layer normalisation that holds but nearly (to 1 % at a width of 128): the statistics of a
    layer contain every unit, so no weights but the old ones would leave the others exactly as they
    are. A unit that is silent in the task at hand may have spoken in an earlier one, which loses
    it: ReDo keeps a network able to learn, and protects nothing.

    The published code sets the bias to zero, the initial value of its layers, and keeps its
    moments; here the bias is drawn as it was at the start, and its moments go too.
    """

    name = "redo"
    paper = "Sokar et al. 2023"
    needs = ("hidden layers",)
    claims = REDRAWS

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`ReDo`.

        Attributes:
            parts: Whose units to recycle.
            period: Gradient steps from one check to the next.
            threshold: τ; 0 recycles silent units only.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        period: int = 1000
        threshold: float = 0.025

        def __post_init__(self) -> None:
            require(self.period > 0, "period must be above 0")
            require(0 <= self.threshold < 1, "threshold must be from 0 to below 1")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        self._steps = 0

    def updated(self, batch: Samples) -> None:
        self._steps += 1
        if self._steps % self.config.period == 0:
            for part in self.parts:
                units = [dormant(h, self.config.threshold) for h in part.activations(batch)]
                recycle(part, units, self._generator)

    def state_dict(self) -> Tree:
        return {"generator": generator_to_tree(self._generator), "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        load_generator(self._generator, tree["generator"])
        self._steps = tree["steps"]


def dormant(activations: Tensor, threshold: float) -> Tensor:
    """The units, of [B, units], whose mean absolute activation is ≤ threshold × that of all."""
    firing = activations.abs().mean(0)
    return (firing <= threshold * firing.mean()).nonzero().squeeze(1)
