"""What soft actor-critic agents share, whatever their networks are made of.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", as used by Continual World
(Wołczyk et al. 2021): one head per task on a common trunk, a temperature per task, and a choice of
what is reset when the task changes. Losses are taken at the same weights and all networks step
together, so that a method sees one consistent gradient of all parts.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crl import seeding
from crl.agent import BoolArray, FloatArray, Policy, Step
from crl.agents.actions import make_actions
from crl.agents.sac_config import SoftActorCriticConfig
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Method
from crl.methods.composition import Methods
from crl.methods.parts import Gaussian, Parameters, Part, Parts
from crl.nn import state as trees
from crl.nn.adam import Adam
from crl.nn.device import check_device
from crl.nn.network import Network
from crl.replay import Samples
from crl.stream import Task, TaskStream, space_bounds

S = TypeVar("S", bound=Samples)


class SoftActorCritic(ABC, Generic[S]):
    """The Agent contract but for networks, losses and replay, which subclasses have.

    A subclass adds its parts (:meth:`_add_part`) and its replay, then calls :meth:`_prepare`.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name: str
    replay: Any
    slow: tuple[str, ...]  # parts that have a slowly following copy, from which targets are taken

    def __init__(self, stream: TaskStream, settings: SoftActorCriticConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        self.config: Any = settings
        self._stream = stream
        self.device = check_device(device)
        self.methods = Methods()
        self._observation_bounds = space_bounds(stream.observation_space)
        self._actions = make_actions(stream.action_space)
        self._multi_head = settings.multi_head and stream.boundaries == "known"
        self._heads = stream.heads if self._multi_head else 1
        self._target_entropy = self._actions.target_entropy(settings.target_entropy)

        self._rng = seeding.generator(seed, "agent", "numpy")
        # On the CPU whatever the device: the same draws everywhere, a state that loads anywhere.
        self._generator = torch.Generator().manual_seed(seeding.integer(seed, "agent", "torch"))
        self._weights_generator = torch.Generator().manual_seed(
            seeding.integer(seed, "agent", "weights"))
        start = torch.tensor(float(np.log(settings.initial_temperature)))
        self.log_temperatures = nn.ParameterList(
            nn.Parameter(start.clone()) for _ in range(self._heads)).to(self.device)
        self._temperature_optimizer = self._adam(self.log_temperatures)
        self.parts: Parts = {}
        self.targets: dict[str, nn.Module] = {}  # of the parts in ``slow``
        self._drawn_anew: dict[str, Callable[[], nn.Module]] = {}

        self.head = 0
        self.gradient_steps = 0
        self._task_steps = 0
        self._updates_due = 0.0
        self._tasks_begun = 0
        self._last_action = np.zeros(self._actions.size, np.float32)
        self._tried: list[float] = []  # best_return: the return of each earlier head's episode
        self._known_heads: list[int] = []

    def _add_part(self, name: str, draw: Callable[[], nn.Module],
                  outputs: Callable[..., Gaussian | Tensor], gaussian: bool,
                  networks: Callable[[Any], Sequence[Network]] = lambda module: (),
                  inputs: Callable[[S], tuple[Tensor, int | Tensor]] | None = None,
                  acts: bool = False) -> None:
        """Adds a part; ``draw`` makes its module, now and when it is reset."""
        module = draw().to(self.device)
        self._drawn_anew[name] = draw
        self.parts[name] = Part(name, module, self._adam(module), outputs, gaussian,
                                tuple(networks(module)), inputs, acts)

    def _prepare(self) -> None:
        """Makes the target networks, and lists once what every gradient step walks through."""
        self.targets = {name: copy.deepcopy(self.parts[name].module).requires_grad_(False)
                        for name in self.slow}
        self._optimizers = [*(p.optimizer for p in self.parts.values()),
                            self._temperature_optimizer]
        self._parameters = [p for o in self._optimizers for g in o.param_groups
                            for p in g["params"]]
        self._fast_tensors, self._slow_tensors = (
            [p.detach() for module in modules for p in module.parameters()]
            for modules in ([self.parts[name].module for name in self.slow],
                            self.targets.values()))

    # ---- the Agent contract ----

    def attach(self, methods: Sequence[Method]) -> None:
        self.methods = Methods(methods)
        self.methods.attach(self, self._stream)
        for part in self.parts.values():
            part.optimizer = self._adam(part.module)  # of the parameters that there are by now
        self._prepare()

    def begin_task(self, task: Task) -> None:
        self.methods.begin_task(task)
        self.head = self._head_of(task)
        self._task_steps = 0
        self._updates_due = 0.0
        self._tried = []
        if self._tasks_begun > 0:
            self._reset_for_new_task()
        self._tasks_begun += 1

    def end_task(self, task: Task) -> None:
        self.methods.end_task(task)
        if self.head not in self._known_heads:
            self._known_heads.append(self.head)

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        exploring = self._task_steps < self.config.start_steps
        head = self._exploring_head(bool(first[0])) if exploring else self.head
        action = self._act(obs, first, head)
        self._last_action = action[0]
        return self._actions.to_env(action)

    def observe(self, step: Step) -> None:
        if len(step.reward) != 1:
            raise NotImplementedError(f"{self.name} learns from one environment at a time")
        if self.config.explore == "best_return" and self._task_steps < self.config.start_steps:
            if step.first[0]:
                self._tried.append(0.0)
            self._tried[-1] += float(step.reward[0])
        self._store(step)
        self._task_steps += 1
        if self._task_steps > self.config.update_after:
            self._updates_due += self.config.update_to_data

    def update(self) -> dict[str, float]:
        scalars: dict[str, float] = {}
        while self._updates_due >= 1:
            self._updates_due -= 1
            losses = self._gradient_step()
            if self.gradient_steps % 500 == 0:
                scalars = {name: float(value.detach()) for name, value in losses.items()}
        return scalars

    @property
    def renewed(self) -> tuple[str, ...]:
        reset: tuple[str, ...] = self.config.reset
        return reset

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            self._gradient_step()

    @abstractmethod
    def policy(self, task: Task) -> Policy: ...

    def state_dict(self) -> Tree:
        return {
            "parts": {name: trees.tensors_to_tree(dict(part.module.named_parameters()))
                      for name, part in self.parts.items()},
            "targets": {name: trees.tensors_to_tree(dict(target.named_parameters()))
                        for name, target in self.targets.items()},
            "temperatures": trees.tensors_to_tree(dict(self.log_temperatures.named_parameters())),
            "optimizers": [trees.optimizer_to_tree(o) for o in self._optimizers],
            "replay": self.replay.state_dict(),
            "methods": self.methods.state_dict(),
            "numpy": seeding.generator_state(self._rng),
            "torch": trees.generator_to_tree(self._generator),
            "weights": trees.generator_to_tree(self._weights_generator),
            "counters": {
                "head": self.head, "gradient_steps": self.gradient_steps,
                "task_steps": self._task_steps, "updates_due": self._updates_due,
                "tasks_begun": self._tasks_begun, "tried": self._tried,
                "known_heads": self._known_heads,
            },
        }

    def load_state_dict(self, tree: Tree) -> None:
        for name, part in self.parts.items():
            trees.load_parameters(part.module, tree["parts"][name])
        for name, target in self.targets.items():
            trees.load_parameters(target, tree["targets"][name])
        trees.load_parameters(self.log_temperatures, tree["temperatures"])
        for optimizer, moments in zip(self._optimizers, tree["optimizers"], strict=True):
            trees.load_optimizer(optimizer, moments)
        self.replay.load_state_dict(tree["replay"])
        self.methods.load_state_dict(tree["methods"])
        seeding.restore_generator(self._rng, tree["numpy"])
        trees.load_generator(self._generator, tree["torch"])
        trees.load_generator(self._weights_generator, tree["weights"])
        counters = tree["counters"]
        self.head, self.gradient_steps = counters["head"], counters["gradient_steps"]
        self._task_steps, self._updates_due = counters["task_steps"], counters["updates_due"]
        self._tasks_begun = counters["tasks_begun"]
        self._tried, self._known_heads = list(counters["tried"]), list(counters["known_heads"])

    # ---- what a subclass has ----

    @abstractmethod
    def _act(self, obs: FloatArray, first: BoolArray, head: int | None) -> FloatArray:
        """Exploring actions [N, act], not scaled yet: a head's, or at random for None."""

    @abstractmethod
    def _store(self, step: Step) -> None:
        """Puts a step, which ``_last_action`` led to, into the replay."""

    @abstractmethod
    def _add_gradients(self, batch: S) -> dict[str, Tensor]:
        """Adds the gradients of all losses to every ``.grad``; returns the losses' values."""

    # ---- learning ----

    def _adam(self, module: nn.Module) -> Adam:
        return Adam(module.parameters(), lr=self.config.learning_rate)

    def gradients(self, batch: S) -> dict[str, Parameters]:
        kept = [p.grad for p in self._parameters]
        self._clear_gradients()
        self._add_gradients(batch)
        found = {
            part.name: {n: p.grad for n, p in part.parameters().items() if p.grad is not None}
            for part in self.parts.values()
        }
        for parameter, gradient in zip(self._parameters, kept, strict=True):
            parameter.grad = gradient
        return found

    def _clear_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def _gradient_step(self) -> dict[str, Tensor]:
        fresh: S = self.replay.sample(self.config.batch_size, self._rng)
        batch = self.methods.rehearse(fresh).sorted()
        self._clear_gradients()
        losses = self._add_gradients(batch)
        extra = [loss for part in self.parts.values() for loss in self.methods.losses(part, batch)]
        if extra:
            torch.autograd.backward(extra)
        self.methods.gradients()
        for optimizer in self._optimizers:
            optimizer.step()
        self.methods.updated(batch)
        torch._foreach_lerp_(self._slow_tensors, self._fast_tensors, 1 - self.config.polyak)
        self.gradient_steps += 1
        return losses

    def _log_temperature(self, head: int | Tensor) -> Tensor:
        if isinstance(head, Tensor):
            return torch.stack(list(self.log_temperatures))[head]
        log_temperature: Tensor = self.log_temperatures[head]
        return log_temperature

    # ---- tasks ----

    def _head_of(self, task: Task) -> int:
        if not self._multi_head:
            return 0
        require(task.head < len(self.log_temperatures),
                f"task {task.name!r} has head {task.head}, the agent {len(self.log_temperatures)} "
                "heads; make the agent for this stream")
        return task.head

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

    def _reset_for_new_task(self) -> None:
        reset = self.config.reset
        if "replay" in reset:
            self.replay.clear()
        for name, draw in self._drawn_anew.items():
            if name in reset:
                trees.copy_parameters(draw(), self.parts[name].module)
                if name in self.targets:
                    trees.copy_parameters(self.parts[name].module, self.targets[name])
        if "optimizer" in reset:
            for optimizer in self._optimizers:
                optimizer.state.clear()
