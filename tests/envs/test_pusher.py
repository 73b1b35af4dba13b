"""The pusher: its geometry by hand, its mechanics by what friction and inertia must do."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from crl.envs.pusher import PusherEnv

TASKS = [(500, 500), (100, 500), (500, 100), (500, 250), (250, 500)]
CORNERS = np.array([[0.03, 0.06], [0.03, -0.06], [-0.03, -0.06], [-0.03, 0.06]])
PUSHES = np.random.default_rng(0).uniform([0, -0.3], [1, 0.3], (30, 2)).astype(np.float32)


def put(env, block, yaw, finger):
    env.reset(seed=0)
    env.set_state(np.array([*block, 0.02, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2), *finger]),
                  np.zeros(8))


def episode(env, actions=PUSHES, seed=7):
    return np.array([env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)])


def test_the_observation_is_the_geometry():
    env = PusherEnv((100, 500))
    obs = episode(env)[-1]
    x, y, _, w, i, j, k = env.data.joint("block").qpos
    yaw = np.arctan2(2 * (w * k + i * j), 1 - 2 * (j**2 + k**2))
    assert abs(yaw) > 0.1
    c, s = np.cos(yaw), np.sin(yaw)
    corners = np.array([x, y]) + CORNERS @ np.array([[c, s], [-s, c]])
    np.testing.assert_allclose(obs[:8], corners.ravel(), atol=1e-5)
    np.testing.assert_allclose(obs[8:], env.data.qpos[7:], atol=1e-7)


def test_the_reward_is_the_documented_one_for_numpy_and_torch():
    env = PusherEnv((250, 500))
    obs, _ = env.reset(seed=1)
    goals = CORNERS + np.array([0.15, 0])
    for action in np.random.default_rng(1).uniform([-0.2, -1], 1, (200, 2)).astype(np.float32):
        following, reward, *_ = env.step(action)
        d = np.linalg.norm(following[:8].reshape(4, 2) - goals, axis=1)
        assert reward == pytest.approx((1 - np.tanh(10 * d)).sum()
                                       - 0.05 * np.hypot(*action), abs=1e-5)
        told = env.task_spec.reward(*map(torch.from_numpy, (obs, action, following)))
        assert told.dtype == torch.float32
        assert float(told) == pytest.approx(reward, abs=1e-5)
        obs = following


@pytest.mark.parametrize(("off", "success"), [(0.004, True), (0.006, False)])
def test_success_is_all_corners_within_5_mm(off, success):
    env = PusherEnv((500, 500))
    for way in ((off, 0), (0, -off)):
        put(env, (0.15 + way[0], way[1]), 0, (0, 0))
        assert env.step(np.zeros(2, np.float32))[4]["success"] == success
    put(env, (0.15, 0), off / np.hypot(0.03, 0.06), (0, 0))  # turned, so that corners are off
    assert env.step(np.zeros(2, np.float32))[4]["success"] == success


def test_what_is_imagined_happens():
    env = PusherEnv((500, 250))
    episode(env, PUSHES[:5])
    imagined = env.imagine(np.stack((PUSHES[5:], -PUSHES[5:])))
    happened = np.array([env.step(a)[0] for a in PUSHES[5:]])
    np.testing.assert_allclose(imagined[0, 1:], happened, atol=1e-6)
    assert np.abs(imagined[1] - imagined[0]).max() > 0.1


def test_the_same_actions_move_every_tasks_block_otherwise():
    blocks = []
    for task in TASKS:
        env = PusherEnv(task)
        put(env, (-0.1, 0), 0, (-0.145, 0))
        blocks.append(np.array([env.step(a)[0][:8] for a in PUSHES]))
    for one, other in combinations(blocks, 2):
        assert np.abs(one - other).max() > 0.02


@pytest.mark.parametrize("task", TASKS)
def test_a_push_through_the_middle_lets_the_lighter_half_lead(task):
    env = PusherEnv(task)
    put(env, (-0.1, 0), 0, (-0.145, 0))
    for _ in range(10):
        env.step(np.array([1, 0], np.float32))
    *_, k = env.data.joint("block").qpos
    left, right = task
    if left == right:
        assert abs(k) < 1e-3
    else:
        assert np.sign(k) == np.sign(left - right)  # counter-clockwise if the left one lags
        assert abs(k) > 0.1


@pytest.mark.parametrize("task", TASKS)
def test_a_block_stops_within_a_step(task):
    env = PusherEnv(task)
    put(env, (-0.1, 0), 0, (-0.145, 0))
    moves = np.diff([env.step(np.array([u, 0], np.float32))[0][:8]
                     for u in (1, 1, 1, 1, 1, 1, 0, 0, 0, 0)], axis=0)
    assert np.abs(moves[4]).max() > 0.005
    assert np.abs(moves[-3:]).max() < 2e-4
