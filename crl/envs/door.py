"""Open a door: handles that are pulled, or turned either way to free a latch, differ by task."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace

from crl.envs.sensed import ASSETS, SensedEnv
from crl.task_spec import TaskSpec

OPEN = 0.2     # radians of the door's hinge
RELEASE = 0.5  # radians of the handle: the latch is free

_DOOR, _HANDLE = 0, 1  # entries of the observation: angles
_GRIP, _POINT = slice(18, 21), slice(21, 24)  # positions of the hand and of the handle


class DoorEnv(SensedEnv):
    """A floating hand is to open a door by 0.2 rad, which is success.

    Observation, float32 [26]: the angles of door and handle (2, rad) and their speeds (2); the
    hand's x, y, z (m), roll, pitch, yaw (rad), and how far a finger is closed (m), and the speeds
    of these seven; where the hand and where the handle is to be gripped (3 each, m); the other
    finger and its speed, so that nothing of the state is hidden. Action, float32 [7] in [-1, 1]:
    the speeds that are asked of the hand, in units of 0.4 m/s, 2 rad/s, and 0.1 m/s of the fingers,
    1 closing them. Reward: −4 · distance of the hand from the handle (m) + the part of 0.5 rad that
    the handle is turned the task's way (from −1 to 1; 0 for a bar) + 10 · the door's angle, 0.4 rad
    at most − 0.01 ‖action‖². A step is 50 ms.

    Args:
        handle: A bar without a latch (``"pull"``), a round knob, or a lever. A latch keeps the door
            shut until knob or lever is turned by 0.5 rad.
        sense: Which way: 1 is anticlockwise as the hand sees it, a lever goes down. A bar has none.
        horizon, render_mode: As in :class:`SensedEnv`.
    """

    def __init__(self, handle: Literal["pull", "round", "lever"], sense: Literal[1, -1], *,
                 horizon: int = 60, render_mode: str | None = None) -> None:
        self.handle, self.sense = handle, sense
        turn = 0 if handle == "pull" else sense
        super().__init__(ASSETS / "door.xml",
                         TaskSpec(partial(reward, turn=turn), angles=(_DOOR, _HANDLE)),
                         change=self._change_handle, frame_skip=10, horizon=horizon, camera="side",
                         render_mode=render_mode)

    def place(self) -> None:
        self.data.qpos[:] = self.init_qpos
        self.data.qpos[2:8] += self.np_random.uniform(-0.05, 0.05, 6)
        self.data.qvel[:] = 0

    def succeeded(self, obs: np.ndarray[Any, Any]) -> bool:
        return bool(obs[_DOOR] >= OPEN)

    def _change_handle(self, spec: Any) -> None:
        spec.sensor("handle").objname = self.handle
        absent = {"pull", "round", "lever"} - {self.handle}
        if self.handle == "pull":
            absent.add("latch")
            spec.equality("fixed").active = True
        for geom in spec.geoms:
            if geom.name.split("-")[0] in absent:
                geom.delete()
            elif geom.name == "latch-keeper":
                geom.pos[2] *= self.sense


def reward(obs: Any, action: Any, next_obs: Any, *, turn: int) -> Any:
    """As :class:`DoorEnv` says, ``turn`` being 0 where nothing is to be turned; see
    :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    apart = xp.sqrt(xp.sum((next_obs[..., _GRIP] - next_obs[..., _POINT]) ** 2, axis=-1))
    turned = xp.clip(turn * next_obs[..., _HANDLE] / RELEASE, -1, 1)
    opened = xp.clip(next_obs[..., _DOOR], 0, 2 * OPEN)
    return -4 * apart + turned + 10 * opened - 0.01 * xp.sum(action**2, axis=-1)
