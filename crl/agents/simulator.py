"""Planning with the simulator itself: what a perfect model would reach."""

from __future__ import annotations

from typing import cast

import torch
from gymnasium.spaces import Box
from torch import Tensor

from crl.agent import PolicySpec
from crl.agents.actions import BoundedActions
from crl.agents.controller import Controller, MPCPolicy
from crl.envs.sensed import SensedEnv
from crl.planners import Planner
from crl.stream import space_bounds


class Simulator:
    """An environment as a :class:`~crl.agents.dynamics.Model` of itself, from where it is.

    Args:
        env: The one that is acted in.
    """

    def __init__(self, env: SensedEnv) -> None:
        self._env = env
        low, high = space_bounds(cast(Box, env.action_space))
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    def imagine(self, obs: Tensor, actions: Tensor) -> Tensor:
        return torch.from_numpy(self._env.imagine(self._middle + self._half * actions.numpy()))


def simulator_policy(env: SensedEnv, planner: Planner) -> MPCPolicy:
    """A policy that plans with ``env``, and can act in ``env`` alone.

    For comparison with learned models: ``run_episode(simulator_policy(env, planner), env, seed)``.
    """
    actions = BoundedActions(*space_bounds(cast(Box, env.action_space)))
    spec = PolicySpec(type(env).__name__, *space_bounds(cast(Box, env.observation_space)),
                      actions.low, actions.high, state_shapes=planner.state_shapes)
    return MPCPolicy(spec, Controller(planner, [Simulator(env)], env.task_spec.reward, actions),
                     actions)
