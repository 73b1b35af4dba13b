"""Synaptic intelligence: weights whose moves brought the loss down are held near their values.

Zenke, Poole and Ganguli 2017, "Continual Learning Through Synaptic Intelligence".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crl.checkpoint import Tree
from crl.config import require
from crl.methods.anchors import Anchored
from crl.methods.base import Learner
from crl.methods.parts import Parameters, Part
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.replay import Samples
from crl.stream import Task, TaskStream


class _Step(NamedTuple):
    """What one gradient step starts from, by parameter."""

    gradient: Parameters  # of the agent's own loss; without those that it does not reach
    start: Parameters


class SI(Anchored):
    """Adds c Σₖ Ωₖ (θ − θ*)² on the shared parameters, θ* being those at the last task's end.

    Ωₖ = max(0, ωₖ / (Δₖ² + ξ)), where ωₖ = −Σ g Δθ over the gradient steps of task k is a
    parameter's share in the fall of the loss, and Δₖ how far it went in the task. The released code
    takes the maximum after summing over tasks, so that a task can erase what others found
    important.

    g is the gradient of the agent's own loss, without any method's penalty, clipping or masking: it
    is read when ``loss`` is called, before these are added. Δθ is the step as taken, with them.
    """

    name = "si"
    paper = "Zenke et al. 2017"
    needs = ("boundaries",)

    @dataclass(frozen=True)
    class Config:
        """Settings of :class:`SI`.

        Attributes:
            parts: Which parts to protect.
            coefficient: c. Published: 1 for split MNIST, 0.1 for permuted MNIST.
            damping: ξ, which keeps the importance of weights that hardly moved finite. Published:
                1e-3 for split MNIST, 0.1 for permuted MNIST.
        """

        parts: tuple[str, ...] = ("policy",)
        coefficient: float = 1.0
        damping: float = 1e-3

        def __post_init__(self) -> None:
            require(self.coefficient >= 0, "coefficient must not be negative")
            require(self.damping > 0, "damping must be above 0")

    config: Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        super().attach(learner, stream)
        self._path: dict[str, Parameters] = {}   # ω of the running task; empty before its
        self._start: dict[str, Parameters] = {}  # first gradient step, and where that was
        self._step: dict[str, _Step] = {}

    def begin_task(self, task: Task) -> None:
        self._path.clear()
        self._start.clear()

    def loss(self, part: Part, batch: Samples) -> Tensor | None:
        if part in self.parts:
            shared = part.shared_parameters()
            step = _Step({n: p.grad.clone() for n, p in shared.items() if p.grad is not None},
                         {n: p.detach().clone() for n, p in shared.items()})
            self._step[part.name] = step
            if part.name not in self._start:
                self._start[part.name] = step.start
                self._path[part.name] = {n: torch.zeros_like(p) for n, p in step.start.items()}
        return super().loss(part, batch)

    @torch.no_grad()
    def updated(self, batch: Samples) -> None:
        for part in self.parts:
            step, path = self._step.pop(part.name), self._path[part.name]
            parameters = part.shared_parameters()
            for name, gradient in step.gradient.items():
                path[name].addcmul_(gradient, parameters[name] - step.start[name], value=-1)

    @torch.no_grad()
    def end_task(self, task: Task) -> None:
        for part in self.parts:
            importance = self._anchors.importance(part)
            if part.name in self._path:
                path, start = self._path[part.name], self._start[part.name]
                parameters = part.shared_parameters()
                importance = {
                    name: so_far + (path[name] / ((parameters[name] - start[name]).square()
                                                  + self.config.damping)).clamp(min=0)
                    for name, so_far in importance.items()}
            self._anchors.replace(part, importance)

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            "path": {name: tensors_to_tree(path) for name, path in self._path.items()},
            "start": {name: tensors_to_tree(start) for name, start in self._start.items()},
        }

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        for part in self.parts:
            device = next(part.module.parameters()).device
            for kept, saved in ((self._path, tree["path"]), (self._start, tree["start"])):
                if part.name in saved:
                    kept[part.name] = tree_to_tensors(saved[part.name], device)
