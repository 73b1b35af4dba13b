"""Stable-Baselines3's ``learn``, one step at a time: its loops turned inside out.

What an algorithm does with a step is its own code (sampling actions, buffers, ``train``); here is
what its ``collect_rollouts`` does between them, for one environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import should_collect_more_steps
from torch import Tensor

from crl.agent import BoolArray, FloatArray, Step
from crl.checkpoint import Tree
from crl.nn import state as trees

_COUNTS = ("num_timesteps", "_total_timesteps", "_current_progress_remaining", "_n_updates",
           "_episode_num", "_n_calls", "exploration_rate")


class Loop(ABC):
    """What ``learn`` does with one step.

    Args:
        model: The algorithm.
        buffer: Where it keeps steps.
    """

    def __init__(self, model: Any, buffer: Any) -> None:
        self.model, self.buffer = model, buffer
        self._counts = [name for name in _COUNTS if hasattr(model, name)]
        self._columns = [name for name, value in vars(buffer).items()
                         if isinstance(value, np.ndarray) and len(value) == buffer.buffer_size]

    def begin(self, steps: int, keep: bool) -> None:
        """Begins a ``learn`` of so many steps; unless ``keep``, with an empty buffer."""
        model = self.model
        model.num_timesteps = model._episode_num = 0
        model._total_timesteps = steps
        model._current_progress_remaining = 1.0
        if not keep:
            self.buffer.reset()

    @abstractmethod
    def act(self, obs: FloatArray, first: BoolArray) -> NDArray[Any]:
        """Exploring actions for observations [1, obs], as the environment takes them."""

    @abstractmethod
    def observe(self, step: Step) -> None:
        """Stores what the last action led to."""

    @abstractmethod
    def update(self) -> bool:
        """Trains if it is time; whether it did."""

    def state_dict(self) -> Tree:
        """Counters and buffer."""
        buffer, size = self.buffer, self.buffer.size()
        return {"counts": {name: getattr(self.model, name) for name in self._counts},
                "position": buffer.pos, "full": buffer.full,
                "columns": {name: getattr(buffer, name)[:size] for name in self._columns}}

    def load_state_dict(self, tree: Tree) -> None:
        """Puts back what :meth:`state_dict` gave."""
        for name in self._counts:
            setattr(self.model, name, tree["counts"][name])
        self.buffer.pos, self.buffer.full = tree["position"], tree["full"]
        for name in self._columns:
            column = tree["columns"][name]
            getattr(self.buffer, name)[: len(column)] = column


class OffPolicyLoop(Loop):
    """Of SAC, TD3, DQN …"""

    def __init__(self, model: Any) -> None:
        super().__init__(model, model.replay_buffer)
        self._steps = self._episodes = 0  # since it last trained

    def begin(self, steps: int, keep: bool) -> None:
        super().begin(steps, keep)
        self._steps = self._episodes = 0

    def act(self, obs: FloatArray, first: BoolArray) -> NDArray[Any]:
        model = self.model
        model._last_obs = obs
        action: NDArray[Any]
        action, self._stored = model._sample_action(model.learning_starts, model.action_noise)
        return action

    def observe(self, step: Step) -> None:
        model, done = self.model, step.terminated | step.truncated
        model.num_timesteps += 1
        model._store_transition(self.buffer, self._stored, step.next_obs, step.reward, done,
                                [{"TimeLimit.truncated": bool(cut_off(step)[0])}])
        model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
        model._on_step()
        self._steps += 1
        if done[0]:
            self._episodes += 1
            model._episode_num += 1
            if model.action_noise is not None:
                model.action_noise.reset()

    def update(self) -> bool:
        model, steps = self.model, self._steps
        if should_collect_more_steps(model.train_freq, steps, self._episodes):
            return False
        self._steps = self._episodes = 0
        due = model.gradient_steps if model.gradient_steps >= 0 else steps
        if model.num_timesteps <= model.learning_starts or not due:
            return False
        model.train(batch_size=model.batch_size, gradient_steps=due)
        return True

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "steps": self._steps, "episodes": self._episodes}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        self._steps, self._episodes = tree["steps"], tree["episodes"]


class OnPolicyLoop(Loop):
    """Of PPO, A2C, TRPO …, and of recurrent PPO."""

    def __init__(self, model: Any) -> None:
        super().__init__(model, model.rollout_buffer)
        self._recurrent = hasattr(model, "_last_lstm_states")

    def act(self, obs: FloatArray, first: BoolArray) -> NDArray[Any]:
        model = self.model
        before = (model._last_lstm_states, self._flags(first)) if self._recurrent else ()
        with torch.no_grad():
            action, value, log_prob, *after = model.policy(self._tensor(obs), *before)
        self._given = obs, action.cpu().numpy(), first, value, log_prob
        self._after = after
        space = model.action_space
        chosen: NDArray[Any] = self._given[1]
        return chosen.clip(space.low, space.high) if isinstance(space, Box) else chosen

    def observe(self, step: Step) -> None:
        model, done = self.model, step.terminated | step.truncated
        obs, action, first, value, log_prob = self._given
        model.num_timesteps += 1
        before = {"lstm_states": model._last_lstm_states} if self._recurrent else {}
        if self._recurrent:
            model._last_lstm_states = self._after[0]
        if isinstance(model.action_space, Discrete):
            action = action.reshape(-1, 1)
        reward = step.reward.copy()
        if cut_off(step)[0]:  # its value goes on
            going_on = np.array([False])
            reward += model.gamma * self._value(step.next_obs, going_on)[0].cpu().numpy()
        self.buffer.add(obs, action, reward, first, value, log_prob, **before)
        if self.buffer.full:
            self.buffer.compute_returns_and_advantage(
                last_values=self._value(step.next_obs, done), dones=done)

    def update(self) -> bool:
        model = self.model
        if not self.buffer.full:
            return False
        model._update_current_progress_remaining(model.num_timesteps, model._total_timesteps)
        model.train()
        self.buffer.reset()
        return True

    def state_dict(self) -> Tree:
        memory = self.model._last_lstm_states if self._recurrent else ()
        return {**super().state_dict(), "memory": [
            trees.tensors_to_tree({"hidden": hidden, "cell": cell}) for hidden, cell in memory]}

    def load_state_dict(self, tree: Tree) -> None:
        super().load_state_dict(tree)
        if self._recurrent:
            states = self.model._last_lstm_states
            self.model._last_lstm_states = type(states)(*(
                tuple(trees.tree_to_tensors(pair, self.model.device).values())
                for pair in tree["memory"]))

    def _value(self, obs: FloatArray, first: BoolArray) -> Tensor:
        memory = ((self.model._last_lstm_states.vf, self._flags(first)) if self._recurrent else ())
        with torch.no_grad():
            value: Tensor = self.model.policy.predict_values(self._tensor(obs), *memory)
        return value

    def _tensor(self, obs: FloatArray) -> Tensor:
        return trees.to_tensor(obs).to(self.model.device)

    def _flags(self, flags: BoolArray) -> Tensor:
        return self._tensor(flags.astype(np.float32))


def cut_off(step: Step) -> BoolArray:
    """[N], whether an episode ended here without being over."""
    return step.truncated & ~step.terminated


def loop_of(model: Any) -> Loop:
    """The loop of an algorithm."""
    return (OnPolicyLoop if isinstance(model, OnPolicyAlgorithm) else OffPolicyLoop)(model)
