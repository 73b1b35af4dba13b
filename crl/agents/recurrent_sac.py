"""Soft actor-critic with a memory: it learns from sequences and sees what is not shown to it."""

from __future__ import annotations

import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crl.agent import BoolArray, FloatArray, PolicySpec, Step
from crl.agents.prediction import FuturePredictor
from crl.agents.recurrent_config import RecurrentSACConfig
from crl.agents.recurrent_networks import Encoder, RecurrentPolicy
from crl.agents.sac_networks import Critics
from crl.agents.soft_actor_critic import SoftActorCritic
from crl.memory import make_memory
from crl.memory.base import begun
from crl.methods.parts import Gaussian
from crl.nn import state as trees
from crl.nn.network import Network
from crl.sequences import SequenceReplay, Sequences
from crl.stream import Task, TaskStream

Parameters = dict[str, Tensor]


class RecurrentSAC(SoftActorCritic[Sequences]):
    """Soft actor-critic on the features of a memory, for continuous and discrete actions.

    Its parts: the policy is made of ``memory`` and ``actor``; ``critic_memory`` and ``critic`` give
    the values. With ``shared_memory`` there is one memory, which the actor's loss does not reach.
    With the loss ``"future"`` a ``predictor`` says what will be seen next.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration; see :class:`RecurrentSACConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "recurrent-sac"
    Config = RecurrentSACConfig

    def __init__(self, stream: TaskStream, settings: RecurrentSACConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        super().__init__(stream, settings, seed, device)
        self._memories = ("memory",) if settings.shared_memory else ("memory", "critic_memory")
        self._critics_memory = self._memories[-1]
        self.slow = (self._critics_memory, "critic")
        obs, width = len(self._observation_bounds[0]), settings.memory_size
        actions, generator = self._actions, self._weights_generator

        def encoder() -> Encoder:
            memory = make_memory(settings.memory, width, width, generator,
                                 **settings.memory_options)
            return Encoder(obs, actions.size, memory, generator)

        gaussian = actions.critic_inputs > 0
        for name in self._memories:
            outputs = self._policy_outputs if name == "memory" else self._value_outputs
            self._add_part(name, encoder, partial(outputs, name), gaussian and name == "memory",
                           acts=name == "memory")
        self.encoder = cast(Encoder, self.parts["memory"].module)
        network = partial(Network, hidden=settings.hidden, heads=self._heads, generator=generator,
                          layer_norm=settings.layer_norm)
        features = self.encoder.size_out
        self._add_part("actor", partial(network, features, actions.policy_size),
                       partial(self._policy_outputs, "actor"), gaussian, lambda actor: (actor,),
                       self._actor_inputs, acts=True)
        self._add_part("critic", partial(Critics, partial(
            network, features + actions.critic_inputs, actions.critic_outputs)),
            partial(self._value_outputs, "critic"), False, lambda critics: critics.twins,
            self._critic_inputs)
        if "future" in settings.memory_losses:
            self._add_part("predictor", partial(FuturePredictor, features, actions.size, obs, width,
                                                generator), self._predictions, False)
        self._states = [self._encoder(name).memory.state_size for name in self._memories]
        self.replay = SequenceReplay(
            settings.replay_size, obs, actions.size, sum(self._states),
            length=settings.sequence_length, burn_in=settings.burn_in, device=self.device)
        self._memory_state = torch.zeros(1, sum(self._states), device=self.device)
        self._state_before = self._memory_state
        self._prepare()

    def policy(self, task: Task) -> RecurrentPolicy:
        modules = []
        for name in ("memory", "actor"):
            modules.append(copy.deepcopy(self.parts[name].module).eval().cpu())
            trees.put_parameters(modules[-1], self.methods.deployed(self.parts[name], task))
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high,
                          actions.critic_inputs == 0, ((self._states[0],), (actions.size,)),
                          self.encoder.memory.context)
        return RecurrentPolicy(spec, cast(Encoder, modules[0]), cast(Network, modules[1]),
                               self._head_of(task), actions)

    # ---- acting ----

    def _act(self, obs: FloatArray, first: BoolArray, head: int | None) -> FloatArray:
        self._state_before = begun(self._memory_state, torch.tensor(first).to(self.device))
        before = trees.to_tensor(self._last_action[None]).to(self.device)
        seen, begins = trees.to_tensor(obs).to(self.device), torch.tensor(first).to(self.device)
        states, features = [], []
        with torch.inference_mode():
            for name, state in zip(self._memories, self._split(self._state_before), strict=True):
                feature, after = self._encoder(name).step(seen, before, state, begins)
                features.append(feature)
                states.append(after)
            self._memory_state = torch.cat(states, -1)
            if head is None or self._rng.random() < self.config.epsilon:
                return self._actions.uniform(len(obs), self._rng)
            out = self.parts["actor"].module(features[0], head)
            action: FloatArray = self._actions.sample(out, self._generator).cpu().numpy()
        return action

    def _store(self, step: Step) -> None:
        self.replay.add(
            step.obs[0], self._last_action, step.reward[0], step.next_obs[0],
            terminated=bool(step.terminated[0]), first=bool(step.first[0]), head=self.head,
            state=self._state_before[0].cpu().numpy())

    # ---- learning ----

    def _add_gradients(self, batch: Sequences) -> dict[str, Tensor]:
        with torch.enable_grad():  # methods ask for gradients from within no_grad
            losses = self.losses(batch)
            torch.autograd.backward(list(losses.values()))
        return losses

    def losses(self, batch: Sequences) -> dict[str, Tensor]:
        """The losses on sequences, means over all usable steps; each reaches its own parts.

        As in feed-forward soft actor-critic, on features of the past in the place of observations.
        """
        row, step = batch.usable.nonzero(as_tuple=True)
        reward, end, discount = (t[row, step] for t in
                                 batch.returns(self.config.n_step, self.config.gamma))
        head = batch.head[row] if isinstance(batch.head, Tensor) else batch.head
        actor, critics = self.parts["actor"].module, self.parts["critic"].module
        alpha = self._log_temperature(head).exp().detach()

        features = self._features(self._critics_memory, batch)
        policy_features = (features.detach() if self.config.shared_memory
                           else self._features("memory", batch))
        with torch.no_grad():
            slow = self._slow_features(batch)
            later = slow[row, end]
            next_out = actor(policy_features[row, end], head)
            next_q, next_log_prob = self._actions.soft_value(
                next_out, lambda a: self._values(self.targets["critic"], later, a, head),
                self._generator)
            target = (self.config.reward_scale * reward
                      + discount * (next_q - alpha * next_log_prob))

        heard = "values" in self.config.memory_losses
        now = features[row, step] if heard else features[row, step].detach()
        taken = batch.action[row, step + 1]
        values = self._values(critics, now, taken, head)
        q = self._actions.value_of(taken, values)
        critic_loss = 0.5 * (q - target.unsqueeze(-1)).square().sum(-1).mean()

        # The actor goes where the critics point, and they stay.
        fixed = {name: p.detach() for name, p in critics.named_parameters()}
        at, seen = now.detach(), policy_features[row, step]
        discrete = self._actions.critic_inputs == 0
        best, log_prob = self._actions.soft_value(
            actor(seen, head), lambda a: (
                values.detach() if discrete else self._values(critics, at, a, head, fixed)),
            self._generator)
        surplus = log_prob.detach() + self._target_entropy
        losses = {"critic": critic_loss, "actor": (alpha * log_prob - best).mean(),
                  "temperature": -(self._log_temperature(head) * surplus).mean()}
        if "future" in self.config.memory_losses:
            predictor = cast(FuturePredictor, self.parts["predictor"].module)
            losses["future"] = predictor.loss(features, batch)
        return losses

    def _values(self, critics: nn.Module, features: Tensor, action: Tensor, head: int | Tensor,
                parameters: Parameters | None = None) -> Tensor:
        """Twin values: [M, 2] of actions [M, act]; if these are discrete, [M, 2, n] of all."""
        inputs, outputs = self._actions.critic_inputs, self._actions.critic_outputs
        values: Tensor = functional_call(critics, parameters or {},
                                         (features, action[:, :inputs], head))
        return values if outputs == 1 else values.view(-1, 2, outputs)

    def _encoder(self, part: str) -> Encoder:
        return cast(Encoder, self.parts[part].module)

    def _features(self, part: str, batch: Sequences, parameters: Parameters | None = None
                  ) -> Tensor:
        """Of every row, [B, L + 1, features], by a part's encoder."""
        features: Tensor = functional_call(self.parts[part].module, parameters or {},
                                           (batch, self._state(part, batch)))
        return features

    def _slow_features(self, batch: Sequences) -> Tensor:
        part = self._critics_memory
        features: Tensor = self.targets[part](batch, self._state(part, batch))
        return features

    def _state(self, part: str, batch: Sequences) -> Tensor:
        """What a part's memory held before the first rows."""
        return self._split(batch.state)[self._memories.index(part)]

    def _split(self, states: Tensor) -> tuple[Tensor, ...]:
        """The state of each memory."""
        each: tuple[Tensor, ...] = torch.split(states, self._states, -1)
        return each

    @torch.no_grad()
    def _actor_inputs(self, batch: Sequences) -> tuple[Tensor, int | Tensor]:
        row, step = batch.usable.nonzero(as_tuple=True)
        head = batch.head[row] if isinstance(batch.head, Tensor) else batch.head
        return self._features("memory", batch)[row, step], head

    @torch.no_grad()
    def _critic_inputs(self, batch: Sequences) -> tuple[Tensor, int | Tensor]:
        row, step = batch.usable.nonzero(as_tuple=True)
        head = batch.head[row] if isinstance(batch.head, Tensor) else batch.head
        action = batch.action[row, step + 1, :self._actions.critic_inputs]
        return torch.cat((self._features(self._critics_memory, batch)[row, step], action), -1), head

    def _policy_outputs(self, part: str, batch: Sequences, parameters: Parameters | None = None
                        ) -> Gaussian | Tensor:
        """The policy at every step of a batch, [B, L, …], with other parameters of a part."""
        features = self._features("memory", batch, parameters if part == "memory" else None)
        rows = features[:, :-1]
        out = functional_call(self.parts["actor"].module,
                              (parameters or {}) if part == "actor" else {},
                              (rows.flatten(0, 1), _per_row(batch.head, rows)))
        return self._actions.outputs(out.view(*rows.shape[:2], -1), batch.usable)

    def _value_outputs(self, part: str, batch: Sequences, parameters: Parameters | None = None
                       ) -> Tensor:
        """The twin values at every step of a batch, [B, L, 2]; 0 where it is not usable."""
        memory, critics = self._critics_memory, self.parts["critic"].module
        rows = self._features(memory, batch, parameters if part == memory else None)[:, :-1]
        action = batch.action[:, 1:].flatten(0, 1)
        q = self._actions.value_of(action, self._values(
            critics, rows.flatten(0, 1), action, _per_row(batch.head, rows),
            parameters if part == "critic" else None))
        return torch.where(batch.usable.unsqueeze(-1), q.view(*rows.shape[:2], 2), 0)


    def _predictions(self, batch: Sequences, parameters: Parameters | None = None) -> Tensor:
        """The next observation at every step of a batch, [B, L, obs]; 0 where it is not usable."""
        rows = self._features("memory", batch)[:, :-1]
        found = functional_call(self.parts["predictor"].module, parameters or {},
                                (rows, batch.action[:, 1:]))
        return torch.where(batch.usable.unsqueeze(-1), found, 0)


def _per_row(head: int | Tensor, rows: Tensor) -> int | Tensor:
    """The head of every step of sequences [B, L, …], flat."""
    return head.repeat_interleave(rows.shape[1]) if isinstance(head, Tensor) else head
