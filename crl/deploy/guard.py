"""What stands between a policy and a robot: NumPy alone, no clock, nothing drawn.

    guard = Guard(policy.manifest)
    action = policy.step(obs) if guard.admits(obs, age_s) else None
    send(guard.command(action if in_time else None))      # once in every control step

Whatever happens, a command is finite, within its bounds, and no further from the last one than the
slew limit. Without a usable action the last command is held for a few steps; then it moves to the
safe action; then the robot is stopped, and stays so until somebody calls :meth:`Guard.reset`.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.deploy.manifest import Manifest

EVENTS = {
    "not finite": "an observation had a number that is none",
    "out of range": "an observation was outside its bounds",
    "stale": "an observation was too old",
    "without action": "no action came, or too late",
    "bad action": "an action had a number that is none",
    "clamped": "an action was outside its bounds",
    "slewed": "an action was too far from the last command",
    "held": "the last command was sent again",
    "decayed": "a command on the way to the safe action was sent",
    "stopped": "the robot was kept stopped",
}
"""What is counted, each once a step."""

_NOISE = 0.05  # of its range: so far beyond its bounds an observation is a sensor's noise


class Guard:
    """Lets through what is safe.

    Args:
        manifest: Of the policy.

    Attributes:
        events: How often each of :data:`EVENTS` has happened.
        stopped: Whether the robot is stopped for good.
        last: The last command, [act] float32; at first, the safe action.
    """

    def __init__(self, manifest: Manifest) -> None:
        terms, limits = manifest["observation"]["terms"], manifest["guard"]
        least, most = (
            np.array([beyond if term[bound] is None else term[bound] for term in terms])
            for bound, beyond in (("low", -np.inf), ("high", np.inf)))
        room = _NOISE * np.where(np.isfinite(most - least), most - least, 0)
        self._least, self._most = least - room, most + room
        self._stale_s: float = limits["stale_s"]
        self._hold: int = limits["hold_steps"]
        self._decay: int = limits["decay_steps"]
        actions = manifest["action"]["terms"]
        self._low, self._high, self._safe = (
            np.array([term[name] for term in actions], np.float32)
            for name in ("low", "high", "safe"))
        slew = np.array([np.inf if term["slew_per_s"] is None else term["slew_per_s"]
                         for term in actions])
        self._change = (slew / manifest["rate_hz"]).astype(np.float32)
        self.events = Counter(dict.fromkeys(EVENTS, 0))
        self.last = self._from = self._safe
        self.reset()

    def reset(self) -> None:
        """Lets a stopped robot go on; whoever calls it has looked at the robot. Counts stay."""
        self.stopped = False
        self._missed = 0  # steps without a usable action, in a row

    @property
    def at_rest(self) -> bool:
        """Whether the robot is stopped, and has been sent the safe action."""
        return self.stopped and np.array_equal(self.last, self._safe)

    def admits(self, observation: ArrayLike, age_s: float = 0.0) -> bool:
        """Whether the policy may see an observation [obs] of an age in seconds."""
        obs = _finite(observation, self._least.shape)
        if obs is None:
            event = "not finite"
        elif not ((obs >= self._least) & (obs <= self._most)).all():
            event = "out of range"
        elif not 0 <= age_s <= self._stale_s:
            event = "stale"
        else:
            return True
        self.events[event] += 1
        return False

    def command(self, action: ArrayLike | None) -> NDArray[np.float32]:
        """What the robot is sent in this step.

        Args:
            action: What the policy says, [act]; None if it said nothing, or too late.

        Returns:
            [act] float32.
        """
        target = _finite(action, self._low.shape)
        if target is None:
            self.events["without action" if action is None else "bad action"] += 1
        if target is None or self.stopped:
            target = self._without()
        else:
            self._missed = 0
            self.events["clamped"] += int(((target < self._low) | (target > self._high)).any())
        target = target.clip(self._low, self._high)
        change = target - self.last
        if (np.abs(change) > self._change).any():
            self.events["slewed"] += 1
            target = self.last + change.clip(-self._change, self._change)
        self.last = target
        sent: NDArray[np.float32] = target.copy()
        return sent

    def _without(self) -> NDArray[np.float32]:
        """What to aim at without a usable action."""
        self._missed += 1
        if self._missed == 1:
            self._from = self.last
        done = self._missed - self._hold
        if self.stopped or done > self._decay:
            self.stopped = True
            self.events["stopped"] += 1
            return self._safe
        if done <= 0:
            self.events["held"] += 1
            return self.last
        self.events["decayed"] += 1
        share = np.float32(done / self._decay)
        between: NDArray[np.float32] = (1 - share) * self._from + share * self._safe
        return between


def _finite(values: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Numbers of that shape, all of them finite; None for anything else."""
    try:
        with np.errstate(over="ignore"):
            found = np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError):  # the last of a whole number of 400 digits
        return None
    return found if found.shape == shape and np.isfinite(found).all() else None
