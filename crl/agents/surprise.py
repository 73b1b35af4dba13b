"""Task changes that nobody told: seen in the errors of a model."""

from __future__ import annotations

import math
from collections import deque

from crl.checkpoint import Tree

_EPISODES = 3  # that an episode is compared with


class Surprise:
    """An episode is another task's if its errors are far above those of the episodes before.

    Compared are geometric means over an episode's steps, so that a few steps with large errors,
    such as blows, do not decide: that of the newest episode with the highest of the three before.
    A model that has just begun to learn errs by anything, so a task's first three episodes are
    never another's.

    Args:
        factor: How many times as large the error must be.
    """

    def __init__(self, factor: float) -> None:
        self._jump = math.log(factor)
        self._before: deque[float] = deque(maxlen=_EPISODES)
        self._sum, self._steps = 0.0, 0

    def see(self, error: float) -> None:
        """Takes the error of a step."""
        self._sum += math.log(max(error, 1e-30))
        self._steps += 1

    def ends(self) -> bool:
        """Takes the end of an episode; whether the episode was another task's."""
        if self._steps == 0:
            return False
        mean = self._sum / self._steps
        changed = len(self._before) == _EPISODES and mean > max(self._before) + self._jump
        if changed:
            self._before.clear()
        else:
            self._before.append(mean)
        self._sum, self._steps = 0.0, 0
        return changed

    def state_dict(self) -> Tree:
        return {"before": list(self._before), "sum": self._sum, "steps": self._steps}

    def load_state_dict(self, tree: Tree) -> None:
        self._before = deque(tree["before"], maxlen=_EPISODES)
        self._sum, self._steps = tree["sum"], tree["steps"]
