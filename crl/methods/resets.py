"""Periodic resets: the last layers, or whole networks, begin anew while the replay stays.

Nikishin et al. 2022, "The Primacy Bias in Deep Reinforcement Learning".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.recycling import REDRAWS, redraw, stack
from crl.nn.state import generator_to_tree, load_generator
from crl.replay import Samples
from crl.stream import TaskStream


class Resets(Method):
    """Every ``period`` gradient steps, draws the last ``layers`` layers anew, moments forgotten.

    The last layer is the heads: of those, the ones that are in training, so that the head of
    another task loses the layers below it but is not itself lost.

    The published SAC makes a whole new agent, target critics and temperature included. Here these
    are no parts: the temperature stays, and the targets follow the new critics by Polyak averaging
    alone, so that for some dozen steps (34 to the half, at 0.98) new critics learn from what the
    old ones had learned.
    """

    name = "resets"
    paper = "Nikishin et al. 2022"
    needs = ("hidden layers",)
    claims = REDRAWS

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`Resets`.

        Attributes:
            parts: What to reset.
            period: Gradient steps from reset to reset. Published for SAC: 200k environment steps,
                in runs of 2M.
            layers: How many layers, from the output; None: all, published for SAC. The last one
                alone is what is published for Atari.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        period: int = 20_000
        layers: int | None = None

        def __post_init__(self) -> None:
            require(self.period > 0, "period must be above 0")
            require(self.layers is None or self.layers > 0,
                    "layers must be above 0, or null for all")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        for part in self.parts:
            depth = min(len(network.trunk.dense) for network in part.networks) + 1
            require(self.config.layers is None or self.config.layers <= depth,
                    f"method {self.name!r}: {part.name!r} has {depth} layers; "
                    f"type --set {self.name}.layers=null for all")
        self._generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        self._steps = 0

    def updated(self, batch: Samples) -> None:
        self._steps += 1
        if self._steps % self.config.period == 0:
            heads = torch.unique(batch.heads).tolist()
            last = slice(-self.config.layers if self.config.layers else None, None)
            for part in self.parts:
                for network in part.networks:
                    for layers in stack(network, heads)[last]:
                        redraw(part, layers, self._generator)

    def state_dict(self) -> Tree:
        return {"generator": generator_to_tree(self._generator), "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        load_generator(self._generator, tree["generator"])
        self._steps = tree["steps"]
