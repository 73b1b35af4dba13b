"""A planner on a model of a task: how agents that plan act, and their policies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crl.agent import BoolArray, FloatArray, PolicySpec, State
from crl.agents.acting import Acting
from crl.agents.actions import Actions
from crl.agents.dynamics import Model
from crl.agents.frozen_policy import FrozenPolicy
from crl.nn.state import to_tensor
from crl.planners import Planner
from crl.task_spec import Reward


class Controller:
    """Plans actions that lead, as models imagine, to the highest sum of rewards.

    Args:
        planner: The planner.
        models: One or several; the mean of their returns counts.
        reward: The task's.
        actions: The task's, to which rewards are told.

    Attributes:
        models: Those above.
    """

    def __init__(self, planner: Planner, models: Sequence[Model], reward: Reward, actions: Actions
                 ) -> None:
        self._planner, self.models, self._reward = planner, models, reward
        low, high = torch.from_numpy(actions.low), torch.from_numpy(actions.high)
        self._middle, self._half = (low + high) / 2, (high - low) / 2

    @torch.inference_mode()
    def act(self, obs: FloatArray, state: tuple[Tensor, ...], first: BoolArray,
            generator: torch.Generator) -> tuple[FloatArray, tuple[Tensor, ...]]:
        """Actions [B, act] in [-1, 1] for observations [B, obs]; see :meth:`Planner.plan`."""
        here = to_tensor(obs)

        def score(actions: Tensor) -> Tensor:
            batch, count = actions.shape[:2]
            start = here.repeat_interleave(count, 0)
            flat = actions.flatten(0, 1)
            returns = sum(self._returns(model.imagine(start, flat), flat) for model in self.models)
            return torch.as_tensor(returns).view(batch, count)

        action, state = self._planner.plan(score, state, torch.from_numpy(first), generator)
        chosen: FloatArray = action.numpy()
        return chosen, state

    def _returns(self, obs: Tensor, actions: Tensor) -> Tensor:
        """[N, H + 1, obs], [N, H, act] → [N]."""
        reward: Tensor = self._reward(obs[:, :-1], self._middle + self._half * actions, obs[:, 1:])
        return reward.sum(-1)


class PlannedActing(Acting):
    """A planner, with what it remembers of its last plan.

    Args:
        planner: The planner.
        actions, rng, generator, device: As of :class:`~crl.agents.acting.Acting`.

    Attributes:
        controller: The planner on a model, where one is known.
    """

    def __init__(self, planner: Planner, actions: Actions, rng: np.random.Generator,
                 generator: torch.Generator, device: str) -> None:
        super().__init__(actions, rng, generator, device)
        self._planner = planner
        self.controller: Controller | None = None
        self.forget()

    def forget(self) -> None:
        """Forgets the last plan: planning may begin within an episode."""
        self._plan = self._planner.initial_state(1)

    def _choose(self, obs: FloatArray, first: BoolArray) -> FloatArray:
        if self.acts_as is None:
            return self._at_random()
        assert self.controller is not None
        action, self._plan = self.controller.act(obs, self._plan, first, self._generator)
        return action


class MPCPolicy(FrozenPolicy):
    """A frozen model that is planned with at every step.

    What the planner remembers is its recurrent state. It draws, so that actions depend on
    :meth:`seed` even where they are not sampled.
    """

    def __init__(self, spec: PolicySpec, controller: Controller, actions: Actions) -> None:
        super().__init__(spec, actions)
        self.controller = controller

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        action, after = self.controller.act(obs, tuple(torch.from_numpy(s) for s in state), first,
                                            self._generator)
        return self._actions.to_env(action), tuple(s.numpy() for s in after)
