"""A network is taught what a slow policy decides; the car is linear, so that all is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import crl
from crl.agent import Policy
from crl.agents.distilled import DistillConfig, distill
from crl.envs.car import linear_system

STREAM = crl.make_stream("car-1.0")
CAR = STREAM[0]
GAIN = np.float32([[-1.5, 0, -1.2, 0], [0, -1.5, 0, -1.2]])  # pulls back and brakes
QUICK = DistillConfig(steps=1_200, rounds=3, updates=600, hidden=(32, 32), episodes=3)


class Slow(Policy):
    """A linear controller that counts, in its state, and notes what it was asked."""

    def __init__(self) -> None:
        self.spec = crl.make_agent("mpc", STREAM).policy(CAR).spec
        self.spec = type(self.spec)(**{**vars(self.spec), "state_shapes": ((1,),)})
        self.asked: list[tuple[np.ndarray, bool, float]] = []

    def seed(self, seed: int) -> None: ...

    def step(self, obs: Any, state: Any, first: Any, deterministic: bool = True) -> Any:
        count = np.where(first[:, None], 0, state[0]) + 1
        self.asked.append((obs[0].copy(), bool(first[0]), float(count[0, 0])))
        return self.decide(obs), (count,)

    def decide(self, obs: Any) -> Any:
        return np.clip(obs @ GAIN.T, self.spec.action_low, self.spec.action_high)


@pytest.fixture(scope="module")
def taught() -> Any:
    teacher, seen = Slow(), []
    result = distill(teacher, CAR, QUICK, seed=3, watch=lambda *now: seen.append(now))
    assert seen[-1] == (1_200, 1_200)
    return teacher, result


def test_it_decides_as_it_was_taught(taught: Any) -> None:
    teacher, result = taught
    obs = np.array([row for row, *_ in teacher.asked[:1_200]])
    wanted = teacher.decide(obs)
    learned = result.policy.step(obs, (), np.zeros(len(obs), bool))[0]
    half = (teacher.spec.action_high - teacher.spec.action_low) / 2
    usual = ((wanted - wanted.mean(0)) / half).std()
    assert np.sqrt((((learned - wanted) / half) ** 2).mean()) < 0.1 * usual
    shuffled = wanted[np.random.default_rng(0).permutation(len(wanted))]
    assert np.sqrt((((learned - shuffled) / half) ** 2).mean()) > usual  # control


def test_it_earns_what_its_teacher_earns(taught: Any) -> None:
    teacher, result = taught
    untrained = crl.make_agent("sac", STREAM, hidden=(8,)).policy(CAR)
    worst, mine, best = (np.mean([e.reward_sum for e in crl.evaluate(policy, CAR, 20, seed=11)])
                         for policy in (untrained, result.policy, teacher))
    assert worst < best
    assert best - mine < 0.1 * (best - worst)
    assert best - 0.1 * (best - worst) < result.learned < result.taught < 0


def test_the_teacher_drives_first_and_then_the_network(taught: Any) -> None:
    """The actions that were sent, from the states that they led to."""
    teacher, _ = taught
    a, b = linear_system(1.0)
    asked = teacher.asked[:1_200]
    off = []
    for (obs, _, _), (following, begins, _) in pairwise(asked):
        sent = np.linalg.pinv(b) @ (following - a @ obs)
        off.append(np.nan if begins else np.abs(sent - teacher.decide(obs)).max())
    assert np.nanmax(off[:399]) < 1e-3
    assert np.nanmean(off[400:]) > 1e-2


def test_what_the_teacher_remembers_goes_on_within_an_episode_alone(taught: Any) -> None:
    count = 0.0
    for _, begins, found in taught[0].asked[:1_200]:
        count = 1 if begins else count + 1
        assert found == count


def test_it_is_the_same_again_for_the_same_seed(taught: Any) -> None:
    short = DistillConfig(steps=60, rounds=2, updates=20, hidden=(8,), episodes=1)
    obs = np.ones((1, 4), np.float32)
    actions = [distill(Slow(), CAR, short, seed=s).policy.step(obs, (), np.array([True]))[0]
               for s in (0, 0, 1)]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])


def test_samples_are_the_mode_since_nobody_taught_it_to_explore(taught: Any) -> None:
    obs, first = np.ones((50, 4), np.float32), np.ones(50, bool)
    policy = taught[1].policy
    assert np.allclose(policy.step(obs, (), first, False)[0], policy.step(obs, (), first)[0],
                       atol=1e-2)


def test_what_cannot_be_distilled_is_refused() -> None:
    with pytest.raises(crl.UserError, match="does not say its reward"):
        distill(Slow(), crl.make_stream("Pendulum-v1")[0])
    with pytest.raises(crl.UserError, match="4 or more"):
        DistillConfig(steps=3)
    memory = crl.make_stream("t-maze-10")
    choices = crl.make_agent("recurrent-ppo", memory, hidden=(8,)).policy(memory[0])
    with pytest.raises(crl.UserError, match="are choices"):
        distill(choices, memory[0])
