"""Proximal policy optimisation with a memory (Schulman et al. 2017), from sequences."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from crl.agent import Step
from crl.agents.recurrent import RecurrentAgent, head_of_rows, head_of_steps
from crl.agents.recurrent_ppo_config import RecurrentPPOConfig
from crl.checkpoint import Tree
from crl.methods.parts import Parameters
from crl.rollouts import RolloutReplay, Rollouts
from crl.stream import Task, TaskStream

IndexArray = NDArray[np.int64]

# Of log-ratios: where a policy has left an old one that far behind, the exponential overflows and
# its product with an advantage is not a number.
_LARGEST = 20.0


class RecurrentPPO(RecurrentAgent[Rollouts]):
    """Proximal policy optimisation on the features of a memory, for any actions.

    Rollouts are of whole episodes. Values and log-probabilities are taken when one is complete, at
    the weights that acted, from sequences as they are learned from.

    Its parts: the policy is made of ``memory`` and ``actor``; ``critic`` gives the values, from the
    same memory or, without ``shared_memory``, from ``value_memory``.

    Args:
        stream: Gives the spaces and the number of heads.
        settings: The configuration; see :class:`RecurrentPPOConfig`.
        seed: Seed of initial weights and of all draws.
        device: Where networks and batches live.
    """

    name = "recurrent-ppo"
    Config = RecurrentPPOConfig
    on_policy = True

    def __init__(self, stream: TaskStream, settings: RecurrentPPOConfig, seed: int = 0,
                 device: str = "cpu") -> None:
        super().__init__(stream, settings, seed, device)
        self._add_memories(*("memory",) if settings.shared_memory else ("memory", "value_memory"))
        self._add_actor()
        self._add_part("critic", self._network(self.encoder.size_out, 1),
                       partial(self._value_outputs, "critic"), False, lambda critic: (critic,),
                       partial(self._usable_features, self._value_memory))
        self.replay = RolloutReplay(
            settings.replay_size, len(self._observation_bounds[0]), self._actions.size,
            sum(self._states), length=settings.sequence_length, device=self.device)
        self._steps = 0  # since the last rollout
        self._over = False  # whether an episode has just ended
        self._prepare()

    # ---- the Agent contract ----

    def end_task(self, task: Task) -> None:
        self._value_rollout()  # too short to learn from; methods may look at it
        super().end_task(task)

    def observe(self, step: Step) -> None:
        super().observe(step)
        self._steps += 1
        self._over = bool(step.terminated[0] or step.truncated[0])

    def update(self) -> dict[str, float]:
        if not self._over or self._steps < self.config.rollout_steps:
            return {}
        pieces = self._value_rollout()
        size = self.config.batch_size
        for _ in range(self.config.epochs):
            order = self._rng.permutation(pieces)
            for start in range(0, len(order), size):
                losses = self._gradient_step(self.replay.take(order[start:start + size]))
        return {name: float(value.detach()) for name, value in losses.items()}

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._steps = tree["steps"]

    # ---- learning ----

    @torch.no_grad()
    def _value_rollout(self) -> IndexArray:
        """Values what is not valued yet; the indices of its pieces."""
        pieces: IndexArray = self.replay.rollout()
        self._steps = 0
        if len(pieces):
            batch, config = self.replay.take(pieces), self.config
            features = self._features(self._value_memory, batch)
            head = batch.head  # one: a rollout is of one task
            values = self.parts["critic"].module(features.flatten(0, 1), head)
            policy_features = (features if config.shared_memory
                               else self._features("memory", batch))[:, :-1]
            log_probs = self._actions.log_prob(
                self.parts["actor"].module(policy_features.flatten(0, 1), head),
                batch.action[:, 1:].flatten(0, 1))
            self.replay.value(values.view(features.shape[:2]), log_probs.view(batch.usable.shape),
                              gamma=config.gamma, gae_lambda=config.gae_lambda,
                              reward_scale=config.reward_scale)
        return pieces

    def _add_gradients(self, batch: Rollouts) -> dict[str, Tensor]:
        losses = super()._add_gradients(batch)
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_gradient_norm)
        return losses

    def losses(self, batch: Rollouts) -> dict[str, Tensor]:
        """The losses on sequences, means over all usable steps; their sum is descended.

        ``policy``: −E[min(ρA, clip(ρ, 1 − c, 1 + c) A)], where A are the advantages brought to mean
        0 and variance 1; ``value``: weight · ½ E[(V − target)²]; ``entropy``: −weight · H(π).
        """
        row, step = batch.usable.nonzero(as_tuple=True)
        old, advantage, target = (column[row, step + 1] for column in
                                  (batch.log_prob, batch.advantage, batch.target))
        head, config = head_of_rows(batch, row), self.config
        features = self._features(self._value_memory, batch)[row, step]
        seen = features if config.shared_memory else self._features("memory", batch)[row, step]
        out = self.parts["actor"].module(seen, head)
        change = self._actions.log_prob(out, batch.action[row, step + 1]) - old
        ratio = change.clamp(max=_LARGEST).exp()
        if len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
        value = self.parts["critic"].module(features, head).squeeze(-1)
        return {
            "policy": -torch.minimum(ratio * advantage, clipped * advantage).mean(),
            "value": config.value_weight * 0.5 * (value - target).square().mean(),
            "entropy": -config.entropy_weight * self._actions.entropy(out, self._generator).mean()}

    def _value_outputs(self, part: str, batch: Rollouts, parameters: Parameters | None = None
                       ) -> Tensor:
        memory = self._value_memory
        rows = self._features(memory, batch, parameters if part == memory else None)[:, :-1]
        values = functional_call(self.parts["critic"].module,
                                 (parameters or {}) if part == "critic" else {},
                                 (rows.flatten(0, 1), head_of_steps(batch)))
        return torch.where(batch.usable.unsqueeze(-1), values.view(*rows.shape[:2], 1), 0)
