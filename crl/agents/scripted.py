"""Meta-World's scripted experts as policies, one for each of its fifty tasks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from crl.agent import BoolArray, FloatArray, Policy, PolicySpec, State
from crl.envs.metaworld_tasks import TASKS
from crl.errors import UserError
from crl.stream import space_bounds

_SEEN = 39  # numbers of Meta-World's observation
# Experts ask for more than the bounds in most steps, and are meant to.
warnings.filterwarnings("ignore", r"Constant\(s\) may be too high", UserWarning)


class ScriptedPolicy(Policy):
    """The expert of a task; it has no memory and draws nothing.

    Args:
        spec: What it takes and gives; observations begin with Meta-World's 39 numbers, and what
            comes after them, such as an observed reward, is not looked at.
        expert: The scripted policy in the package ``metaworld``.
    """

    def __init__(self, spec: PolicySpec, expert: Any) -> None:
        self.spec = spec
        self._expert = expert

    def seed(self, seed: int) -> None:
        """Does nothing."""

    def step(
        self, obs: FloatArray, state: State, first: BoolArray, deterministic: bool = True
    ) -> tuple[FloatArray, State]:
        rows = obs[:, :_SEEN].astype(np.float64)  # what it is given in the package
        wanted = np.array([self._expert.get_action(row) for row in rows], np.float32)
        return np.clip(wanted, self.spec.action_low, self.spec.action_high), state


def scripted_policy(task_name: str, observation_space: Box | None = None) -> ScriptedPolicy:
    """The expert of a Meta-World task.

    Args:
        task_name: Such as ``"push-v3"``, or ``"push-v3@2"`` for a second visit to it.
        observation_space: What the task's environment gives; default: any 39 numbers.

    Raises:
        UserError: The task has no expert, or too little is seen of it.
    """
    from metaworld.policies import ENV_POLICY_MAP

    name = task_name.partition("@")[0]
    if name not in TASKS:
        raise UserError(f"task {task_name!r} has no scripted expert; Meta-World's fifty have one, "
                        "such as 'push-v3': type 'crl list tasks'")
    space = observation_space or Box(-np.inf, np.inf, (_SEEN,), np.float32)
    if space.shape[0] < _SEEN:
        raise UserError(f"the expert of task {task_name!r} looks at {_SEEN} numbers, and the "
                        f"stream shows {space.shape[0]}; leave stream.hide_velocities out")
    actions = Box(-1, 1, (4,), np.float32)
    spec = PolicySpec(task_name, *space_bounds(space), *space_bounds(actions))
    return ScriptedPolicy(spec, ENV_POLICY_MAP[name]())
