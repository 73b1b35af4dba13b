"""Swing a pole up and hold it: a cart-pole whose pole differs in length between tasks."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from crl.envs.sensed import ASSETS, SensedEnv
from crl.task_spec import TaskSpec

_MASS = 0.2   # kilograms of a metre of pole
_NEAR = 0.2   # of the pole's length: the tip is where it should be


class CartPoleEnv(SensedEnv):
    """A pole hangs from a cart; its tip is to stand a pole's length above the middle of the rail.

    Observation, float32 [4]: the cart's position (m), the pole's angle (rad, 0 upright), and their
    speeds. Action, float32 [1] in [-1, 1]: the force on the cart, in units of 15 N. Reward:
    exp(−(d / length)²) − 0.01 action², d being the distance of the tip from where it should be, and
    success is d below a fifth of the length. A step is 40 ms.

    Args:
        length: Of the pole, metres; its mass goes with it.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, length: float, *, horizon: int = 200, render_mode: str | None = None
                 ) -> None:
        self.length = length
        super().__init__(
            ASSETS / "cartpole.xml", TaskSpec(partial(reward, length=length), angles=(1,)),
            change=self._change_length, frame_skip=2, horizon=horizon, camera="side",
            render_mode=render_mode)

    def place(self) -> None:
        noise = self.np_random.normal(0, 0.05, 4)
        self.data.qpos[:], self.data.qvel[:] = noise[:2], noise[2:]
        self.data.joint("hinge").qpos[0] += np.pi

    def succeeded(self, obs: np.ndarray[Any, Any]) -> bool:
        return bool(tip_error(obs, self.length) < (_NEAR * self.length) ** 2)

    def _change_length(self, spec: Any) -> None:
        pole = spec.geom("pole")
        pole.fromto[5], pole.mass = self.length, _MASS * self.length
        for name in ("tip", "goal"):
            spec.site(name).pos[2] = self.length


def tip_error(obs: Any, length: float) -> Any:
    """Squared distance of the tip from where it should be: [..., 4] → [...]."""
    xp = array_namespace(obs)
    across = obs[..., 0] + length * xp.sin(obs[..., 1])
    return across**2 + (length * (1 - xp.cos(obs[..., 1]))) ** 2


def reward(obs: Any, action: Any, next_obs: Any, *, length: float) -> Any:
    """As :class:`CartPoleEnv` says; see :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    return xp.exp(-tip_error(next_obs, length) / length**2) - 0.01 * action[..., 0] ** 2
