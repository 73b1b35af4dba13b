"""Soft actor-critic with a memory: it learns from sequences and sees what is not shown to it."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crl.agents.prediction import FuturePredictor, SelfPredictor
from crl.agents.recurrent import RecurrentAgent, head_of_rows, head_of_steps
from crl.agents.recurrent_sac_config import RecurrentSACConfig
from crl.agents.sac_networks import Critics
from crl.agents.soft_actor_critic import SoftActorCritic
from crl.methods.parts import Parameters
from crl.nn.layers import Dense
from crl.sequences import SequenceReplay, Sequences
from crl.stream import TaskStream

PREDICTOR_PACE = 10.0  # of a self-predictor's learning rate to its representations'


class RecurrentSAC(RecurrentAgent[Sequences], SoftActorCritic[Sequences]):
    """Soft actor-critic on the features of a memory, for continuous and discrete actions.

    Its parts: the policy is made of ``memory`` and ``actor``; ``critic_memory`` and ``critic`` give
    the values. With ``shared_memory`` there is one memory, which the actor's loss does not reach.
    With the loss ``"future"`` or ``"self"`` a ``predictor`` says what will be seen next: the
    observation, or its ``code``.

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
        obs, actions = len(self._observation_bounds[0]), self._actions
        self._add_memories(*("memory",) if settings.shared_memory else ("memory", "critic_memory"))
        self.slow = (self._value_memory, "critic")
        self._add_actor(settings.epsilon)
        features = self.encoder.size_out
        self._add_part("critic", partial(Critics, self._network(
            features + actions.critic_inputs, actions.critic_outputs)),
            partial(self._value_outputs, "critic"), False, lambda critics: critics.twins,
            self._critic_inputs)
        self._add_predictors(features, actions.size, obs)
        self.replay = SequenceReplay(
            settings.replay_size, obs, actions.size, sum(self._states),
            length=settings.sequence_length, burn_in=settings.burn_in, device=self.device)
        self._prepare()

    def _add_predictors(self, features: int, action: int, obs: int) -> None:
        width, generator = self.config.memory_size, self._weights_generator
        if "future" in self.config.memory_losses:
            self._add_part("predictor", partial(FuturePredictor, features, action, obs, width,
                                                generator), self._predictions, False)
        if "self" in self.config.memory_losses:
            self._add_part("predictor", partial(SelfPredictor, features, action, width, generator),
                           self._predictions, False, pace=PREDICTOR_PACE)
            self._add_part("code", partial(Dense, obs, width, generator), self._codes, False)

    # ---- learning ----

    def losses(self, batch: Sequences) -> dict[str, Tensor]:
        """The losses on sequences, means over all usable steps; each reaches its own parts.

        As in feed-forward soft actor-critic, on features of the past in the place of observations.
        """
        row, step = batch.usable.nonzero(as_tuple=True)
        reward, end, discount = (t[row, step] for t in
                                 batch.returns(self.config.n_step, self.config.gamma))
        head = head_of_rows(batch, row)
        actor, critics = self.parts["actor"].module, self.parts["critic"].module
        alpha = self._log_temperature(head).exp().detach()

        features = self._features(self._value_memory, batch)
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
        discrete = self._actions.discrete
        best, log_prob = self._actions.soft_value(
            actor(seen, head), lambda a: (
                values.detach() if discrete else self._values(critics, at, a, head, fixed)),
            self._generator)
        surplus = log_prob.detach() + self._target_entropy
        losses = {"critic": critic_loss, "actor": (alpha * log_prob - best).mean(),
                  "temperature": -(self._log_temperature(head) * surplus).mean()}
        if "future" in self.config.memory_losses:
            future = cast(FuturePredictor, self.parts["predictor"].module)
            losses["future"] = future.loss(features, self._scaled(batch))
        if "self" in self.config.memory_losses:
            both_ways = cast(SelfPredictor, self.parts["predictor"].module)
            codes = self.parts["code"].module(self._scaled(batch).obs[row, step + 1])
            losses["self"] = both_ways.loss(features[row, step], taken, codes)
        return losses

    def _values(self, critics: nn.Module, features: Tensor, action: Tensor, head: int | Tensor,
                parameters: Parameters | None = None) -> Tensor:
        """Twin values: [M, 2] of actions [M, act]; if these are discrete, [M, 2, n] of all."""
        inputs, outputs = self._actions.critic_inputs, self._actions.critic_outputs
        values: Tensor = functional_call(critics, parameters or {},
                                         (features, action[:, :inputs], head))
        return values if outputs == 1 else values.view(-1, 2, outputs)

    def _slow_features(self, batch: Sequences) -> Tensor:
        part = self._value_memory
        features: Tensor = self.targets[part](self._scaled(batch), self._state(part, batch))
        return features

    @torch.no_grad()
    def _critic_inputs(self, batch: Sequences) -> tuple[Tensor, int | Tensor]:
        action = batch.action[:, 1:, :self._actions.critic_inputs][batch.usable]
        features, head = self._usable_features(self._value_memory, batch)
        return torch.cat((features, action), -1), head

    def _value_outputs(self, part: str, batch: Sequences, parameters: Parameters | None = None
                       ) -> Tensor:
        """The twin values at every step of a batch, [B, L, 2]; 0 where it is not usable."""
        memory, critics = self._value_memory, self.parts["critic"].module
        rows = self._features(memory, batch, parameters if part == memory else None)[:, :-1]
        action = batch.action[:, 1:].flatten(0, 1)
        q = self._actions.value_of(action, self._values(
            critics, rows.flatten(0, 1), action, head_of_steps(batch),
            parameters if part == "critic" else None))
        return torch.where(batch.usable.unsqueeze(-1), q.view(*rows.shape[:2], 2), 0)

    def _predictions(self, batch: Sequences, parameters: Parameters | None = None) -> Tensor:
        """Of what is seen next at every step of a batch, [B, L, …]; 0 where it is not usable."""
        rows = self._features("memory", batch)[:, :-1]
        found = functional_call(self.parts["predictor"].module, parameters or {},
                                (rows, batch.action[:, 1:]))
        return torch.where(batch.usable.unsqueeze(-1), found, 0)

    def _codes(self, batch: Sequences, parameters: Parameters | None = None) -> Tensor:
        """The code of what is seen next at every step of a batch; 0 where it is not usable."""
        codes = functional_call(self.parts["code"].module, parameters or {},
                                (self._scaled(batch).obs[:, 1:],))
        return torch.where(batch.usable.unsqueeze(-1), codes, 0)
