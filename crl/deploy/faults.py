"""What goes wrong on a real robot, put between a simulated one and its policy."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from crl.config import build, parse_value, require
from crl.errors import UserError, unknown

Observation = NDArray[np.float32]


@dataclass(frozen=True)
class Faults:
    """How often what goes wrong.

    Attributes:
        noise: Standard deviation of noise on observations.
        drop: Share of observations that never arrive.
        delay: Steps by which observations arrive late.
        nan: Share of observations one number of which is none.
        slow: Share of steps in which the policy takes two more periods.
    """

    noise: float = 0.0
    drop: float = 0.0
    delay: int = 0
    nan: float = 0.0
    slow: float = 0.0

    def __post_init__(self) -> None:
        require(self.noise >= 0 and self.delay >= 0, "noise and delay must not be negative")
        for name in ("drop", "nan", "slow"):
            require(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1")


def parse_faults(assignments: list[str]) -> Faults:
    """Faults as they are typed, such as ``["drop=0.1", "delay=2"]``."""
    values = {}
    names = [field.name for field in fields(Faults)]
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise UserError(f"--fault takes name=value, such as drop=0.1; got {assignment!r}")
        if name not in names:
            raise unknown("fault", name, names)
        values[name] = parse_value(value)
    return build(Faults, values, "fault")


class Sensors:
    """What arrives of what a robot observes.

    Args:
        faults: What goes wrong on the way.
        rng: Source of all draws.
    """

    def __init__(self, faults: Faults, rng: np.random.Generator) -> None:
        self._faults, self._rng = faults, rng
        self._on_the_way: deque[tuple[int, Observation]] = deque()
        self._arrived: tuple[int, Observation] | None = None
        self._step = -1

    def reset(self) -> None:
        """Begins an episode: nothing has arrived."""
        self._on_the_way.clear()
        self._arrived, self._step = None, -1

    def read(self, observed: Observation) -> tuple[Observation, float]:
        """The newest observation that has arrived, and its age in steps; infinite if none has.

        Args:
            observed: What the robot observes in this step, [obs].
        """
        self._step += 1
        if self._rng.random() >= self._faults.drop:
            self._on_the_way.append((self._step, self._spoilt(observed)))
        while self._on_the_way and self._on_the_way[0][0] + self._faults.delay <= self._step:
            self._arrived = self._on_the_way.popleft()
        if self._arrived is None:
            return np.full_like(observed, np.nan, dtype=np.float32), math.inf
        return self._arrived[1], float(self._step - self._arrived[0])

    def policy_is_slow(self) -> bool:
        """Whether the policy is slow in this step."""
        return bool(self._rng.random() < self._faults.slow)

    def _spoilt(self, observed: Observation) -> Observation:
        noisy = observed + self._faults.noise * self._rng.standard_normal(observed.shape)
        if self._rng.random() < self._faults.nan:
            noisy[self._rng.integers(len(noisy))] = np.nan
        return np.asarray(noisy, np.float32)
