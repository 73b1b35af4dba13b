"""Push a block to where it should be: one whose two halves differ in density between tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from crl.envs.sensed import ASSETS, SensedEnv
from crl.task_spec import TaskSpec

REACHED = 0.005  # metres between a corner and where it should be
START, GOAL = (-0.1, 0.0), (0.15, 0.0)  # of the block's middle

_CORNERS = tuple((GOAL[0] + x, GOAL[1] + y)  # at the goal
                 for x, y in ((0.03, 0.06), (0.03, -0.06), (-0.03, -0.06), (-0.03, 0.06)))
_SEEN = [0, 1, 3, 4, 6, 7, 9, 10, 12, 13]  # sensors, all but the heights of the corners


class PusherEnv(SensedEnv):
    """A finger pushes a block along a table, to a place 25 cm away, where it should lie straight.

    Pushed through its middle, a block whose halves differ in mass turns: the lighter one leads.

    Observation, float32 [10], metres: x and y of the block's corners (front left, front right,
    back right, back left), then of the finger. Action, float32 [2] in [-1, 1]: the finger's
    velocity in units of 0.2 m/s. Friction stops what is not pushed within a step, so that
    velocities need not be observed. Reward: Σ (1 − tanh(10 d)) − 0.05 ‖action‖, over the distances
    d (m) of the corners from where they should be; success is every d below 5 mm. A step is 50 ms.

    Args:
        densities: Of the halves on the left and on the right of the way, kg/m³.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, densities: tuple[float, float], *, horizon: int = 100,
                 render_mode: str | None = None) -> None:
        self.densities = densities
        super().__init__(ASSETS / "pusher.xml", TaskSpec(reward), change=self._change_densities,
                         frame_skip=10, horizon=horizon, camera="above", render_mode=render_mode)

    def place(self) -> None:
        dx, dy, yaw = self.np_random.uniform(-1, 1, 3) * (0.01, 0.01, 0.1)
        block = self.data.joint("block").qpos
        block[:2] = START[0] + dx, START[1] + dy
        block[3:] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
        dx, dy = self.np_random.uniform(-1, 1, 2) * (0.01, 0.03)
        self.data.joint("x").qpos[0] = START[0] - 0.06 + dx
        self.data.joint("y").qpos[0] = START[1] + dy

    def succeeded(self, obs: NDArray[np.float32]) -> bool:
        return bool((distances(obs) < REACHED).all())

    def observe(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        return after[..., _SEEN]

    def _change_densities(self, spec: Any) -> None:
        for name, density in zip(("left", "right"), self.densities, strict=True):
            half = spec.geom(name)
            half.density = density
            half.rgba[:3] *= np.interp(density, (100, 500), (1.15, 0.88))  # the denser, the darker


def distances(obs: Any) -> Any:
    """Of the corners from where they should be, metres: [..., 10] → [..., 4]."""
    xp = array_namespace(obs)
    return xp.stack([xp.sqrt((obs[..., 2 * i] - x) ** 2 + (obs[..., 2 * i + 1] - y) ** 2)
                     for i, (x, y) in enumerate(_CORNERS)], axis=-1)


def reward(obs: Any, action: Any, next_obs: Any) -> Any:
    """As :class:`PusherEnv` says; see :data:`crl.task_spec.Reward`.

    The published weight of the action is 0.25: with it, planners of 20 steps and few samples find
    nothing better than waiting where the first push does not go straight to the goal.
    """
    xp = array_namespace(obs)
    near = xp.sum(1 - xp.tanh(10 * distances(next_obs)), axis=-1)
    return near - 0.05 * xp.sqrt(xp.sum(action**2, axis=-1))
