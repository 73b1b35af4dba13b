"""Sliding boxes: geometry by hand, friction by Coulomb's law."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from crl.envs.slide import SlideEnv

TASKS = [0.1, 0.14, 0.2, 0.28, 0.4]
PUSHES = np.random.default_rng(0).uniform([0.3, -0.2], [1, 0.2], (30, 2)).astype(np.float32)
STILL = np.zeros(2, np.float32)


def episode(env, actions=PUSHES, seed=7):
    return np.array([env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)])


def straight_push(env, speed):
    """What is observed at the end, if all stood in line with the goal at the start."""
    env.reset(seed=0)
    for name, x in (("first", -0.13), ("second", 0.06)):
        env.data.joint(name).qpos[:] = x, 0, 0.03, 1, 0, 0, 0
    env.data.joint("x").qpos[0], env.data.joint("y").qpos[0] = -0.2, 0
    return [env.step(np.array([speed, 0], np.float32))[0] for _ in range(40)][-1]


def test_the_observation_is_the_geometry():
    env = SlideEnv(0.12)
    obs = episode(env, PUSHES[:6])[-1]
    expected = []
    for name in ("first", "second"):
        x, y, _, w, i, j, k = env.data.joint(name).qpos
        yaw = np.arctan2(2 * (w * k + i * j), 1 - 2 * (j**2 + k**2))
        velocity = env.data.joint(name).qvel
        assert min(abs(yaw), abs(velocity[0]), abs(velocity[5])) > 0.01
        expected += [x, y, np.cos(yaw), np.sin(yaw), *velocity[:2], velocity[5]]
    expected += [env.data.joint(n).qpos[0] for n in "xy"]
    expected += [env.data.joint(n).qvel[0] for n in "xy"]
    # A struck box tips a little, which this leaves out.
    np.testing.assert_allclose(obs, expected, atol=1e-3)


def test_the_reward_is_the_documented_one_for_numpy_and_torch():
    env = SlideEnv(0.27)
    rewards = []
    for seed in range(10):
        obs, _ = env.reset(seed=seed)
        for action in PUSHES[:20]:
            following, reward, _, _, info = env.step(action)
            d = np.hypot(following[7] - 0.34, following[8])
            assert reward == pytest.approx(1.5 * (1 - np.tanh(5 * d)), abs=1e-5)
            assert info["success"] == (d < 0.05)
            told = env.task_spec.reward(*map(torch.from_numpy, (obs, action, following)))
            assert told.dtype == torch.float32
            assert float(told) == pytest.approx(reward, abs=1e-5)
            obs = following
            rewards.append(reward)
    assert np.ptp(rewards) > 0.5


def test_what_is_imagined_happens():
    env = SlideEnv(0.18)
    episode(env, PUSHES[:2])
    imagined = env.imagine(np.stack((PUSHES[2:], -PUSHES[2:])))
    happened = np.array([env.step(a)[0] for a in PUSHES[2:]])
    np.testing.assert_allclose(imagined[0, 1:], happened, atol=1e-6)
    assert np.abs(imagined[1] - imagined[0]).max() > 0.1


@pytest.mark.parametrize("friction", TASKS)
def test_a_box_slides_as_far_as_coulomb_says(friction):
    env = SlideEnv(friction)
    env.reset(seed=0)
    second = env.data.joint("second")
    second.qvel[0] = 0.8
    before = second.qpos[0]
    for _ in range(30):
        env.step(STILL)
    assert second.qpos[0] - before == pytest.approx(0.8**2 / (2 * friction * 9.81), rel=0.03)
    assert abs(second.qvel[0]) < 1e-3


def test_the_same_push_leads_to_other_places_the_lower_the_friction_the_farther():
    places = [straight_push(SlideEnv(friction), 0.6)[7] for friction in TASKS]
    for farther, nearer in pairwise(places):
        assert farther > nearer + 0.02


def test_only_sliding_friction_matters():
    """Tasks that differ in rolling friction would all be the same one."""
    plain, rolling = SlideEnv(0.18), SlideEnv(0.18)
    rolling.model.geom_friction[:, 2] *= 100
    assert (episode(rolling) == episode(plain)).all()
    sliding = SlideEnv(0.18)
    sliding.model.geom_friction[:, 0] *= 1.01
    assert np.abs(episode(sliding) - episode(plain)).max() > 1e-3


@pytest.mark.parametrize("friction", TASKS)
def test_the_finger_cannot_carry_the_box_to_the_goal(friction):
    obs = straight_push(SlideEnv(friction), 0.15)
    assert obs[14] == pytest.approx(0, abs=0.005)  # as far as it reaches
    assert 0.13 < obs[7] < 0.34 - 0.05 - 0.05
