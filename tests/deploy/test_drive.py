"""Driving: when steps begin, what comes of lateness and of faults, and what is said about it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import seal
from rich.console import Console

import crl
from crl.cli import main
from crl.deploy.drive import Clock, Drive, drive
from crl.deploy.faults import Faults, Sensors, parse_faults
from crl.deploy.film import film
from crl.deploy.live import LiveView
from crl.deploy.robots import Robot, find_robots, load_all
from crl.deploy.runtime import BundlePolicy, load
from crl.deploy.summary import histogram, summary
from crl.evaluation import run_episode
from crl.seeding import integer
from crl.stream import make_env

RATE = 20  # the arm's


class FakeClock(Clock):
    """Time passes while somebody waits, and where a test says so."""

    def __init__(self) -> None:
        self.time = 100.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait_until(self, due: float) -> None:
        self.waits.append(due)
        self.time = max(self.time, due)


class Slow(BundlePolicy):
    """A policy that takes so many seconds in each step."""

    def __init__(self, policy: BundlePolicy, clock: FakeClock, seconds: list[float]) -> None:
        self.__dict__.update(policy.__dict__)
        self._clock, self._seconds = clock, iter(seconds)

    def step(self, observation: Any) -> Any:
        self._clock.time += next(self._seconds, 0.0)
        return super().step(observation)


@pytest.fixture
def robot(arm_bundle: Path) -> Robot:
    return find_robots(load_all(arm_bundle), [])[0]


def test_without_faults_it_does_what_an_evaluation_does(robot):
    """The same episodes, to the last bit."""
    clock = FakeClock()
    result = drive([robot], 3.0, clock=clock)
    assert not result.wrong()
    assert [e["steps"] for e in result.episodes] == [30, 30]
    assert sum(result.events.values()) == 0

    class Deployed(crl.Policy):
        spec = crl.PolicySpec("arm", *(np.zeros(n, np.float32) for n in (10, 10, 2, 2)))

        def seed(self, seed):
            robot.policy.reset()

        def step(self, obs, state, first, deterministic=True):
            return robot.policy.step(obs[0])[None], state

    env = make_env(robot.task)
    for number, episode in enumerate(result.episodes):
        expected = run_episode(Deployed(), env, integer(0, "evaluate", number))
        assert (expected.seed, expected.reward_sum) == (episode["seed"], episode["return"])


def test_steps_are_due_at_times_that_delays_do_not_move(robot):
    clock = FakeClock()
    slow = robot._replace(policy=Slow(robot.policy, clock, [0.03] * 10))
    result = drive([slow], 0.5, clock=clock)
    assert np.allclose(np.diff(clock.waits), 1 / RATE)
    assert np.allclose(result.lags, 0)
    assert np.allclose(result.latencies, 0.03)
    assert result.missed == 0


def test_a_late_command_is_held_and_what_was_missed_is_caught_up_with(robot):
    clock = FakeClock()
    slow = robot._replace(policy=Slow(robot.policy, clock, [0, 0, 0.12]))
    result = drive([slow], 0.5, clock=clock)
    assert result.missed == 2  # the slow step, and the one that was over by then
    assert len(result.lags) == 10  # no step is left out
    assert np.allclose(result.lags, [0, 0, 0, 0.07, 0.02, 0, 0, 0, 0, 0], atol=1e-6)
    commands = result.commands[0]
    assert np.array_equal(commands[2], commands[1])
    assert np.array_equal(commands[3], commands[1])
    assert not np.array_equal(commands[4], commands[1])
    assert result.jittery == 2
    assert result.wrong() == ["commands came too late"]


def test_a_policy_that_hangs_stops_the_robot_for_good(robot):
    clock = FakeClock()
    slow = robot._replace(policy=Slow(robot.policy, clock, [0, 10.0]))
    result = drive([slow], 5.0, clock=clock)
    assert result.stopped
    assert result.wrong()[0] == "the robot was stopped"
    assert len(result.lags) == 1 + 2 + 4 + 1  # one good; held, decayed, stopped
    assert np.array_equal(result.commands[0][-1], [0, 0])
    assert result.within


@pytest.mark.parametrize("faults", [
    Faults(noise=10), Faults(nan=0.5), Faults(drop=0.5), Faults(delay=2), Faults(slow=0.2),
    Faults(noise=1, nan=0.2, drop=0.2, delay=1, slow=0.1)])
def test_whatever_goes_wrong_commands_are_safe(faults, robot):
    for seed in range(2):
        result = drive([robot], 8.0, faults=faults, seed=seed, clock=FakeClock())
        assert result.within
        for command in (c for episode in result.commands for c in episode):
            assert np.isfinite(command).all()
            assert (np.abs(command) <= 1).all()
        if result.stopped:
            assert np.array_equal(result.command, [0, 0])
    again = drive([robot], 8.0, faults=faults, seed=seed, clock=FakeClock())
    assert summary(again, faults) == summary(result, faults)  # and it can be done again


def test_faults_happen_as_often_as_they_should():
    def shares(faults: Faults) -> tuple[float, float, float, float]:
        sensors = Sensors(faults, np.random.default_rng(0))
        read = [sensors.read(np.full(4, float(t))) for t in range(4000)]
        seen = [(obs, age) for obs, age in read if age < math.inf]
        nans = np.mean([np.isnan(obs).any() for obs, _ in seen])
        noise = np.nanstd([obs - (t - age) for t, (obs, age) in enumerate(read) if age < math.inf])
        return (float(np.mean([age for _, age in seen])), float(nans), float(noise),
                float(np.mean([sensors.policy_is_slow() for _ in range(4000)])))

    assert shares(Faults()) == (0, 0, 0, 0)
    assert shares(Faults(delay=2))[0] == 2
    assert np.allclose(shares(Faults(drop=0.25))[0], 0.25 / 0.75, atol=0.05)  # geometric
    assert np.allclose(shares(Faults(nan=0.1))[1], 0.1, atol=0.02)
    assert np.allclose(shares(Faults(noise=0.5))[2], 0.5, atol=0.02)
    assert np.allclose(shares(Faults(slow=0.1))[3], 0.1, atol=0.02)


def test_several_robots_take_turns_with_their_own_policies(arm_bundle, tmp_path):
    for task in ("arm-plain", "arm-swapped"):
        shutil.copytree(arm_bundle, tmp_path / task)
        manifest = json.loads((arm_bundle / "manifest.json").read_text()) | {"task": task}
        manifest["simulation"] = {"name": "arm-plain,arm-swapped", "horizon": 10}
        seal(tmp_path / task, manifest)
    policies = load_all(tmp_path)
    result = drive(find_robots(policies, []), 2.0, clock=FakeClock())
    assert [e["robot"] for e in result.episodes] == ["arm-plain", "arm-swapped"] * 2
    assert [r.task.name for r in find_robots(policies, ["arm-swapped"])] == ["arm-swapped"]
    with pytest.raises(crl.UserError, match="there is no policy for 'push-v3'"):
        find_robots(policies, ["push-v3"])


def test_a_robot_that_does_not_fit_is_refused(robot, arm_bundle, sac_bundle):
    for name, hint in (("car-1.0", "has 4 terms of observation"), ("quick3", "is 3 tasks"),
                       ("arm", "unknown stream or task")):
        with pytest.raises(crl.UserError, match=hint):
            drive(find_robots(load_all(arm_bundle), [name]), 1.0, clock=FakeClock())
    with pytest.raises(crl.UserError, match="made in code"):
        find_robots(load_all(sac_bundle), [])
    other = load(arm_bundle)
    other.manifest["observation"]["terms"][0]["name"] = "elbow.cos"
    with pytest.raises(crl.UserError, match=r"shoulder\.cos"):
        robot._replace(policy=other).make()
    other = load(arm_bundle)
    other.manifest["action"]["terms"][0]["high"] = 2
    with pytest.raises(crl.UserError, match="actions within"):
        robot._replace(policy=other).make()
    assert find_robots(load_all(arm_bundle), ["arm-swapped"])[0].make()  # another one that does


def test_a_film_shows_what_was_driven(robot, tmp_path, monkeypatch):
    """A frame of every step, and of every reset."""
    imageio = pytest.importorskip("imageio.v2")
    frames: list[Any] = []

    class Writer:
        append_data = frames.append

        def close(self):
            pass

    monkeypatch.setattr(imageio, "get_writer", lambda path, **options: Writer())
    result = drive([robot], 2.2, faults=Faults(noise=0.1), clock=FakeClock())
    film(result, robot, 0, tmp_path / "film.mp4")
    assert [e["steps"] for e in result.episodes] == [30, 14]
    assert len(frames) == 44 + 2


def test_the_clock_is_the_machines():
    clock = Clock()
    due = clock.now() + 0.01
    clock.wait_until(due)
    assert clock.now() >= due
    clock.wait_until(due)  # is over already


def test_histograms_count_all():
    counts = histogram([0.0, 4e-5, 6e-5, 1e-3, 1.0])
    assert counts == [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize(("typed", "hint"), [
    ("drop", "name=value"), ("rain=1", "unknown fault 'rain'"), ("drop=2", "from 0 to 1"),
    ("delay=-1", "must not be negative"), ("delay=0.5", "a whole number"),
    ("nan=nan", "a finite number"), ("noise=a", "a finite number")])
def test_faults_that_are_typed_wrong(typed, hint):
    with pytest.raises(crl.UserError, match=hint):
        parse_faults([typed])
    assert parse_faults(["drop=0.1", "delay=2"]) == Faults(drop=0.1, delay=2)


# ---- the command line ----


def command(*words: str) -> int:
    with pytest.raises(SystemExit) as ending:
        main(["drive", *words])
    return int(ending.value.code or 0)


def test_it_drives_in_real_time_and_says_how_it_went(arm_bundle, capsys, monkeypatch):
    monkeypatch.setattr("crl.deploy.drive.MOST_MISSED", 1.0)  # other processes are not under test
    assert command(str(arm_bundle), "--seconds", "0.5") == 0
    out = capsys.readouterr().out
    for words in ("began late", "policy and guard", "arm-plain", "10 at 20 Hz", "in limits  yes"):
        assert words in out
    assert command(str(arm_bundle), "--seconds", "0.5", "--json", "--fault", "nan=1") == 1
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "crl-drive/1"
    assert not said["stayed_in_limits"]
    assert said["wrong"] == ["the robot was stopped"]
    assert said["events"]["not finite"] == said["steps"] == 2 + 4 + 1
    assert said["faults"]["nan"] == 1


def test_it_takes_as_long_as_it_should(robot):
    clock = Clock()
    start = clock.now()
    result = drive([robot], 0.4, rate_hz=100)
    assert clock.now() - start >= 0.39
    assert len(result.lags) == 40


@pytest.mark.parametrize(("words", "hint"), [
    (["missing"], "is no bundle"), (["ARM", "--robot", "push-v3"], "has 39 terms"),
    (["ARM", "--seconds", "0"], "above 0"), (["ARM", "--fault", "x"], "--fault takes"),
    (["ARM", "--rate", "-1"], "above 0"), (["ARM", "--video", "film.gif"], "mp4")])
def test_what_is_typed_wrong(words, hint, arm_bundle, capsys):
    words = [str(arm_bundle) if word == "ARM" else word for word in words]
    assert command(*words, *([] if "--seconds" in words else ["--seconds", "0.1"])) == 2
    error = capsys.readouterr().err
    assert hint in error
    assert len(error.splitlines()) == 1


def test_a_damaged_bundle_is_a_users_error(arm_bundle, tmp_path, capsys):
    shutil.copytree(arm_bundle, tmp_path / "bundle")
    with open(tmp_path / "bundle" / "policy.onnx", "ab") as file:
        file.write(b"x")
    assert command(str(tmp_path / "bundle")) == 2
    assert "policy.onnx is larger than" in capsys.readouterr().err


def test_the_live_view_draws(robot):
    console = Console(record=True, width=160, force_terminal=True)
    view = LiveView({robot.task.name: robot.policy.manifest}, 0.5, console)
    assert "being made" in str(view._draw())
    watched: list[Drive] = []
    drive([robot], 0.5, clock=FakeClock(), watch=watched.append)
    view._see(replace(watched[-1]))
    console.print(view._draw())
    text = console.export_text()
    for words in ("arm-plain", "shoulder.cos", "→ motor.1", "9 N m", "missed 0", "20 Hz"):
        assert words in text
