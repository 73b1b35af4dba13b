"""The two-link arm with dynamics that nobody tells and that change while it moves."""

from __future__ import annotations

from collections import deque
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl.envs.arm import ArmEnv
from crl.envs.arm_tasks import HiddenDynamics

_DAMPING = (0.3, 4.0)  # times the arm's own
_GAIN = (0.4, 1.0)
_LONGEST_DELAY = 3     # steps of 50 ms


class HiddenArmEnv(ArmEnv):
    """:class:`ArmEnv` with goals all around, whose dynamics are drawn at the reset and once more.

    The second draw falls into the middle third of an episode. What the dynamics are is in
    ``info["dynamics"]`` and nowhere else; they can be told from how the arm answers.

    Args:
        changes: ``"gains"``: each motor's gain, 0.4 to 1, and its sign; ``"friction"``: the joints'
            damping, 0.3 to 4 times the usual; ``"delay"``: commands act 0 to 3 steps late.
        horizon, render_mode: As in :class:`ArmEnv`.
    """

    def __init__(self, changes: HiddenDynamics, *, horizon: int = 60,
                 render_mode: str | None = None) -> None:
        self.changes = changes
        super().__init__(np.eye(2), (-pi, pi), horizon=horizon, render_mode=render_mode)
        self._usual_damping = self.model.dof_damping.copy()
        self._dynamics: Any = None
        self._change_at = 0
        self._waiting: deque[NDArray[np.float32]] = deque()

    def reset_model(self) -> NDArray[np.float32]:  # type: ignore[override]
        obs = super().reset_model()
        third = self.horizon // 3
        self._change_at = int(self.np_random.integers(third, 2 * third + 1))
        self._waiting.clear()
        self._draw()
        return obs

    def step(  # type: ignore[override]
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        if self._steps == self._change_at:
            self._draw()
        if self.changes == "delay":
            self._waiting.append(np.array(action))
            late = len(self._waiting) > self._dynamics
            action = self._waiting[-1 - self._dynamics] if late else np.zeros_like(action)
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated, {**info, "dynamics": np.copy(self._dynamics)}

    def _draw(self) -> None:
        if self.changes == "gains":
            size = self.np_random.uniform(*_GAIN, 2) * self.np_random.choice([-1.0, 1.0], 2)
            self.wiring, self._dynamics = np.diag(size), size
        elif self.changes == "friction":
            low, high = np.log(_DAMPING)
            self._dynamics = float(np.exp(self.np_random.uniform(low, high)))
            self.model.dof_damping[:] = self._dynamics * self._usual_damping
        else:
            self._dynamics = int(self.np_random.integers(_LONGEST_DELAY + 1))
