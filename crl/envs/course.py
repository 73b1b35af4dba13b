"""The task of a vehicle: to pass waypoints in order, or to follow a reference that moves."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from crl.envs.maps import Points
from crl.task_spec import Reward


class Course:
    """Waypoints to pass in order.

    What a robot is told of it, [2 d + 1]: the waypoint that it goes to and the one after, each as
    seen from the robot (d numbers, metres: forward, left and, in the air, up), and the metres that
    are left, through all waypoints. Reward: the metres that a step brings it nearer. Success: no
    waypoint is left; then the last one goes on being shown, and 0 metres.

    Args:
        points: [n, d], the waypoints. A robot starts at the first.
        radius: A waypoint is passed where the robot ends a step within so many metres of it.
        pace: A usual speed, m/s: what the horizon is measured by.
    """

    reward: Reward

    def __init__(self, points: Points, radius: float, pace: float) -> None:
        self.points, self.radius, self.pace = points, radius, pace
        lengths = np.linalg.norm(np.diff(points, axis=0), axis=1)
        self._milestones = np.append(0, np.cumsum(lengths))  # of each waypoint, from the first
        self.length = float(self._milestones[-1])
        self.size = 2 * points.shape[1] + 1
        self.reward = progress_reward
        self._passed = 0

    def horizon(self, step: float) -> int:
        """Steps of so many seconds in which one and a half of the course is done at its pace."""
        return math.ceil(1.5 * self.length / self.pace / step)

    @property
    def progress(self) -> float:
        """The part of the waypoints that has been passed, 0 to 1."""
        return self._passed / len(self.points)

    def begin(self) -> None:
        """Goes back to the start."""
        self._passed = 0

    def advance(self, position: Points, seconds: float) -> None:
        """Takes note of where a step of so many seconds has ended, [d]."""
        if (self._passed < len(self.points)
                and math.dist(position, self.points[self._passed]) < self.radius):
            self._passed += 1

    def ahead(self) -> Points:
        """Where to go, and where to go from there: [2, d]."""
        last = len(self.points) - 1
        return self.points[[min(self._passed, last), min(self._passed + 1, last)]]

    def left(self, position: Points) -> float:
        """Metres that are left from a position [d]; 0 when all is done."""
        if self._passed == len(self.points):
            return 0.0
        goal = self._passed
        return math.dist(position, self.points[goal]) + self.length - float(self._milestones[goal])

    def observe(self, position: Points, axes: Points) -> Points:
        """What a robot at a position [d] is told, its axes being the columns of ``axes`` [d, d]."""
        seen = (self.ahead() - position) @ axes
        return np.append(seen.ravel(), self.left(position))

    def succeeded(self, obs: NDArray[np.float32]) -> bool:
        """Whether all is done where this is observed, the course's numbers being the last ones."""
        return bool(obs[-1] == 0)


class Reference(Course):
    """A point to follow, which moves at the course's pace from waypoint to waypoint and stops.

    A robot is told where it is, where it will be a second later, and the metres that it has left to
    go. Reward: 1 − tanh(d), d being the robot's distance from it (m). Success: it has arrived, and
    the robot is within the radius of it. Arguments as there.
    """

    def __init__(self, points: Points, radius: float, pace: float) -> None:
        super().__init__(points, radius, pace)
        self.reward = partial(tracking_reward, size=points.shape[1])
        self._done = 0.0

    @property
    def progress(self) -> float:
        """The part of its way that the reference has gone, 0 to 1."""
        return self._done / self.length

    def begin(self) -> None:
        self._done = 0.0

    def advance(self, position: Points, seconds: float) -> None:
        self._done = min(self._done + self.pace * seconds, self.length)

    def ahead(self) -> Points:
        at = np.array([self._done, self._done + self.pace])
        return np.column_stack([np.interp(at, self._milestones, x) for x in self.points.T])

    def left(self, position: Points) -> float:
        return self.length - self._done

    def succeeded(self, obs: NDArray[np.float32]) -> bool:
        size = self.points.shape[1]
        return bool(obs[-1] == 0 and distance(obs, size) < self.radius)


def make_course(points: Points, *, tracking: bool, radius: float, pace: float) -> Course:
    """The course through points [n, d]: :class:`Reference` if ``tracking``, or waypoints."""
    return (Reference if tracking else Course)(points, radius, pace)


def distance(obs: Any, size: int) -> Any:
    """Of the robot from where it is to go, metres: [..., obs] → [...]; ``size`` is d."""
    xp = array_namespace(obs)
    goal = obs[..., -2 * size - 1:-size - 1]
    return xp.sqrt(xp.sum(goal**2, axis=-1))


def progress_reward(obs: Any, action: Any, next_obs: Any) -> Any:
    """As :class:`Course` says; see :data:`crl.task_spec.Reward`."""
    return obs[..., -1] - next_obs[..., -1]


def tracking_reward(obs: Any, action: Any, next_obs: Any, *, size: int) -> Any:
    """As :class:`Reference` says, ``size`` being d; see :data:`crl.task_spec.Reward`."""
    xp = array_namespace(obs)
    return 1 - xp.tanh(distance(next_obs, size))
