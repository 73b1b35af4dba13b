"""What may change about a robot, and when: plain values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from crl.config import require

What = Literal["mass", "payload", "friction", "damping", "motor", "wind", "gain", "slip", "delay"]
Unit = Literal["steps", "episodes", "progress"]

_AMOUNTS = ("payload", "wind", "slip", "delay")  # 0 is nothing; of the others, which are factors, 1
_SIGNED = ("wind", "gain")


@dataclass(frozen=True)
class Change:
    """One thing that changes: at a step, over a ramp, or again and again.

    Of a MuJoCo model:

    - ``"mass"``: factor on mass and inertia of a body;
    - ``"payload"``: kilograms more at the centre of mass of a body, as a point;
    - ``"friction"``: factor on the sliding friction of a geom;
    - ``"damping"``: factor on the damping of a joint;
    - ``"motor"``: factor on what force an actuator gives, its limits included;
    - ``"wind"``: m/s along x, y or z of the world. MuJoCo's model of air makes a force of it: on a
      body whose inertia is that of a box with half sides r, 2 ρ r_j r_k |v| v along its axis i, v
      being the velocity of the air there as seen from it. The model's density ρ must be above 0.

    Of any environment:

    - ``"gain"``: factor on an entry of the action; −1 turns it round;
    - ``"slip"``: the part of a wheel's speed that does not reach the ground, of robots that have
      ``wheels``;
    - ``"delay"``: steps that pass before an action acts; before the first one, zeros act.

    Changes of the same thing add up: factors multiply.

    Attributes:
        what: One of the above.
        value: What it becomes; or two numbers, between which each occurrence draws its own.
        on: The name of the body, geom, joint, actuator, axis or wheel, or its number; of a gain the
            number of the entry. None: all of them; of delays, always.
        start: When it begins.
        stop: When it is over, at once; None: never.
        ramp: How long it takes to come, evenly; 0: it is there at once.
        period: After so much it occurs again; None: once.
        unit: What times are counted in: steps of the episode, from 0; episodes, from 0; or the
            ``progress`` of the environment, 0 to 1. Episodes that tell others apart by their number
            are not for the tasks of a stream, which depend on their seed alone.
    """

    what: What
    value: float | tuple[float, ...]
    on: str | int | None = None
    start: float = 0
    stop: float | None = None
    ramp: float = 0
    period: float | None = None
    unit: Unit = "steps"

    def __post_init__(self) -> None:
        require(self.what in get_args(What),
                f"what must be one of {', '.join(get_args(What))}, got {self.what!r}")
        low, high = self.range
        require(math.isfinite(low) and math.isfinite(high) and low <= high,
                f"value of {self.what} must be a finite number or a low and a high one, got "
                f"{self.value!r}")
        require(self.what in _SIGNED or low >= 0, f"{self.what} must not be negative, got {low}")
        require(self.what != "mass" or low > 0, f"mass must be above 0, got {low}")
        require(self.what != "slip" or high <= 1, f"slip is a part, 0 to 1, got {high}")
        require(self.what != "delay" or self.on is None,
                f"a delay is that of the whole action; leave on={self.on!r} out")
        require(self.what not in ("payload", "wind") or self.on is not None,
                f"{self.what} needs on: " + ("a body" if self.what == "payload" else "x, y or z"))
        require(self.unit in get_args(Unit),
                f"unit must be one of {', '.join(get_args(Unit))}, got {self.unit!r}")
        require(self.start >= 0 and self.ramp >= 0, "start and ramp must not be negative, got "
                f"{self.start} and {self.ramp}")
        require(self.stop is None or self.stop > self.start,
                f"stop must be after start, {self.start}, got {self.stop}")
        require(self.period is None or self.period > 0,
                f"period must be above 0, got {self.period}")

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        values = self.value if isinstance(self.value, tuple) else (self.value, self.value)
        require(len(values) == 2, f"value of {self.what} must be one number or two, a low and a "
                f"high one, got {self.value!r}")
        return values[0], values[1]

    @property
    def key(self) -> str:
        """Its name in ``info["dynamics"]``: ``"delay"``, ``"mass:torso"``, ``"gain:0"``."""
        return self.what if self.on is None else f"{self.what}:{self.on}"

    @property
    def neutral(self) -> float:
        """The value that changes nothing."""
        return 0.0 if self.what in _AMOUNTS else 1.0

    def at(self, time: float) -> tuple[int, float]:
        """Which occurrence a time is in, from 0, and how much of the change is there, 0 to 1."""
        since = time - self.start
        if since < 0:
            return 0, 0.0
        number = 0
        if self.period is not None:
            number, since = int(since // self.period), since % self.period
        if self.stop is not None and since >= self.stop - self.start:
            return number, 0.0
        return number, min(1.0, since / self.ramp) if self.ramp else 1.0

    def combine(self, one: float, other: float) -> float:
        """Two values of this kind at once."""
        return one + other if self.what in _AMOUNTS else one * other
