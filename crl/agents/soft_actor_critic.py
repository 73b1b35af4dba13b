"""What soft actor-critic agents share, whatever their networks are made of.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", as used by Continual World
(Wołczyk et al. 2021): one head per task on a common trunk, a temperature per task, and a choice of
what is reset when the task changes.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from crl.agent import BoolArray, Step
from crl.agents.parts_agent import PartsAgent, S
from crl.agents.sac_config import SoftActorCriticConfig
from crl.checkpoint import Tree
from crl.config import require
from crl.nn import state as trees
from crl.stream import Task, TaskStream


class SoftActorCritic(PartsAgent[S]):
    """A :class:`PartsAgent` with temperatures, target networks and exploration at a task's start.

    Arguments as there.
    """

    slow: tuple[str, ...]  # parts that have a slowly following copy, from which targets are taken

    def __init__(self, stream: TaskStream, settings: SoftActorCriticConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        super().__init__(stream, settings, seed, device)
        self._target_entropy = self._actions.target_entropy(settings.target_entropy)
        start = torch.tensor(float(np.log(settings.initial_temperature)))
        self.log_temperatures = nn.ParameterList(
            nn.Parameter(start.clone()) for _ in range(self._heads)).to(self.device)
        self._temperature_optimizer = self._adam(self.log_temperatures)
        self.targets: dict[str, nn.Module] = {}  # of the parts in ``slow``

        self._updates_due = 0.0
        self._tried: list[float] = []  # best_return: the return of each earlier head's episode
        self._known_heads: list[int] = []

    def _prepare(self) -> None:
        super()._prepare()
        self.targets = {name: copy.deepcopy(self.parts[name].module).requires_grad_(False)
                        for name in self.slow}
        self._fast_tensors, self._slow_tensors = (
            [p.detach() for module in modules for p in module.parameters()]
            for modules in ([self.parts[name].module for name in self.slow],
                            self.targets.values()))

    def _all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [*super()._all_optimizers(), self._temperature_optimizer]

    # ---- the Agent contract ----

    def begin_task(self, task: Task) -> None:
        super().begin_task(task)
        self._updates_due = 0.0
        self._tried = []

    def end_task(self, task: Task) -> None:
        super().end_task(task)
        if self.head not in self._known_heads:
            self._known_heads.append(self.head)

    def check_explorers(self) -> None:
        require(self.config.explore != "best_return",
                "agent.explore=best_return tries heads episode by episode, which cannot be played "
                "ahead; leave train.round_episodes at 0, or set agent.explore=previous")

    def observe(self, step: Step) -> None:
        exploring = self._exploring
        super().observe(step)
        if exploring and self.config.explore == "best_return":
            if step.first[0]:
                self._tried.append(0.0)
            self._tried[-1] += float(step.reward[0])
        if self._task_steps > self.config.update_after:
            self._updates_due += self.config.update_to_data

    def update(self) -> dict[str, float]:
        scalars: dict[str, float] = {}
        while self._updates_due >= 1:
            self._updates_due -= 1
            losses = self._gradient_step(self.replay.sample(self.config.batch_size, self._rng))
            if self.gradient_steps % 500 == 0:
                scalars = {name: float(value.detach()) for name, value in losses.items()}
        return scalars

    def state_dict(self) -> Tree:
        return {
            **super().state_dict(),
            "targets": {name: trees.tensors_to_tree(dict(target.named_parameters()))
                        for name, target in self.targets.items()},
            "temperatures": trees.tensors_to_tree(dict(self.log_temperatures.named_parameters())),
            "counters": {
                "updates_due": self._updates_due, "tried": self._tried,
                "known_heads": self._known_heads,
            },
        }

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        for name, target in self.targets.items():
            trees.load_parameters(target, tree["targets"][name])
        trees.load_parameters(self.log_temperatures, tree["temperatures"])
        counters = tree["counters"]
        self._updates_due = counters["updates_due"]
        self._tried, self._known_heads = list(counters["tried"]), list(counters["known_heads"])

    # ---- learning ----

    def _after_step(self) -> None:
        torch._foreach_lerp_(self._slow_tensors, self._fast_tensors, 1 - self.config.polyak)

    def _log_temperature(self, head: int | Tensor) -> Tensor:
        if isinstance(head, Tensor):
            return torch.stack(list(self.log_temperatures))[head]
        log_temperature: Tensor = self.log_temperatures[head]
        return log_temperature

    @property
    def _exploring(self) -> bool:
        exploring: bool = self._task_steps < self.config.start_steps
        return exploring

    def _acting_head(self, first: BoolArray) -> int | None:
        return self._exploring_head(bool(first[0])) if self._exploring else self.head

    def _exploring_head(self, first: bool) -> int | None:
        """The head that explores now, None for uniform actions."""
        mode = self.config.explore
        if mode == "current":
            return self.head
        if mode == "uniform" or not self._known_heads:
            return None
        if mode == "previous":
            return self._known_heads[-1]
        episode = len(self._tried) - (0 if first else 1)
        if episode < len(self._known_heads):
            return self._known_heads[episode]
        best = int(np.argmax(self._tried[: len(self._known_heads)]))
        return self._known_heads[best]

    def _redraw(self, name: str, module: nn.Module) -> None:
        super()._redraw(name, module)
        if name in self.targets:
            trees.copy_parameters(self.parts[name].module, self.targets[name])
