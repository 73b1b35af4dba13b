"""How much of the hand's settling can be restored from a snapshot instead of being simulated.

Before an episode Meta-World moves the hand to its start for 250 physics steps, among bodies that
stand where the task vector puts them. As long as nothing can touch those bodies, the motion is the
same to the last bit wherever they stand. :class:`Sweep` notes what every geom covers in each slice
of that time, as boxes, and so knows for any layout up to when nothing can have touched.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE = mujoco.mjtState.mjSTATE_INTEGRATION  # with the solver's warm start, mocap and controls

_SLICES = 25
_SLACK = 1e-3  # metres, around every box


class Sweep:
    """The settling in one layout, the reference, and how far it holds for others.

    Attributes:
        length: Number of slices.
        holds: The settling is free of the layout's influence before this slice begins;
            ``length`` if to the end.
    """

    length = _SLICES

    def __init__(self, model: Any, data: Any, moved: NDArray[np.bool_], steps: int) -> None:
        """Simulates ``steps`` physics steps and notes states and what the geoms cover.

        Args:
            model: The compiled model, in the reference layout.
            data: Its simulation, ready to settle.
            moved: [bodies] The bodies whose ``body_pos`` the task vector decides.
            steps: Physics steps.
        """
        self._steps = steps
        self._roots = moved
        self._reference = model.body_pos.copy()
        root = np.where(moved, np.arange(model.nbody), 0)
        for body in range(1, model.nbody):  # parents come before their children
            root[body] = root[body] or root[model.body_parentid[body]]
        # Elsewhere body_pos is no world position, and named pairs escape the collision masks.
        self._provable = not model.body_parentid[moved].any() and model.npair == 0
        owner = root[model.geom_bodyid]  # 0: does not move with the vector

        kind, affinity = model.geom_contype, model.geom_conaffinity
        collides = (kind[:, None] & affinity) | (kind & affinity[:, None])
        weld = model.body_weldid[model.geom_bodyid]
        mixed = (owner[:, None] != owner) & (owner > 0)
        still, moving = np.nonzero((collides != 0) & (weld[:, None] != weld) & mixed)
        low, high, self._states = _swept(model, data, steps)
        # Boxes i and j + shift overlap when, in all axes, low_i - high_j <= shift and
        # low_j - high_i <= -shift.
        self._still, self._moving = owner[still], owner[moving]
        self._above = low[:, still] - high[:, moving]
        self._below = low[:, moving] - high[:, still]
        self.holds = _SLICES
        self.holds = self.free(model.body_pos)

    def free(self, body_pos: Array) -> int:
        """Slices of the reference that hold in a layout, ``body_pos`` [bodies, 3], metres."""
        if not self._provable or (body_pos != self._reference)[~self._roots].any():
            return 0
        shift = body_pos - self._reference
        shift[0] = 0.0
        relative = shift[self._moving] - shift[self._still]
        overlap = (self._above <= relative) & (self._below <= -relative)
        touched = overlap.all(axis=2).any(axis=1)
        return min(self.holds, int(touched.argmax()) if touched.any() else _SLICES)

    def restore(self, model: Any, data: Any, slices: int) -> int:
        """Sets the state after that many slices; returns the physics steps that are left."""
        mujoco.mj_setState(model, data, self._states[slices], STATE)
        return self._steps - _begins(slices, self._steps)


def state_of(model: Any, data: Any) -> Array:
    """Everything that decides how the simulation goes on, as one vector."""
    state = np.empty(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    return state


def _begins(k: int, steps: int) -> int:
    return k * steps // _SLICES


def _swept(model: Any, data: Any, steps: int) -> tuple[Array, Array, list[Array]]:
    """Low and high corners [slices, geoms, 3] of what geoms cover, and slices + 1 states."""
    low = np.full((_SLICES, model.ngeom, 3), np.inf)
    high = -low
    states = [state_of(model, data)]
    centre, half = model.geom_aabb[:, :3, None], model.geom_aabb[:, 3:, None]
    slack = _SLACK + model.geom_margin[:, None]
    for k in range(_SLICES):
        for _ in range(_begins(k, steps), _begins(k + 1, steps)):
            mujoco.mj_step(model, data)
            rotation = data.geom_xmat.reshape(-1, 3, 3)
            middle = data.geom_xpos + (rotation @ centre)[:, :, 0]
            reach = (np.abs(rotation) @ half)[:, :, 0] + slack
            np.minimum(low[k], middle - reach, out=low[k])
            np.maximum(high[k], middle + reach, out=high[k])
        states.append(state_of(model, data))
    for geom in np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE):
        # A plane has no box: it fills the half-space behind it, taken as everything if it tilts.
        level = data.geom_xmat[geom, 8] > 1 - 1e-9
        low[:, geom], high[:, geom] = -np.inf, np.inf
        if level:
            high[:, geom, 2] = data.geom_xpos[geom, 2] + slack[geom, 0]
    return low, high, states
