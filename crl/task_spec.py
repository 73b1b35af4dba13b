"""What a planner is told of a task: its reward as a function, and which observations are angles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from crl.errors import UserError
from crl.stream import Env

Reward = Callable[[Any, Any, Any], Any]
"""``reward(obs, action, next_obs)``: [..., obs], [..., act], [..., obs] → [...], of NumPy arrays or
of torch tensors; ``array_api_compat.array_namespace(obs)`` has the functions for either."""


@dataclass(frozen=True)
class TaskSpec:
    """The one definition of a task's reward, which its environment and planners both call.

    An environment that can be planned for has it as its attribute ``task_spec``. Its episodes end
    by time alone.

    Attributes:
        reward: See :data:`Reward`; actions are the environment's. To go to other processes it must
            be picklable: a module-level function or a ``partial``.
        angles: Entries of the observation that are angles in radians.
    """

    reward: Reward
    angles: tuple[int, ...] = ()


def task_spec(env: Env, name: str) -> TaskSpec:
    """The specification of an environment; ``UserError`` if it has none, or observes otherwise."""
    spec = getattr(env.unwrapped, "task_spec", None)
    if not isinstance(spec, TaskSpec):
        raise UserError(f"task {name!r} does not say its reward as a function, which planning "
                        "needs: choose a stream of robots that do, such as hcrl-pusher or "
                        "ugv-slip, or give its environment a task_spec (crl.TaskSpec)")
    if env.observation_space.shape != env.unwrapped.observation_space.shape:
        raise UserError(f"task {name!r} is planned from what its environment observes; leave "
                        "stream options that change observations out")
    return spec
