"""Soft actor-critic from transitions, for streams of tasks; its gradient is written by hand."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from gymnasium.spaces import Box
from torch import Tensor
from torch.func import functional_call

from crl.agent import PolicySpec, Step
from crl.agents.acting import ReactiveActing
from crl.agents.parts_agent import AnyNetwork
from crl.agents.sac_config import SACConfig
from crl.agents.sac_networks import Critics, SACPolicy
from crl.agents.soft_actor_critic import SoftActorCritic
from crl.config import require
from crl.methods.parts import Gaussian
from crl.nn.distributions import TanhGaussian, mean_and_log_std
from crl.nn.layers import rows_by_head
from crl.nn.network import add_gradient
from crl.replay import Batch, Replay
from crl.stream import Task, TaskStream


class SAC(SoftActorCritic[Batch]):
    """Soft actor-critic with a head and a temperature per task.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration; see :class:`SACConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "sac"
    Config = SACConfig
    slow = ("critic",)

    def __init__(self, stream: TaskStream, settings: SACConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        require(isinstance(stream.action_space, Box),
                f"agent 'sac' chooses continuous actions, and stream {stream.name!r} has "
                f"{stream.action_space}; use --agent recurrent-sac")
        super().__init__(stream, settings, seed, device)
        obs, act = len(self._observation_bounds[0]), self._actions.size
        network = partial(self._network, bf16=settings.precision == "bf16")
        self._add_part("actor", network(obs, 2 * act), self._actor_outputs, True,
                       lambda actor: (actor,),
                       lambda batch: (self._scale(batch.obs, batch.head), batch.head), acts=True)
        self._add_part("critic", partial(Critics, network(obs + act, 1)),
                       self._critic_outputs, False, lambda critics: critics.twins,
                       lambda batch: (torch.cat((self._scale(batch.obs, batch.head), batch.action),
                                                -1), batch.head))
        self.actor = cast(AnyNetwork, self.parts["actor"].module)
        self.critics = cast(Critics, self.parts["critic"].module)
        self._acting = ReactiveActing(self.actor, self._scaling, self._actions, self._rng,
                                      self._generator, self.device)
        self.replay = Replay(settings.replay_size, obs, act, n_step=settings.n_step,
                             gamma=settings.gamma, device=self.device)
        self._prepare()

    def policy(self, task: Task) -> SACPolicy:
        actions = self._actions
        spec = PolicySpec(task.name, *self._observation_bounds, actions.low, actions.high)
        return SACPolicy(spec, self._deployed("actor", task), self._head_of(task), actions,
                         self._deployed_scaling(task))

    def _store(self, step: Step) -> None:
        self.replay.add(
            step.obs[0], self._taken(step).action, step.reward[0], step.next_obs[0],
            terminated=bool(step.terminated[0]), truncated=bool(step.truncated[0]), head=self.head,
        )

    def _add_gradients(self, batch: Batch) -> dict[str, Tensor]:
        return self.backward(batch, self._noise(len(batch.obs)), self._noise(len(batch.obs)))

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
        slow = cast(Critics, self.targets["critic"]).run(next_obs, next_policy.action, head)
        next_q = torch.minimum(*(twin.out.squeeze(-1) for twin in slow))
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

    def _noise(self, rows: int) -> Tensor:
        shape = (rows, self._actions.size)
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
