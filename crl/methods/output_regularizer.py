"""What a hypernetwork gives for old tasks is held where it was.

von Oswald et al. 2020, "Continual learning with hypernetworks".
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.func import functional_call

from crl import seeding
from crl.checkpoint import Tree
from crl.memory.hypernetwork import Hypernetwork
from crl.methods.base import Learner, Method, check_needs
from crl.methods.parts import Parameters, Part
from crl.nn.adam import Adam
from crl.nn.state import tensors_to_tree, tree_to_tensors
from crl.stream import Task, TaskStream


class OutputRegularizer(Method):
    """Adds β/k Σ ‖W*ⱼ − h(eⱼ, θ + Δθ)‖² over the k old tasks j, for hypernetworks of the policy.

    W*ⱼ is what the hypernetwork h gave for task j when the current one began, θ are the weights
    that all tasks share, and Δθ is the step that the optimiser is about to take for the task's own
    loss, through which no gradient goes. Embeddings of old tasks stay as they are.

    Agents whose ``trunk`` is a hypernetwork bring it along; its settings are the hypernetwork's.
    What is kept is one copy of the shared weights, however many tasks there are.
    """

    name = "output-regularizer"
    paper = "von Oswald et al. 2020"
    needs = ("boundaries", "heads")
    keeps_weights = True
    Config = Hypernetwork.Config  # type: ignore[assignment]

    config: Hypernetwork.Config

    def attach(self, learner: Learner, stream: TaskStream) -> None:
        self.learner = learner
        self.parts = [part for part in learner.parts.values()
                      if part.acts and _hypernetworks(part)]
        check_needs(self, stream)
        self._all = {name: h for part in self.parts for name, h in _hypernetworks(part).items()}
        self._rng = seeding.generator(self.seed, self.name)
        self._finished: list[int] = []
        self._old: list[int] = []  # those of them that are not being learned again
        self._before: dict[str, Parameters] = {}  # shared weights when the task began
        # Room for the shared weights a step ahead: new room in every step costs more than its use.
        self._ahead = {name: {n: torch.empty_like(p) for n, p in h.shared_parameters().items()}
                       for name, h in self._all.items()}
        self._targets: dict[str, Tensor] = {}  # W* of the old tasks, [K, size]

    def begin_task(self, task: Task) -> None:
        self._old = [head for head in self._finished if head != task.head]
        self._before = {name: {n: p.detach().clone() for n, p in h.shared_parameters().items()}
                        for name, h in self._all.items()} if self._old else {}
        self._generate_targets()

    def gradients(self) -> None:
        count = min(self.config.regularized or len(self._old), len(self._old))
        if not count or not self.config.coefficient:
            return
        drawn = (None if count == len(self._old) else
                 sorted(self._rng.choice(len(self._old), count, replace=False).tolist()))
        old = self._old if drawn is None else [self._old[i] for i in drawn]
        for name, hypernetwork in self._all.items():
            part = self.learner.parts[name.partition(".")[0]]
            optimizer = cast(Adam, part.optimizer)
            ahead = self._ahead[name]
            for n, parameter in hypernetwork.shared_parameters().items():
                optimizer.ahead(parameter, ahead[n])
            target = self._targets[name]
            hypernetwork.add_penalty_gradient(old, target if drawn is None else target[drawn],
                                              self.config.coefficient / count, ahead)

    def end_task(self, task: Task) -> None:
        if task.head not in self._finished:
            self._finished.append(task.head)

    def state_dict(self) -> Tree:
        return {"finished": list(self._finished), "old": list(self._old),
                "before": {name: tensors_to_tree(p) for name, p in self._before.items()},
                "rng": seeding.generator_state(self._rng)}

    def load_state_dict(self, tree: Tree) -> None:
        self._finished, self._old = list(tree["finished"]), list(tree["old"])
        devices = {name: next(h.parameters()).device for name, h in self._all.items()}
        self._before = {name: tree_to_tensors(p, devices[name])
                        for name, p in tree["before"].items()}
        seeding.restore_generator(self._rng, tree["rng"])
        self._generate_targets()

    @torch.no_grad()
    def _generate_targets(self) -> None:
        """From the weights as they were: the embeddings of old tasks have not changed since."""
        self._targets = {
            name: functional_call(hypernetwork, self._before[name],
                                  (hypernetwork.heads(self._old),))
            for name, hypernetwork in self._all.items()} if self._old else {}


def _hypernetworks(part: Part) -> dict[str, Hypernetwork]:
    return {f"{part.name}.{name}": module for name, module in part.module.named_modules()
            if isinstance(module, Hypernetwork)}
