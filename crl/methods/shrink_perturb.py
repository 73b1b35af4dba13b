"""Shrink and perturb: before new data, weights are shrunk and a little of a new network is added.

Ash and Adams 2020, "On Warm-Starting Neural Network Training".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from crl import seeding
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.parts import Part
from crl.methods.recycling import REDRAWS, initial, stack
from crl.nn.state import generator_to_tree, load_generator
from crl.replay import Samples
from crl.stream import Task, TaskStream


class ShrinkPerturb(Method):
    """θ ← λθ + σθ₀ when a task begins, the first excepted; θ₀ a new draw of the initial weights.

    It goes for the weights that all tasks share, normalisation and a common head included. A head
    per task begins as it was drawn anyway and is left alone: shrunk at every boundary, the head of
    a late task would begin near zero. Optimiser moments are the agent's business
    (``agent.reset``).
    """

    name = "shrink-and-perturb"
    paper = "Ash & Adams 2020"
    needs = ("hidden layers",)
    claims = REDRAWS

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`ShrinkPerturb`.

        Attributes:
            parts: Whose weights.
            shrink: λ. Published: 0.6.
            perturb: σ. Published: 0.01.
            period: Gradient steps between two applications; None: at task boundaries.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        shrink: float = 0.6
        perturb: float = 0.01
        period: int | None = None

        def __post_init__(self) -> None:
            require(0 <= self.shrink <= 1, "shrink must be between 0 and 1")
            require(self.perturb >= 0, "perturb must not be negative")
            require(self.period is None or self.period > 0, "period must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        require(self.config.period is not None or stream.boundaries == "known",
                f"method {self.name!r} acts at task boundaries, which stream {stream.name!r} "
                f"hides; type --set {self.name}.period=20000")
        self._generator = torch.Generator().manual_seed(seeding.integer(self.seed, self.name))
        self._steps = 0

    def begin_task(self, task: Task) -> None:
        if self.config.period is None and self._steps > 0:
            self._apply()

    def updated(self, batch: Samples) -> None:
        self._steps += 1
        if self.config.period is not None and self._steps % self.config.period == 0:
            self._apply()

    def _apply(self) -> None:
        for part in self.parts:
            shrink_and_perturb(part, self.config.shrink, self.config.perturb, self._generator)

    def state_dict(self) -> Tree:
        return {"generator": generator_to_tree(self._generator), "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        load_generator(self._generator, tree["generator"])
        self._steps = tree["steps"]


@torch.no_grad()
def shrink_and_perturb(part: Part, shrink: float, perturb: float, generator: torch.Generator
                       ) -> None:
    """θ ← shrink · θ + perturb · θ₀ for what all tasks share of a part, layer by layer."""
    for network in part.networks:
        for layers in stack(network, heads=[0] if len(network.heads.items) == 1 else []):
            for layer in layers:
                fresh = initial(layer, generator)
                for parameter, draw in zip(layer.parameters(), fresh, strict=True):
                    parameter.mul_(shrink).add_(draw, alpha=perturb)
