"""Cars of a linear system with a quadratic cost: tasks whose best policy is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from crl.envs.sensed import ASSETS, SensedEnv
from crl.task_spec import TaskSpec

STATE_COST = np.array([1, 1, 0.1, 0.1])
ACTION_COST = 0.1
_STEP, _SKIP = 0.05, 2  # of the simulation, seconds


class CarEnv(SensedEnv):
    """A car of 1 kg slides over a plane, against friction, to the middle of it.

    Observation, float32 [4]: position (m) and velocity (m/s) in the plane. Action, float32 [2] in
    [-2, 2]: the force, newtons. Reward: −(‖position‖² + 0.1 ‖velocity‖² + 0.1 ‖force‖²), so that
    the best policy is that of a linear-quadratic regulator. A step is 0.1 s.

    Args:
        friction: Newtons per m/s, viscous.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, friction: float, *, horizon: int = 50, render_mode: str | None = None
                 ) -> None:
        self.friction = friction
        super().__init__(ASSETS / "car.xml", TaskSpec(reward), change=self._change_friction,
                         frame_skip=_SKIP, horizon=horizon, camera="above",
                         render_mode=render_mode)

    def place(self) -> None:
        self.data.qpos[:] = self.np_random.uniform(-1, 1, 2)
        self.data.qvel[:] = self.np_random.uniform(-0.5, 0.5, 2)

    def _change_friction(self, spec: Any) -> None:
        for name in "xy":
            spec.joint(name).damping = self.friction


def reward(obs: Any, action: Any, next_obs: Any) -> Any:
    """As :class:`CarEnv` says; see :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    position, velocity = next_obs[..., :2], next_obs[..., 2:]
    return -(xp.sum(position**2, axis=-1) + STATE_COST[2] * xp.sum(velocity**2, axis=-1)
             + ACTION_COST * xp.sum(action**2, axis=-1))


def linear_system(friction: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A [4, 4] and B [4, 2] of next_obs = A obs + B action.

    The simulation's steps are v ← (v + h u) / (1 + h friction), then x ← x + h v.
    """
    one = np.eye(2)
    slow = 1 / (1 + _STEP * friction)
    a = np.block([[one, _STEP * slow * one], [0 * one, slow * one]])
    b = np.vstack((_STEP**2 * slow * one, _STEP * slow * one))
    whole_a, whole_b = np.eye(4), np.zeros((4, 2))
    for _ in range(_SKIP):
        whole_a, whole_b = a @ whole_a, a @ whole_b + b
    return whole_a, whole_b
