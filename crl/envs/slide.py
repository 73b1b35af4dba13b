"""Slide one box into another, which should come to rest at a goal: on tables of other friction."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from crl.envs.sensed import ASSETS, SensedEnv
from crl.task_spec import TaskSpec

REACHED = 0.05  # metres between the second box and the goal
GOAL = (0.34, 0.0)

_BOX = (0, 1, 3, 4, 6, 7, 11)  # of its position, x axis, velocity and angular velocity
_SEEN = [*_BOX, *(12 + i for i in _BOX), 24, 25, 26, 27]  # sensors


class SlideEnv(SensedEnv):
    """A finger pushes a box, which slides into a second one, which should stop at a goal.

    The finger's reach ends too early: for the last 20 cm the second box slides by itself.

    Observation, float32 [18]: of each box x and y (m), cosine and sine of its yaw, velocity in x
    and y (m/s) and yaw rate (rad/s); then x and y of the finger and its velocity. Action, float32
    [2] in [-1, 1]: the finger's velocity in units of 1.5 m/s. Reward: 1.5 (1 − tanh(5 d)), d being
    the distance of the second box from the goal (m), and success is d below 5 cm. A step is 50 ms.

    Args:
        friction: The coefficient of sliding friction between the table and the boxes.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, friction: float, *, horizon: int = 30, render_mode: str | None = None
                 ) -> None:
        self.friction = friction
        super().__init__(ASSETS / "slide.xml", TaskSpec(reward), change=self._change_friction,
                         frame_skip=20, horizon=horizon, camera="above", render_mode=render_mode)

    def place(self) -> None:
        for name, x in (("first", -0.13), ("second", 0.06)):
            dx, dy, yaw = self.np_random.uniform(-1, 1, 3) * (0.01, 0.01, 0.05)
            box = self.data.joint(name).qpos
            box[:2] = x + dx, dy
            box[3:] = np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)
        dx, dy = self.np_random.uniform(-0.02, 0.02, 2)
        self.data.joint("x").qpos[0] = -0.22 + dx
        self.data.joint("y").qpos[0] = dy

    def succeeded(self, obs: NDArray[np.float32]) -> bool:
        return bool(distance(obs) < REACHED)

    def observe(self, before: NDArray[Any], after: NDArray[Any]) -> NDArray[Any]:
        return after[..., _SEEN]

    def _change_friction(self, spec: Any) -> None:
        # The first coefficient, of sliding: contacts have three dimensions, which leaves torsion
        # and rolling out. The table has priority, so that its friction is that of the contact.
        spec.geom("table").friction[0] = self.friction


def distance(obs: Any) -> Any:
    """Of the second box from the goal, metres: [..., 18] → [...]."""
    xp = array_namespace(obs)
    return xp.sqrt((obs[..., 7] - GOAL[0]) ** 2 + (obs[..., 8] - GOAL[1]) ** 2)


def reward(obs: Any, action: Any, next_obs: Any) -> Any:
    """As :class:`SlideEnv` says; see :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    return 1.5 * (1 - xp.tanh(5 * distance(next_obs)))
