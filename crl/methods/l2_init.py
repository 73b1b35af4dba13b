"""L2 Init: weights are pulled back to where they began, so that they stay able to learn.

Kumar, Marklund and Van Roy 2023, "Maintaining Plasticity in Continual Learning via Regenerative
Regularization".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Learner, Method
from crl.methods.parts import Parameters, Part
from crl.nn.layers import rows_by_head
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream


class L2Init(Method):
    """Adds λ ‖θ − θ₀‖² on the parameters that are in use, θ₀ being their initial values.

    These are the shared ones and the heads of the batch. The paper has one head; to pull back those
    of tasks that are not being trained would unlearn them and make nothing more plastic.
    """

    name = "l2-init"
    paper = "Kumar et al. 2023"

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`L2Init`.

        Attributes:
            parts: Which parts to regularise.
            coefficient: λ. Published: the best of 1e-2, 1e-3, 1e-4 and 1e-5.
        """

        parts: tuple[str, ...] = ("actor", "critic")
        coefficient: float = 1e-3

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._initial: dict[str, Parameters] = {}

    def begin_task(self, task: Task) -> None:
        if not self._initial:  # the first task: every method has made its changes to the networks
            self._initial = {part.name: {n: p.detach().clone() for n, p in
                                         part.parameters().items()} for part in self.parts}

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part not in self.parts:
            return None
        parameters, initial = part.parameters(), self._initial[part.name]
        present = sorted({head for head, _ in rows_by_head(batch.head)})
        heads = [n for head in present for n in part.heads.get(head, ())]
        squares = [(parameters[n] - initial[n]).square().sum() for n in (*part.shared, *heads)]
        return self.config.coefficient * torch.stack(squares).sum()

    def state_dict(self) -> Tree:
        return {name: tensors_to_tree(initial) for name, initial in self._initial.items()}

    def load_state_dict(self, tree: Tree) -> None:
        self._initial = {
            part.name: tree_to_tensors(tree[part.name], next(part.module.parameters()).device)
            for part in self.parts if part.name in tree}
