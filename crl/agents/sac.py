"""Soft actor-critic for streams of tasks.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", as used by Continual World
(Wołczyk et al. 2021): one head per task on a common trunk, a temperature per task, and a choice of
what is reset when the task changes. Losses are taken at the same weights and all networks step
together, so that a method sees one consistent gradient of all parts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from crl import seeding
from crl.agent import BoolArray, FloatArray, PolicySpec, Step
from crl.agents.sac_config import SACConfig
from crl.agents.sac_networks import Critics, SACPolicy, scale_action
from crl.checkpoint import Tree
from crl.config import require
from crl.methods.base import Method
from crl.methods.composition import Methods
from crl.methods.parts import Gaussian, Parameters, Part, Parts
from crl.nn import state as trees
from crl.nn.adam import Adam
from crl.nn.device import check_device
from crl.nn.distributions import TanhGaussian, mean_and_log_std
from crl.nn.layers import rows_by_head
from crl.nn.network import Network, add_gradient
from crl.nn.scaling import ObservationScaling
from crl.replay import Batch, Replay
from crl.stream import Task, TaskStream, space_bounds


class SAC:
    """Soft actor-critic with a head and a temperature per task.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration; see :class:`SACConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "sac"
    Config = SACConfig

    def __init__(self, stream: TaskStream, settings: SACConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        self.config = settings
        self._stream = stream
        self.device = check_device(device)
        self.methods = Methods()
        self._observation_bounds = space_bounds(stream.observation_space)
        self._action_bounds = space_bounds(stream.action_space)
        self._multi_head = settings.multi_head and stream.boundaries == "known"
        obs, act = len(self._observation_bounds[0]), len(self._action_bounds[0])
        heads = stream.heads if self._multi_head else 1
        self._target_entropy = settings.target_entropy * act

        self._rng = seeding.generator(seed, "agent", "numpy")
        # On the CPU whatever the device: the same draws everywhere, a state that loads anywhere.
        self._generator = torch.Generator().manual_seed(seeding.integer(seed, "agent", "torch"))
        initial = torch.Generator().manual_seed(seeding.integer(seed, "agent", "weights"))
        network = partial(Network, hidden=settings.hidden, heads=heads, generator=initial,
                          layer_norm=settings.layer_norm, bf16=settings.precision == "bf16")
        self._new_actor = partial(network, obs, 2 * act)
        self._new_critics = partial(Critics, partial(network, obs + act, 1))
        self.actor = self._new_actor().to(self.device)
        self.critics = self._new_critics().to(self.device)
        start = torch.tensor(float(np.log(settings.initial_temperature)))
        self.log_temperatures = nn.ParameterList(
            nn.Parameter(start.clone()) for _ in range(heads)).to(self.device)
        self._weights_generator = initial

        twins = cast(Iterable[Network], self.critics.twins)
        self.parts: Parts = {
            "actor": Part("actor", self.actor, self._adam(self.actor), self._actor_outputs, True,
                          (self.actor,), lambda batch: self._scale(batch.obs, batch.head)),
            "critic": Part("critic", self.critics, self._adam(self.critics), self._critic_outputs,
                           False, tuple(twins),
                           lambda batch: torch.cat(
                               (self._scale(batch.obs, batch.head), batch.action), -1)),
        }
        self._temperature_optimizer = self._adam(self.log_temperatures)
        self._prepare()
        self.replay = Replay(settings.replay_size, obs, act, n_step=settings.n_step,
                             gamma=settings.gamma, device=self.device)
        self._scaling = (ObservationScaling(heads, obs, self.device)
                         if settings.normalize_observations else None)
        self.head = 0
        self.gradient_steps = 0
        self._task_steps = 0
        self._updates_due = 0.0
        self._tasks_begun = 0
        self._last_action = np.zeros(act, np.float32)
        self._tried: list[float] = []  # best_return: the return of each earlier head's episode
        self._known_heads: list[int] = []

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
        if head is None:
            shape = (len(obs), len(self._last_action))
            action: FloatArray = self._rng.uniform(-1, 1, shape).astype(np.float32)
        else:
            with torch.inference_mode():
                scaled = self._scale(trees.to_tensor(obs).to(self.device), head)
                out = self.actor(scaled, head)
                noise = self._noise(len(obs))
                action = TanhGaussian(out, noise).action.cpu().numpy()
        self._last_action = action[0]
        return scale_action(action, self._action_bounds)

    def observe(self, step: Step) -> None:
        if len(step.reward) != 1:
            raise NotImplementedError("SAC learns from one environment at a time")
        if self.config.explore == "best_return" and self._task_steps < self.config.start_steps:
            if step.first[0]:
                self._tried.append(0.0)
            self._tried[-1] += float(step.reward[0])
        self.replay.add(
            step.obs[0], self._last_action, step.reward[0], step.next_obs[0],
            terminated=bool(step.terminated[0]), truncated=bool(step.truncated[0]), head=self.head,
        )
        if self._scaling is not None:
            self._scaling.see(step.obs[0], self.head)
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
        return self.config.reset

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            self._gradient_step()

    def policy(self, task: Task) -> SACPolicy:
        actor = copy.deepcopy(self.actor).eval()
        trees.put_parameters(actor, self.methods.deployed(self.parts["actor"], task))
        spec = PolicySpec(task.name, *self._observation_bounds, *self._action_bounds)
        head = self._head_of(task)
        scaling = None if self._scaling is None else self._scaling.of(head)
        return SACPolicy(spec, actor.cpu(), head, scaling)

    def state_dict(self) -> Tree:
        return {
            "actor": trees.tensors_to_tree(dict(self.actor.named_parameters())),
            "critics": trees.tensors_to_tree(dict(self.critics.named_parameters())),
            "target_critics": trees.tensors_to_tree(dict(self.target_critics.named_parameters())),
            "temperatures": trees.tensors_to_tree(dict(self.log_temperatures.named_parameters())),
            "optimizers": [trees.optimizer_to_tree(o) for o in self._optimizers],
            "replay": self.replay.state_dict(),
            "scaling": self._scaling.state_dict() if self._scaling else None,
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
        trees.load_parameters(self.actor, tree["actor"])
        trees.load_parameters(self.critics, tree["critics"])
        trees.load_parameters(self.target_critics, tree["target_critics"])
        trees.load_parameters(self.log_temperatures, tree["temperatures"])
        for optimizer, moments in zip(self._optimizers, tree["optimizers"], strict=True):
            trees.load_optimizer(optimizer, moments)
        self.replay.load_state_dict(tree["replay"])
        if self._scaling is not None:
            self._scaling.load_state_dict(tree["scaling"])
        self.methods.load_state_dict(tree["methods"])
        seeding.restore_generator(self._rng, tree["numpy"])
        trees.load_generator(self._generator, tree["torch"])
        trees.load_generator(self._weights_generator, tree["weights"])
        counters = tree["counters"]
        self.head, self.gradient_steps = counters["head"], counters["gradient_steps"]
        self._task_steps, self._updates_due = counters["task_steps"], counters["updates_due"]
        self._tasks_begun = counters["tasks_begun"]
        self._tried, self._known_heads = list(counters["tried"]), list(counters["known_heads"])

    # ---- learning ----

    def _adam(self, module: nn.Module) -> Adam:
        return Adam(module.parameters(), lr=self.config.learning_rate)

    def _prepare(self) -> None:
        """Makes the target networks, and lists once what every gradient step walks through."""
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self._optimizers = [*(p.optimizer for p in self.parts.values()),
                            self._temperature_optimizer]
        self._parameters = [p for o in self._optimizers for g in o.param_groups
                            for p in g["params"]]
        self._critic_tensors = [p.detach() for p in self.critics.parameters()]
        self._target_tensors = [p.detach() for p in self.target_critics.parameters()]

    def gradients(self, batch: Batch) -> dict[str, Parameters]:
        kept = [p.grad for p in self._parameters]
        self._clear_gradients()
        self.backward(batch, self._noise(len(batch.obs)), self._noise(len(batch.obs)))
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

    @torch.no_grad()
    def backward(self, batch: Batch, noise: Tensor, next_noise: Tensor) -> dict[str, Tensor]:
        """Adds the gradients of the three losses on a batch, each to its own network's only.

        They are ``critic``: ½ Σ over both critics of the mean squared error to the soft target;
        ``actor``: mean of α log π − min Q; ``temperature``: −mean of log α (log π + target
        entropy).

        Args:
            batch: B transitions.
            noise, next_noise: Standard normal draws [B, act] for the actions at ``obs`` and
                ``next_obs``.

        Returns:
            The values of the three.
        """
        size, width = batch.obs.shape
        mean, head = 1 / size, batch.head
        both = torch.cat((head, head)) if isinstance(head, Tensor) else head
        now, later = slice(0, size), slice(size, None)
        log_alpha = self._log_temperature(head)
        alpha = log_alpha.exp()

        # One pass over two batches each: obs and next_obs; the action taken and the policy's.
        seen = self._scale(torch.cat((batch.obs, batch.next_obs)), both)
        obs, next_obs = seen[now], seen[later]
        actor = self.actor.run(seen, both)
        policy = TanhGaussian(actor.out[now], noise)
        next_policy = TanhGaussian(actor.out[later], next_noise)
        next_q = torch.minimum(*(twin.out.squeeze(-1) for twin in self.target_critics.run(
            next_obs, next_policy.action, head)))
        target = (self.config.reward_scale * batch.reward
                  + batch.discount * (next_q - alpha * next_policy.log_prob))
        twins = self.critics.run(torch.cat((obs, obs)),
                                 torch.cat((batch.action, policy.action)), both)
        errors = [twin.out[now, 0] - target for twin in twins]
        for twin, error in zip(twins, errors, strict=True):
            twin.to_weights(mean * error.unsqueeze(-1), now)

        first, second = (twin.out[later] for twin in twins)
        counts = (first <= second).float()  # 1 where the first is the lower, the one that counts
        at_action = (twins[0].to_inputs(-mean * counts, later)
                     + twins[1].to_inputs(mean * (counts - 1), later))[:, width:]
        actor.to_weights(policy.to_out(at_action, mean * alpha.expand(size)), now)

        surplus = policy.log_prob + self._target_entropy
        for h, rows in rows_by_head(head):
            add_gradient(self.log_temperatures[h], -mean * surplus[rows].sum())
        q = torch.minimum(first, second).squeeze(-1)
        return {"critic": 0.5 * mean * (errors[0].square() + errors[1].square()).sum(),
                "actor": (alpha * policy.log_prob - q).mean(),
                "temperature": -(log_alpha * surplus).mean()}

    def _gradient_step(self) -> dict[str, Tensor]:
        batch = self.replay.sample(self.config.batch_size, self._rng)
        batch = self.methods.rehearse(batch).sorted()
        self._clear_gradients()
        losses = self.backward(batch, self._noise(len(batch.obs)), self._noise(len(batch.obs)))
        extra = [loss for part in self.parts.values() for loss in self.methods.losses(part, batch)]
        if extra:
            torch.autograd.backward(extra)
        self.methods.gradients()
        for optimizer in self._optimizers:
            optimizer.step()
        self.methods.updated(batch)
        torch._foreach_lerp_(self._target_tensors, self._critic_tensors, 1 - self.config.polyak)
        self.gradient_steps += 1
        return losses

    def _scale(self, obs: Tensor, head: int | Tensor) -> Tensor:
        return obs if self._scaling is None else self._scaling(obs, head)

    def _log_temperature(self, head: int | Tensor) -> Tensor:
        if isinstance(head, Tensor):
            return torch.stack(list(self.log_temperatures))[head]
        log_temperature: Tensor = self.log_temperatures[head]
        return log_temperature

    def _noise(self, rows: int) -> Tensor:
        shape = (rows, len(self._last_action))
        return torch.randn(shape, generator=self._generator).to(self.device)

    def _actor_outputs(self, batch: Batch, parameters: dict[str, Tensor] | None = None) -> Gaussian:
        obs = self._scale(batch.obs, batch.head)
        out = functional_call(self.actor, parameters or {}, (obs, batch.head))
        mean, log_std = mean_and_log_std(out)
        return Gaussian(mean, log_std.exp())

    def _critic_outputs(self, batch: Batch, parameters: dict[str, Tensor] | None = None) -> Tensor:
        arguments = (self._scale(batch.obs, batch.head), batch.action, batch.head)
        values: Tensor = functional_call(self.critics, parameters or {}, arguments)
        return values

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
        if "actor" in reset:
            trees.copy_parameters(self._new_actor(), self.actor)
        if "critic" in reset:
            trees.copy_parameters(self._new_critics(), self.critics)
            trees.copy_parameters(self.critics, self.target_critics)
        if "optimizer" in reset:
            for optimizer in self._optimizers:
                optimizer.state.clear()
