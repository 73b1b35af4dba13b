"""``crl drive``: a bundle drives a simulated robot in real time."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl import seeding
from crl.deploy.faults import Faults, Sensors
from crl.deploy.guard import EVENTS, Guard
from crl.deploy.robots import Robot
from crl.evaluation import read_success
from crl.stream import Env, step_env

MOST_MISSED = 0.001  # share of steps


class Clock:
    """The machine's time in seconds."""

    def now(self) -> float:
        return time.perf_counter()

    def wait_until(self, due: float) -> None:
        time.sleep(max(0.0, due - self.now()))


@dataclass
class Drive:
    """How it went so far, of all robots together.

    Attributes:
        rate_hz: Of the robot that is driven now.
        lags: Of each step, seconds that it began after it was due.
        latencies: Of each step, seconds that policy and guard took.
        simulations: Of each step, seconds that the simulation took, which a real robot does not.
        missed: Steps in which no command was ready in time.
        jittery: Steps that began later than the bundle tolerates.
        events: What guards have counted.
        stopped: Whether a guard has stopped a robot for good.
        within: Whether all commands were finite and within their bounds.
        episodes: Robot, seed, steps, return and success of each episode, the last one cut short.
        commands: Of each episode, [act] each.
        observation, command: The newest ones.
    """

    rate_hz: float = 0.0
    lags: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    simulations: list[float] = field(default_factory=list)
    missed: int = 0
    jittery: int = 0
    events: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(EVENTS, 0)))
    stopped: bool = False
    within: bool = True
    episodes: list[dict[str, Any]] = field(default_factory=list)
    commands: list[list[NDArray[np.float32]]] = field(default_factory=list)
    observation: NDArray[np.float32] | None = None
    command: NDArray[np.float32] | None = None

    def wrong(self) -> list[str]:
        """Which limits were left; none of them if all is well."""
        late = self.missed > MOST_MISSED * len(self.lags)
        return [what for what, is_so in (
            ("the robot was stopped", self.stopped),
            ("a command was not allowed", not self.within),
            ("commands came too late", late)) if is_so]


def drive(robots: Sequence[Robot], seconds: float, *, rate_hz: float | None = None,
          faults: Faults | None = None, seed: int = 0, watch: Callable[[Drive], None] | None = None,
          clock: Clock | None = None) -> Drive:
    """Drives robots, an episode each in turn, until the time is up or a guard stops one.

    A step begins when it is due, counted from the start of its episode, so that delays do not add
    up. A command that is not ready when the next step is due is late: the guard is given none.

    Args:
        robots: At least one.
        seconds: Of driving; resets between episodes are not counted.
        rate_hz: Control steps in a second; None: the bundle's. The simulation goes on by one of its
            own steps in each, faster or slower than real time if this is not its own rate.
        faults: What goes wrong.
        seed: Of the episodes and of the faults.
        watch: Called now and then, between steps.
        clock: The time.

    Raises:
        UserError: A robot does not fit its policy.
        BundleError: A policy could not be computed.
    """
    sensors = Sensors(faults or Faults(), seeding.generator(seed, "drive", "faults"))
    result, turns = Drive(), []
    with contextlib.ExitStack() as open_envs:
        for robot in robots:
            env = robot.make()
            open_envs.callback(env.close)
            turns.append((robot, env, Guard(robot.policy.manifest)))
        driver = _Driver(result, sensors, clock or Clock(), watch)
        open_envs.enter_context(_unhurried())
        for episode, (robot, env, guard) in enumerate(itertools.cycle(turns)):
            rate = result.rate_hz = rate_hz or robot.policy.manifest["rate_hz"]
            seconds -= driver.episode(robot, env, guard, seeding.integer(seed, "evaluate", episode),
                                      max(1, round(seconds * rate)), 1 / rate)
            result.stopped = guard.stopped
            if guard.stopped or seconds < 1 / rate:
                return result
    raise AssertionError("robots take turns for ever")


@contextlib.contextmanager
def _unhurried() -> Iterator[None]:
    """Within it Python does little else than what it is told to, and threads wait less."""
    before = sys.getswitchinterval()
    gc.collect()
    gc.freeze()  # or the collector looks at everything that was imported, for milliseconds
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        gc.unfreeze()


class _Driver:
    def __init__(self, result: Drive, sensors: Sensors, clock: Clock,
                 watch: Callable[[Drive], None] | None) -> None:
        self._result, self._sensors, self._clock, self._watch = result, sensors, clock, watch

    def episode(self, robot: Robot, env: Env, guard: Guard, seed: int, steps: int, period: float
                ) -> float:
        """Drives an episode of at most so many steps; the seconds that it took by plan."""
        result, clock, policy = self._result, self._clock, robot.policy
        obs, _ = env.reset(seed=seed)
        policy.reset()
        self._sensors.reset()
        record: dict[str, Any] = {"robot": robot.task.name, "seed": seed, "steps": 0,
                                  "return": 0.0, "success": False}
        commands: list[NDArray[np.float32]] = []
        result.episodes.append(record)
        result.commands.append(commands)
        start = clock.now()
        for step in range(steps):
            due = start + step * period
            clock.wait_until(due)
            began = clock.now()
            before = guard.events.copy()
            action = None
            if began < due + period:  # else its time is over already
                seen, age = self._sensors.read(np.asarray(obs, np.float32))
                if guard.admits(seen, age * period):
                    action = policy.step(seen)
                if self._sensors.policy_is_slow():
                    clock.wait_until(clock.now() + 2 * period)
            late = clock.now() >= due + period
            command = guard.command(None if late else action)
            done = clock.now()
            obs, reward, terminated, truncated, info = step_env(env, command)
            result.lags.append(began - due)
            result.latencies.append(done - began)
            result.simulations.append(clock.now() - done)
            result.missed += late
            result.jittery += began - due > policy.manifest["jitter_s"]
            result.events.update(guard.events - before)
            result.within &= _within(command, policy.manifest)
            result.observation, result.command = obs, command
            commands.append(command)
            record["steps"] += 1
            record["return"] += float(reward)
            record["success"] |= read_success(info)
            if self._watch:
                self._watch(result)
            if terminated or truncated or guard.at_rest:
                break
        return len(commands) * period


def _within(command: NDArray[np.float32], manifest: dict[str, Any]) -> bool:
    """Whether a command may be sent: what the guard promises, seen without it."""
    return all(np.float32(term["low"]) <= number <= np.float32(term["high"])
               for number, term in zip(command.tolist(), manifest["action"]["terms"], strict=True))
