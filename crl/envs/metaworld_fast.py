"""Fast stand-ins under Meta-World's own task classes.

Every task of Meta-World is a class whose rewards are written against a few slow helpers: MuJoCo
look-ups by name, NumPy on three-vectors, SciPy's ``Rotation`` for one quaternion, a reset that
settles the hand for 250 physics steps twice. :func:`fast_class` derives from such a class and
replaces the helpers, in two ways:

* methods that all tasks inherit (observation, contact test, hand settling) are overridden here;
* methods that the task itself defines keep their code, but run on a copy of their module's
  namespace in which ``np``, ``reward_utils`` and ``Rotation`` are those of
  :mod:`crl.envs.metaworld_standins`. The package itself is never patched.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import types
from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.sawyer_xyz_env import SawyerXYZEnv
from numpy.typing import NDArray

from crl.envs.metaworld_settle import STATE, Sweep, state_of
from crl.envs.metaworld_standins import (
    REWARD_UTILS,
    Array,
    NamedData,
    Numpy,
    Rotation,
    hamacher_product,
    tolerance,
)

ROUNDS_IN_LAYOUT = frozenset({"door-lock-v3", "door-unlock-v3", "lever-pull-v3"})
"""Tasks whose settling is simulated in every reset even where nothing touches.

Their lock or lever swings while the hand settles, and its place on the table changes the rounding:
the last bit of its velocity. No other task shows this (a test compares).
"""

_ATTEMPTS = 8  # recordings of the settling before a task is taken to touch its layout always


# ------------------------------------------------------------------------------------ the mixin


@dataclasses.dataclass
class _Settled:
    """The settling up to one physics step before its end, for the two passes of a reset."""

    attempts: int
    first: Array | None = None
    second: Sweep | None = None


@functools.cache
def _compiled(path: str) -> Any:
    """The compiled model of an XML file: 0.1 s the first time in a process, then shared."""
    return mujoco.MjModel.from_xml_path(path)


class FastTask(SawyerXYZEnv):  # type: ignore[misc]
    """What all fast task classes share; sits in front of a stock task class.

    Stepping is the caller's: it moves the mocap body, calls :meth:`observe` after the physics and
    then ``evaluate_state``.
    """

    rounds_in_layout: bool
    _prev_obs: Array
    _vector: Array
    _hand: Array

    def __init__(self, partially_observable: bool) -> None:
        super().__init__()
        self._partially_observable = partially_observable
        self.__dict__.pop("sawyer_observation_space", None)  # cached before the goal space exists
        space = self.sawyer_observation_space
        self._low, self._high = space.low, space.high
        self._set_task_called = True
        self._memory = _Settled(0 if self.rounds_in_layout else _ATTEMPTS)
        self._pass = 0
        self._vector = np.zeros(0)
        self._draw: Callable[[], Array] | None = None
        self._model_start = self.model.body_pos.copy(), self.model.site_pos.copy()
        self._start = state_of(self.model, self.real)
        self._attributes = {k: _private(v) for k, v in self.__dict__.items()}

    # ---- construction

    def _initialize_simulation(self) -> tuple[Any, Any]:
        # A copy takes a tenth of the time of compiling, and resets write into the model.
        self.model = copy.copy(_compiled(self.fullpath))
        self.data = self.real = mujoco.MjData(self.model)
        self.named = named = NamedData(self.model, self.data)
        self._hand = named.body("hand").xpos
        self._claws = named.body("rightclaw").xpos, named.body("leftclaw").xpos
        self._tips = named.site("rightEndEffector").xpos, named.site("leftEndEffector").xpos
        self._pad_positions = named.body("leftpad").xpos, named.body("rightpad").xpos
        self._pads = named.geom("leftpad_geom").id, named.geom("rightpad_geom").id
        return self.model, self.data

    # ---- helpers of the rewards

    def get_endeff_pos(self) -> Array:
        return self._hand

    @property
    def tcp_center(self) -> Array:
        right, left = self._tips
        center: Array = (right + left) / 2.0
        return center

    def get_body_com(self, body_name: str) -> Array:
        position: Array = self.named.body(body_name).xpos
        return position

    def _get_site_pos(self, site_name: str) -> Array:
        position: Array = self.named.site(site_name).xpos.copy()
        return position

    def _gripper_caging_reward(
        self,
        action: NDArray[Any],
        obj_pos: Array,
        obj_radius: float,
        pad_success_thresh: float,
        object_reach_radius: float,
        xz_thresh: float,
        desired_gripper_effort: float = 1.0,
        high_density: bool = False,
        medium_density: bool = False,
    ) -> Any:
        # The hottest reward term, so it is ours, on plain floats: how well the pads stand on either
        # side of the object in y, and the fingertips over it in x and z, and then the grip.
        x, y, z = obj_pos.tolist()
        x0, y0, z0 = self.obj_init_pos.tolist()
        bounds = (obj_radius, pad_success_thresh)
        sides = []
        for pad in self._pad_positions:
            pad_y = pad.item(1)
            margin = abs(abs(pad_y - y0) - pad_success_thresh)
            sides.append(tolerance(abs(pad_y - y), bounds, margin, "long_tail"))
        tip_x, tip_y, tip_z = self.tcp_center.tolist()
        first_x, first_y, first_z = self.init_tcp.tolist()
        over = tolerance(
            math.hypot(tip_x - x, tip_z - z),
            (0, xz_thresh),
            math.hypot(x0 - first_x, z0 - first_z) - xz_thresh,
            "long_tail",
        )
        caging = hamacher_product(hamacher_product(*sides), over)
        grip = 0.0
        if caging > 0.97:
            grip = min(max(0, action[-1]), desired_gripper_effort) / desired_gripper_effort
        reward = hamacher_product(caging, grip)
        if high_density:
            reward = (reward + caging) / 2
        if medium_density:
            reach = tolerance(
                math.dist((x, y, z), (tip_x, tip_y, tip_z)),
                (0, object_reach_radius),
                abs(math.dist((x0, y0, z0), (first_x, first_y, first_z)) - object_reach_radius),
                "long_tail",
            )
            reward = (reward + reach) / 2
        return reward

    def touching_object(self, object_geom_id: int) -> bool:
        """Whether both finger pads press on the geom (sum of normal contact forces > 0)."""
        contact = self.real.contact
        left_pad, right_pad = self._pads
        left, right = [], []
        for k, pair in enumerate(contact.geom.tolist()):
            if object_geom_id in pair:
                if left_pad in pair:
                    left.append(k)
                if right_pad in pair:
                    right.append(k)
        if not (left and right):
            return False
        force, address = self.real.efc_force, contact.efc_address
        return all(sum(force[address[k]] for k in side) > 0 for side in (left, right))

    # ---- observation

    def _get_curr_obs_combined_no_goal(self) -> Array:
        frame = np.zeros(18)
        frame[:3] = self._hand
        right, left = self._claws
        apart = right - left
        opening = math.sqrt(apart.dot(apart)) / 0.1
        frame[3] = opening if opening < 1.0 else 1.0
        position, quat = self._get_pos_objects(), self._get_quat_objects()
        frame[4:7] = position[:3]
        frame[7:11] = quat[:4]
        if len(position) == 6:
            frame[11:14] = position[3:]
            frame[14:18] = quat[4:]
        return frame

    def _get_obs(self) -> Array:
        obs = np.zeros(39)
        obs[:18] = frame = self._get_curr_obs_combined_no_goal()
        obs[18:36] = self._prev_obs
        if not self._partially_observable:
            obs[36:] = self._target_pos
        self._prev_obs = frame
        return obs

    def observe(self) -> Array:
        """The observation [39] after a physics step, clipped to stock's bounds."""
        obs = self._get_obs()
        np.maximum(obs, self._low, out=obs)
        np.minimum(obs, self._high, out=obs)
        return obs

    # ---- reset

    def start_episode(self, vector: Array, draw: Callable[[], Array] | None) -> tuple[Array, Array]:
        """Sets up an episode as a freshly constructed stock environment would.

        Args:
            vector: The task vector to try first, [3] or [6], metres.
            draw: Called for another one when the task rejects it (start too close to the goal);
                None: a rejected vector is an error.

        Returns:
            The first observation [39], float64, and the task vector that was accepted.

        Raises:
            VectorRejectedError: the vector is rejected and there is no ``draw``.
        """
        self.__dict__.update({k: _private(v) for k, v in self._attributes.items()})
        self.model.body_pos[:], self.model.site_pos[:] = self._model_start
        self._vector, self._draw = vector, draw
        # Stock runs reset_model twice: the second hand settling happens among the bodies where
        # the first pass put them.
        self.data = self.real
        mujoco.mj_setState(self.model, self.real, self._start, STATE)
        for number in (0, 1):
            self._pass = number
            self._drawn = False
            if number == 1:
                mujoco.mj_resetData(self.model, self.real)
            obs = self.reset_model()
        self._prev_obs = obs[:18].copy()
        obs[18:36] = self._prev_obs
        # From here on rewards look names up in dictionaries.
        self.data = self.named
        return obs, self._vector

    def _get_state_rand_vec(self) -> Array:
        # A task calls this again in the same reset exactly when it rejects the vector.
        if self._drawn:
            if self._draw is None:
                raise VectorRejectedError
            self._vector = self._draw()
        self._drawn = True
        return np.array(self._vector)

    def _reset_hand(self, steps: int = 50) -> None:
        self._settle(steps * self.frame_skip - 1)
        # The last step is simulated anew: it leaves the positions of this episode's bodies in
        # the data, and several tasks read them before they call mj_forward.
        mujoco.mj_step(self.model, self.real)
        super()._reset_hand(steps=0)  # what stock records once the hand is there

    def _settle(self, steps: int) -> None:
        model, data, memory = self.model, self.real, self._memory
        if self._pass == 0 and memory.first is not None:
            mujoco.mj_setState(model, data, memory.first, STATE)
            return
        sweep = memory.second if self._pass == 1 else None
        slices = sweep.free(model.body_pos) if sweep else 0
        if sweep and slices:
            steps = sweep.restore(model, data, slices)
        else:
            mocap = model.body_mocapid[model.body("mocap").id]
            data.mocap_pos[mocap] = self.hand_init_pos
            data.mocap_quat[mocap] = (1, 0, 1, 0)
            data.ctrl[:] = (-1, 1)
        if self._pass == 1 and not slices and memory.attempts > 0:
            memory.attempts -= 1
            moved = (model.body_pos != self._model_start[0]).any(axis=1)
            recorded = Sweep(model, data, moved, steps)
            if not sweep or recorded.holds > sweep.holds:
                memory.second = recorded
            return
        mujoco.mj_step(model, data, nstep=steps)
        if self._pass == 0:
            memory.first = state_of(model, data)

    # ---- pickling

    def dump_episode(self) -> tuple[Array, dict[str, Any]]:
        """What an episode has changed since its start: the simulation and the task's own notes."""
        notes = {k: v for k, v in self.__dict__.items() if _is_plain(v)}
        return state_of(self.model, self.real), notes

    def load_episode(self, episode: tuple[Array, dict[str, Any]]) -> None:
        """Goes on with a dumped episode; call after ``start_episode`` with its vector."""
        state, notes = episode
        self.__dict__.update({k: _private(v) for k, v in notes.items()})
        mujoco.mj_setState(self.model, self.real, state, STATE)
        mujoco.mj_forward(self.model, self.real)
        # mj_forward overwrites the solver's warm start, from which the next step must begin.
        mujoco.mj_setState(self.model, self.real, state, STATE)


class VectorRejectedError(ValueError):
    """The task would draw another vector: start and goal are too close."""


def _private(value: Any) -> Any:
    """A copy of plain arrays and containers; views into the simulation stay views."""
    if isinstance(value, np.ndarray):
        return value.copy() if value.flags.owndata else value
    if type(value) is dict:
        return {k: _private(v) for k, v in value.items()}
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return bool(value.flags.owndata)
    return isinstance(value, (bool, int, float, np.generic))


# ------------------------------------------------------------------------------- building a class


@functools.cache
def fast_class(task: str) -> type[FastTask]:
    """The fast class of a task such as ``"push-v3"``; made once in a process."""
    stock = ALL_V3_ENVIRONMENTS[task]
    module: dict[str, Any] = {}
    body: dict[str, Any] = {"rounds_in_layout": task in ROUNDS_IN_LAYOUT}
    for name, member in vars(stock).items():
        if name not in ("__init__", "reset_model", "_reset_hand"):
            fast = _rebind(member, module)
            if fast is not None:
                body[name] = fast
    cls = type(f"Fast{stock.__name__}", (FastTask, stock), body)
    module.update(stock.compute_reward.__globals__)
    module.update(np=Numpy(), reward_utils=REWARD_UTILS, tolerance=tolerance, Rotation=Rotation)
    module[stock.__name__] = cls  # tasks call their static helpers through their own name
    return cls


def _rebind(member: Any, module: dict[str, Any]) -> Any:
    """The same function over another module namespace; None for what is no function."""
    if isinstance(member, staticmethod):
        return staticmethod(_rebind(member.__func__, module))
    if isinstance(member, property):
        return property(_rebind(member.fget, module))
    if not isinstance(member, types.FunctionType):
        return None
    if member.__name__ == "inner":  # Meta-World's assert_task_is_set, around the method
        assert member.__closure__ is not None
        member = next(
            cell.cell_contents for cell in member.__closure__
            if isinstance(cell.cell_contents, types.FunctionType)
        )
    return types.FunctionType(
        member.__code__, module, member.__name__, member.__defaults__, member.__closure__
    )
