"""What agents share that are made of parts: networks with their optimisers, heads, methods."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from crl import config, seeding
from crl.agent import BoolArray, FloatArray, Policy, Step, Taken
from crl.agents.acting import Acting
from crl.agents.actions import make_actions
from crl.agents.agent_config import AgentConfig, NetworkConfig, ValueConfig
from crl.checkpoint import Tree
from crl.config import require
from crl.memory.generated_network import GeneratedNetwork
from crl.memory.hypernetwork import Hypernetwork
from crl.methods.base import Method
from crl.methods.composition import Methods
from crl.methods.output_regularizer import OutputRegularizer
from crl.methods.parts import Gaussian, Parameters, Part, Parts
from crl.nn import state as trees
from crl.nn.adam import Adam
from crl.nn.device import check_device
from crl.nn.network import Network
from crl.nn.scaling import ObservationScaling
from crl.replay import Samples
from crl.stream import Task, TaskStream, space_bounds

S = TypeVar("S", bound=Samples)
AnyNetwork = Network | GeneratedNetwork


class PartsAgent(ABC, Generic[S]):
    """The Agent contract but for networks, losses and replay, which subclasses have.

    Losses are taken at the same weights and all parts step together, so that a method sees one
    consistent gradient. A subclass adds its parts (:meth:`_add_part`), what it acts with and its
    replay, then calls :meth:`_prepare`.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name: str
    on_policy = False
    replay: Any
    _acting: Acting
    _beta2 = 0.999  # Adam's

    def __init__(self, stream: TaskStream, settings: AgentConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        self.config: Any = settings
        self._stream = stream
        self.device = check_device(device)
        self.methods = Methods()
        self._observation_bounds = space_bounds(stream.observation_space)
        self._actions = make_actions(stream.action_space)
        networks = settings if isinstance(settings, NetworkConfig) else None
        self._multi_head = bool(networks and networks.multi_head and stream.boundaries == "known")
        self._heads = stream.heads if self._multi_head else 1

        self._method_seed = seeding.integer(seed, "agent", "method")
        self._rng = seeding.generator(seed, "agent", "numpy")
        # On the CPU whatever the device: the same draws everywhere, a state that loads anywhere.
        self._generator = torch.Generator().manual_seed(seeding.integer(seed, "agent", "torch"))
        self._weights_generator = torch.Generator().manual_seed(
            seeding.integer(seed, "agent", "weights"))
        self._scaling = (ObservationScaling(self._heads, len(self._observation_bounds[0]),
                                            self.device)
                         if isinstance(settings, ValueConfig) and settings.normalize_observations
                         else None)
        generated = networks is not None and networks.trunk == "hypernetwork"
        require(not generated or stream.boundaries == "known",
                f"a hypernetwork must be told which task it is; stream {stream.name!r} does not "
                "say; leave agent.trunk at mlp")
        self._hypernetwork = (config.build(Hypernetwork.Config, networks.trunk_options, "trunk")
                              if networks and generated else None)
        self.parts: Parts = {}
        self._drawn_anew: dict[str, Callable[[], nn.Module]] = {}
        self._paces: dict[str, float] = {}

        self.head = 0
        self.gradient_steps = 0
        self._tasks_begun = 0
        self._task_steps = 0

    def _add_part(self, name: str, draw: Callable[[], nn.Module],
                  outputs: Callable[..., Gaussian | Tensor], gaussian: bool,
                  networks: Callable[[Any], Iterable[nn.Module]] = lambda module: (),
                  inputs: Callable[[S], tuple[Tensor, int | Tensor]] | None = None,
                  acts: bool = False, pace: float = 1.0,
                  loss: Callable[[S], Tensor] | None = None) -> None:
        """Adds a part; ``draw`` makes its module, now and when it is reset.

        ``pace`` is a factor on its learning rate; for the others see :class:`Part`.
        """
        module = draw().to(self.device)
        self._drawn_anew[name] = draw
        self._paces[name] = pace
        self.parts[name] = Part(name, module, self._adam(module, pace), outputs, gaussian,
                                tuple(n for n in networks(module) if isinstance(n, Network)),
                                inputs, acts, loss)

    def _network(self, size_in: int, size_out: int, *, bf16: bool = False
                 ) -> Callable[[], AnyNetwork]:
        """Draws networks of these widths, everything else as the settings say."""
        settings = self.config
        form = (partial(GeneratedNetwork, config=self._hypernetwork) if self._hypernetwork else
                partial(Network, bf16=bf16))
        return partial(form, size_in, size_out, settings.hidden, self._heads,
                       self._weights_generator, layer_norm=settings.layer_norm)

    def _deployed(self, name: str, task: Task) -> nn.Module:
        """A copy of a part's module for a policy of the task: on the CPU, methods applied."""
        part = self.parts[name]
        module = copy.deepcopy(part.module).eval().cpu()
        trees.put_parameters(module, self.methods.deployed(part, task))
        if isinstance(module, GeneratedNetwork):
            return module.of_head(self._head_of(task))
        return module

    def _deployed_scaling(self, task: Task) -> tuple[Tensor, Tensor] | None:
        """How a policy of the task scales its observations."""
        return None if self._scaling is None else self._scaling.of(self._head_of(task))

    def _prepare(self) -> None:
        """Lists once what every gradient step walks through."""
        self._optimizers = self._all_optimizers()
        self._parameters = [p for o in self._optimizers for g in o.param_groups
                            for p in g["params"]]

    def _all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [part.optimizer for part in self.parts.values()]

    # ---- the Agent contract ----

    def attach(self, methods: Sequence[Method]) -> None:
        own = ([OutputRegularizer(self._hypernetwork, self._method_seed)]
               if self._hypernetwork else [])
        self.methods = Methods([*methods, *own])
        self.methods.attach(self, self._stream)
        for name, part in self.parts.items():  # of the parameters that there are by now
            part.optimizer = self._adam(part.module, self._paces[name])
        self._prepare()

    def begin_task(self, task: Task) -> None:
        self.methods.begin_task(task)
        self.head = self._head_of(task)
        self._task_steps = 0
        if self._tasks_begun > 0:
            self._reset_for_new_task()
        self._tasks_begun += 1

    def end_task(self, task: Task) -> None:
        self.methods.end_task(task)

    def act(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        return self._ready_to_act(first).act(obs, first)

    def check_explorers(self) -> None:
        """Any will do."""

    def explorer(self) -> Acting:
        return self._ready_to_act(np.array([True])).apart()

    def observe(self, step: Step) -> None:
        if len(step.reward) != 1:
            raise NotImplementedError(f"{self.name} learns from one environment at a time")
        self._store(step)
        if self._scaling is not None:
            self._scaling.see(step.obs[0], self.head)
        self._task_steps += 1

    @abstractmethod
    def update(self) -> dict[str, float]: ...

    @abstractmethod
    def policy(self, task: Task) -> Policy: ...

    @property
    def renewed(self) -> tuple[str, ...]:
        reset: tuple[str, ...] = self.config.reset
        return reset

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            self._gradient_step(self.replay.sample(self.config.batch_size, self._rng))

    def state_dict(self) -> Tree:
        return {
            "parts": {name: trees.tensors_to_tree(dict(part.module.named_parameters()))
                      for name, part in self.parts.items()},
            "optimizers": [trees.optimizer_to_tree(o) for o in self._optimizers],
            "replay": self.replay.state_dict(),
            "methods": self.methods.state_dict(),
            "scaling": self._scaling.state_dict() if self._scaling else None,
            "numpy": seeding.generator_state(self._rng),
            "torch": trees.generator_to_tree(self._generator),
            "weights": trees.generator_to_tree(self._weights_generator),
            "head": self.head,
            "gradient_steps": self.gradient_steps,
            "tasks_begun": self._tasks_begun,
            "task_steps": self._task_steps,
        }

    def load_state_dict(self, tree: Tree) -> None:
        for name, part in self.parts.items():
            trees.load_parameters(part.module, tree["parts"][name])
        for optimizer, moments in zip(self._optimizers, tree["optimizers"], strict=True):
            trees.load_optimizer(optimizer, moments)
        self.replay.load_state_dict(tree["replay"])
        self.methods.load_state_dict(tree["methods"])
        if self._scaling is not None:
            self._scaling.load_state_dict(tree["scaling"])
        seeding.restore_generator(self._rng, tree["numpy"])
        trees.load_generator(self._generator, tree["torch"])
        trees.load_generator(self._weights_generator, tree["weights"])
        self.head, self.gradient_steps = tree["head"], tree["gradient_steps"]
        self._tasks_begun, self._task_steps = tree["tasks_begun"], tree["task_steps"]

    # ---- acting ----

    def _ready_to_act(self, first: BoolArray) -> Acting:
        self._acting.head, self._acting.acts_as = self.head, self._acting_head(first)
        return self._acting

    def _acting_head(self, first: BoolArray) -> int | None:
        """Which head acts; None: actions at random."""
        return self.head

    def _taken(self, step: Step) -> Taken:
        """The action that a step came of."""
        return step.taken or self._acting.taken

    @abstractmethod
    def _store(self, step: Step) -> None:
        """Puts a step into the replay."""

    def _scale(self, obs: Tensor, head: int | Tensor) -> Tensor:
        """Observations [B, …, obs] as networks are given them."""
        return obs if self._scaling is None else self._scaling(obs, head)

    # ---- learning ----

    @abstractmethod
    def _add_gradients(self, batch: S) -> dict[str, Tensor]:
        """Adds the gradients of all losses to every ``.grad``; returns the losses' values."""

    def _after_step(self) -> None:
        """Called at the end of every gradient step."""

    def _adam(self, module: nn.Module, pace: float = 1.0) -> Adam:
        return Adam(module.parameters(), pace * self.config.learning_rate, self._beta2)

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

    def _gradient_step(self, fresh: S) -> dict[str, Tensor]:
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
        self._after_step()
        self.gradient_steps += 1
        return losses

    # ---- tasks ----

    def _head_of(self, task: Task) -> int:
        if not self._multi_head:
            return 0
        require(task.head < self._heads,
                f"task {task.name!r} has head {task.head}, the agent {self._heads} "
                "heads; make the agent for this stream")
        return task.head

    def _reset_for_new_task(self) -> None:
        reset = self.config.reset
        if "replay" in reset:
            self.replay.clear()
        for name, draw in self._drawn_anew.items():
            if name in reset:
                self._redraw(name, draw())
        if "optimizer" in reset:
            for optimizer in self._optimizers:
                optimizer.state.clear()

    def _redraw(self, name: str, module: nn.Module) -> None:
        """Gives a part the weights of a new module of its form."""
        trees.copy_parameters(module, self.parts[name].module)
