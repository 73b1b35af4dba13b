"""Policies of Stable-Baselines3 as ours, and ours as a model of Stable-Baselines3."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from crl.agent import BoolArray, FloatArray, Policy, PolicySpec, State
from crl.agents.actions import make_actions
from crl.agents.global_draws import GlobalDraws
from crl.errors import UserError
from crl.evaluation import read_success
from crl.nn.state import to_tensor
from crl.stream import Env, Task, TaskStream, make_env, space_bounds


class SB3Policy(Policy):
    """A policy of Stable-Baselines3, asked by its own ``predict``.

    Args:
        spec: What it takes and gives.
        policy: On the CPU; nobody else's.
    """

    def __init__(self, spec: PolicySpec, policy: Any) -> None:
        self.spec, self.policy = spec, policy
        self._draws = GlobalDraws(0)

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        before = tuple(part.swapaxes(0, 1) for part in state) or None  # it has layers first
        with nullcontext() if deterministic else self._draws:
            action, after = self.policy.predict(obs, before, first, deterministic)
        if self.spec.discrete:
            action = one_hot(action, len(self.spec.action_low))
        return (np.asarray(action, np.float32),
                tuple(part.swapaxes(0, 1) for part in after or ()))

    def seed(self, seed: int) -> None:
        self._draws.seed(seed)


def spec_of(name: str, stream: TaskStream, policy: Any) -> PolicySpec:
    """What a policy of Stable-Baselines3 takes and gives for a task of a stream."""
    actions, lstm = make_actions(stream.action_space), getattr(policy, "lstm_actor", None)
    memory = () if lstm is None else ((lstm.num_layers, lstm.hidden_size),) * 2
    return PolicySpec(name, *space_bounds(stream.observation_space), actions.low, actions.high,
                      actions.discrete, memory)


def one_hot(choices: NDArray[Any], count: int) -> FloatArray:
    """Choices [B] as vectors [B, count] with a single 1."""
    vectors: FloatArray = np.eye(count, dtype=np.float32)[np.asarray(choices).reshape(-1)]
    return vectors


def align(policy: Any) -> None:
    """Has a policy of Stable-Baselines3 see observations in memory that torch allocated.

    Its own copies are wherever NumPy puts them, and matrix products of equal numbers may differ in
    the last bit from process to process then (see :func:`crl.nn.state.to_tensor`).
    """
    policy.obs_to_tensor = _Aligned(policy)


class _Aligned:
    """``obs_to_tensor`` of a policy, for batches of flat observations [B, obs]."""

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def __call__(self, observation: NDArray[Any]) -> tuple[Tensor, bool]:
        return to_tensor(observation).to(self._policy.device), True


class PolicyModel:
    """A policy of ours as Stable-Baselines3's callbacks and helpers see a model.

    ::

        callback = EvalCallback(sb3_env(task), eval_freq=1)
        callback.init_callback(PolicyModel(policy, sb3_env(task)))
        callback.on_step()

    Args:
        policy: The policy.
        env: Of its task; callbacks ask for it.
    """

    def __init__(self, policy: Policy, env: Env | VecEnv) -> None:
        self.policy = policy
        self.env = env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
        self.num_timesteps = 0
        self.logger = Logger(None, [])
        self.predict = policy.predict

    def get_env(self) -> VecEnv:
        return self.env

    def get_vec_normalize_env(self) -> None:
        """None: a policy of ours scales what it sees by itself."""

    def save(self, path: str) -> None:
        """Refuses: Stable-Baselines3 would read a pickled model."""
        raise UserError("a policy of crl is not saved as a .zip of Stable-Baselines3; leave "
                        "best_model_save_path out, and type 'crl export'")


def sb3_env(task: Task) -> Monitor[Any, Any]:
    """A task's environment as Stable-Baselines3's tools want it: monitored, with ``is_success``."""
    return Monitor(_Success(make_env(task)))


class _Success(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Says ``is_success`` where a task says ``success``: at any step of the episode so far."""

    def reset(self, **options: Any) -> Any:
        self._success = False
        return self.env.reset(**options)

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._success = self._success or read_success(info)
        return obs, reward, terminated, truncated, {**info, "is_success": self._success}


def cpu_copy(policy: Any) -> Any:
    """A copy of a policy of Stable-Baselines3 on the CPU, for acting."""
    copied = copy.deepcopy(policy).to(torch.device("cpu"))
    copied.set_training_mode(False)
    align(copied)
    return copied
