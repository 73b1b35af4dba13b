"""Dynamics that change while a robot acts, around any environment.

    env = DynamicsSchedule(gymnasium.make("HalfCheetah-v5"), [
        Change("mass", 1.5, on="torso", start=500),            # from a step on
        Change("friction", 0.3, start=100, ramp=400),          # over 400 steps
        Change("motor", (0.4, 0.8), on="bfoot", stop=100, period=200),   # again and again
        Change("gain", -1, on=2), Change("delay", 2)])
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from crl import seeding
from crl.config import require
from crl.envs.changes import Change
from crl.envs.model_changes import OF_MODELS, ModelChanges, find
from crl.stream import Env

__all__ = ["Change", "DynamicsSchedule"]


class DynamicsSchedule(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Changes what a robot is while it acts, and puts it back at every reset.

    The environment resets as the robot usually is; changes begin when it stands there. What holds
    in a step is in its ``info["dynamics"]``, a number for each :attr:`Change.key`, and nowhere
    else. Where a change has a range, values come from generators that ``reset(seed=…)`` seeds and
    that nothing else draws from. A planner's simulation of the environment does not know the
    changes of actions.

    Args:
        env: Any environment with ``model`` and ``data`` of MuJoCo: Gymnasium's, Meta-World's, those
            of this package. Gains, slip and delays do not need them.
        changes: What changes.

    Raises:
        UserError: The environment has not what is to be changed.
    """

    def __init__(self, env: Env, changes: Sequence[Change]) -> None:
        RecordConstructorArgs.__init__(self, changes=changes)
        gymnasium.Wrapper.__init__(self, env)
        self.changes = tuple(changes)
        for change in self.changes:
            self._require(change)
        of_model = [c for c in self.changes if c.what in OF_MODELS]
        self._model = ModelChanges(self._robot.model, of_model) if of_model else None
        self._slips = {c.key: find("wheel", c.on, self._robot.wheels)
                       for c in self.changes if c.what == "slip"}
        self._gains = {c.key: find("entry of the action", c.on, [""] * self._size)
                       for c in self.changes if c.what == "gain"}
        self._of_action = any(c.what in ("gain", "delay") for c in self.changes)
        longest = sum(math.ceil(c.range[1]) for c in self.changes if c.what == "delay")
        self._sent: deque[NDArray[Any]] = deque(maxlen=longest + 1)
        self._values: dict[str, float] = {}  # what has been written; empty: nothing yet
        self._generators = [np.random.default_rng() for _ in self.changes]
        self._drawn: list[tuple[Any, float]] = [(None, 0.0) for _ in self.changes]
        self._episode, self._step = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None
              ) -> tuple[Any, dict[str, Any]]:
        self._restore()
        obs, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._generators = [seeding.generator(seed, "dynamics", i)
                                for i in range(len(self.changes))]
        self._episode, self._step = self._episode + 1, 0
        self._sent.clear()
        if self._model is not None:
            self._model.remember(self._robot.model)
        self._write()
        return obs, {**info, "dynamics": dict(self._values)}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        self._write()
        if self._of_action:
            action = self._acting(np.asarray(action))
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._step += 1
        return obs, reward, terminated, truncated, {**info, "dynamics": dict(self._values)}

    def close(self) -> None:
        self._restore()
        super().close()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._values = {}  # Meta-World's model is made anew, without what was written

    def _require(self, change: Change) -> None:
        """A ``UserError`` unless the environment is of the kind that the change is for."""
        name, space = type(self._robot).__name__, self.env.action_space
        require(change.what not in OF_MODELS or hasattr(self._robot, "model"),
                f"{change.what} is of a MuJoCo model, which {name} has not; gain, slip and delay "
                "need none")
        require(change.what != "slip" or hasattr(self._robot, "wheels"),
                f"slip is of wheels, which {name} has not; MuJoCo's geoms have friction")
        require(change.what not in ("gain", "delay") or
                (isinstance(space, Box) and len(space.shape) == 1),
                f"{change.what} works on actions in a flat Box; {name} has {space}")
        require(change.unit != "progress" or hasattr(self._robot, "progress"),
                f"{name} has no progress to count in; set unit to 'steps' or 'episodes'")

    @property
    def _robot(self) -> Any:
        return self.env.unwrapped

    @property
    def _size(self) -> int:
        space = self.env.action_space
        assert isinstance(space, Box)
        return space.shape[0]

    def _now(self, i: int) -> float:
        """The value of a change at this moment, drawn anew where an occurrence begins."""
        change = self.changes[i]
        time = {"steps": self._step, "episodes": self._episode}.get(change.unit)
        number, share = change.at(self._robot.progress if time is None else time)
        if share == 0:
            return change.neutral
        occurrence = number if change.unit == "episodes" else (self._episode, number)
        if self._drawn[i][0] != occurrence:
            self._drawn[i] = occurrence, float(self._generators[i].uniform(*change.range))
        return change.neutral + share * (self._drawn[i][1] - change.neutral)

    def _write(self) -> None:
        """Makes the robot what it is at this moment."""
        values: dict[str, float] = {}
        for i, change in enumerate(self.changes):
            value = self._now(i)
            values[change.key] = (change.combine(values[change.key], value)
                                  if change.key in values else value)
        if values == self._values:
            return
        self._values = values
        if self._model is not None:
            self._model.write(self._robot.model, values)
        if self._slips:
            self._robot.slip[:] = 0
            for key, wheel in self._slips.items():
                self._robot.slip[wheel] += values[key]

    def _restore(self) -> None:
        """Makes the robot what it usually is."""
        self._values = {}
        if self._model is not None:
            self._model.restore(self._robot.model)
        if self._slips:
            self._robot.slip[:] = 0

    def _acting(self, action: NDArray[Any]) -> NDArray[Any]:
        """What acts when an action is sent: one sent some steps before, times the gains."""
        self._sent.append(action)
        late = round(self._values.get("delay", 0))
        acting = self._sent[-1 - late] if late < len(self._sent) else np.zeros_like(action)
        gains = np.ones(self._size)
        for key, entry in self._gains.items():
            gains[entry] *= self._values[key]
        return np.asarray(acting * gains, acting.dtype)
