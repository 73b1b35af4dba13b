"""Whatever a policy says or does not say, what a robot is sent is safe."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crl.deploy.guard import EVENTS, Guard

RATE = 50


def manifest(slew: tuple[float | None, ...] = (None, None), hold: int = 2, decay: int = 4,
             low: tuple[float, ...] = (-1.0, 0.0), high: tuple[float, ...] = (1.0, 5.0),
             safe: tuple[float, ...] = (0.0, 1.0)) -> dict[str, Any]:
    """What a guard looks at of one."""
    return {
        "rate_hz": RATE, "guard": {"stale_s": 0.05, "hold_steps": hold, "decay_steps": decay},
        "observation": {"terms": [{"low": -1.0, "high": 1.0}, {"low": None, "high": None}]},
        "action": {"terms": [
            {"low": a, "high": b, "safe": c, "slew_per_s": d} for a, b, c, d in
            zip(low, high, safe, slew, strict=True)]}}


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)  # of 64 bits, so that some are too large
ACTIONS = st.none() | st.lists(NUMBERS, min_size=2, max_size=2) | st.sampled_from(
    [[], [1.0], [[1.0, 2.0]], "ab", ["a", "b"], [None, 1.0], [0.5, 2.0], 3.0, {}])
SLEWS = st.tuples(*[st.none() | st.floats(0.1, 1000)] * 2)


@settings(max_examples=300, deadline=None)
@given(st.lists(ACTIONS | st.just("reset"), max_size=40), SLEWS, st.integers(0, 3),
       st.integers(0, 5))
def test_commands_are_finite_within_bounds_and_near_the_last_one(actions, slew, hold, decay):
    guard = Guard(manifest(slew, hold, decay))
    last = np.float32([0.0, 1.0])
    change = np.array([np.inf if s is None else s / RATE for s in slew])
    for action in actions:
        if action == "reset":
            guard.reset()
            continue
        was_stopped = guard.stopped
        command = guard.command(action)
        assert command.dtype == np.float32
        assert np.isfinite(command).all()
        assert (command >= np.float32([-1.0, 0.0])).all()
        assert (command <= np.float32([1.0, 5.0])).all()
        assert (np.abs(command - last) <= change * 1.0001 + 1e-6).all()
        if was_stopped:  # the latch holds, whatever comes
            assert guard.stopped
            assert (np.abs(command - [0, 1]) <= np.abs(last - [0, 1]) + 1e-6).all()
        last = command.copy()
        command[:] = np.nan  # the caller's own
    assert set(guard.events) == set(EVENTS)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 4), st.integers(0, 6), st.tuples(st.floats(-1, 1), st.floats(0, 5)))
def test_it_holds_then_decays_then_stops(hold, decay, action):
    guard = Guard(manifest(hold=hold, decay=decay))
    start = guard.command(action)
    commands = [guard.command(None) for _ in range(hold + decay + 3)]
    safe = np.float32([0, 1])
    for command in commands[:hold]:
        assert np.array_equal(command, start)
    for i, command in enumerate(commands[hold:hold + decay], 1):
        assert np.allclose(command, start + (safe - start) * i / decay, atol=1e-6)
    for command in commands[hold + decay:]:
        assert np.array_equal(command, safe)
    assert guard.stopped
    assert guard.at_rest
    assert np.array_equal(guard.command(action), safe)  # too late
    assert [guard.events[e] for e in ("held", "decayed", "stopped")] == [hold, decay, 4]
    guard.reset()
    assert np.allclose(guard.command(action), action)


def test_an_action_in_between_starts_the_count_anew():
    guard = Guard(manifest())
    for _ in range(20):
        for action in ((0.5, 2.0), None, None, None, None, None):
            command = guard.command(action)
            assert not guard.stopped
    assert np.allclose(command, (0.125, 1.25))  # three of four steps to the safe action


def test_a_stopped_robot_comes_to_rest_no_faster_than_it_may():
    guard = Guard(manifest((10.0, None), hold=0, decay=0))
    for _ in range(5):
        guard.command((1.0, 2.0))
    assert guard.last[0] == 1
    way = [float(guard.command(None)[0]) for _ in range(6)]
    assert np.allclose(way, (0.8, 0.6, 0.4, 0.2, 0, 0), atol=1e-6)
    assert guard.at_rest


def test_choices_are_held_and_then_the_safe_one_is_made():
    guard = Guard(manifest(decay=0, low=(0, 0), high=(1, 1), safe=(1, 0)))
    commands = [guard.command(action).tolist() for action in ((0, 1), None, None, None, (0, 1))]
    assert commands == [[0, 1]] * 3 + [[1, 0]] * 2


@pytest.mark.parametrize(("obs", "age", "event"), [
    ((0.0, 0.0), 0.0, None), ((1.0, 1e9), 0.05, None), ((1.05, 0.0), 0.0, None),
    ((1.2, 0.0), 0.0, "out of range"), ((-1.2, 0.0), 0.0, "out of range"),
    ((math.nan, 0.0), 0.0, "not finite"), ((0.0, math.inf), 0.0, "not finite"),
    ((0.0, 1e300), 0.0, "not finite"), ((0.0,), 0.0, "not finite"), (None, 0.0, "not finite"),
    (("a", 0.0), 0.0, "not finite"), ((0.0, 0.0), 0.051, "stale"), ((0.0, 0.0), -1e-3, "stale"),
    ((0.0, 0.0), math.nan, "stale"), ((0.0, 0.0), math.inf, "stale")])
def test_observations(obs, age, event):
    guard = Guard(manifest())
    assert guard.admits(obs, age) == (event is None)
    assert +guard.events == ({event: 1} if event else {})


def test_what_is_clamped_and_slewed_is_counted():
    guard = Guard(manifest((10.0, None)))
    assert np.allclose(guard.command((5.0, 9.0)), (0.2, 5.0))
    assert guard.events["clamped"] == guard.events["slewed"] == 1
    assert np.allclose(guard.command((0.3, 5.0)), (0.3, 5.0))
    assert guard.events["clamped"] == guard.events["slewed"] == 1
