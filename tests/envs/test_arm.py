"""The two-link arm: its geometry and wiring by hand, its contract by Gymnasium's checker."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crl
import crl.envs
from crl.envs.arm import ArmEnv
from crl.envs.arm_tasks import ARM_TASKS

TASKS = list(ARM_TASKS)


def make(task: str = "arm-plain", **options) -> ArmEnv:
    return ArmEnv(*ARM_TASKS[task], **options)


@pytest.mark.parametrize("task", TASKS)
def test_gymnasiums_checker_is_content(task):
    check_env(gymnasium.make(f"crl/{task}").unwrapped, skip_render_check=True)


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_depends_on_its_seed_alone(task):
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype(np.float32)

    def episode(env):
        steps = [env.reset(seed=7)[0], *(env.step(a)[0] for a in actions)]
        return np.array(steps)

    env = make(task)
    first = episode(env)
    env.reset(seed=8)
    for a in actions[:5]:
        env.step(a)
    assert (episode(env) == first).all()
    assert (episode(make(task)) == first).all()
    assert not np.array_equal(env.reset(seed=9)[0], first[0])


def test_the_observation_is_the_geometry():
    env = make()
    obs, _ = env.reset(seed=1)
    for _ in range(10):
        obs, reward, terminated, _, info = env.step(np.array([0.5, -0.8], np.float32))
    shoulder, elbow = env.data.qpos
    np.testing.assert_allclose(obs[:4], [np.cos(shoulder), np.cos(elbow), np.sin(shoulder),
                                         np.sin(elbow)], atol=1e-6)
    np.testing.assert_allclose(obs[4:6], env.data.qvel / 10, atol=1e-6)
    tip = 0.5 * np.array([np.cos(shoulder) + np.cos(shoulder + elbow),
                          np.sin(shoulder) + np.sin(shoulder + elbow)])
    np.testing.assert_allclose(obs[8:], obs[6:8] - tip, atol=1e-6)
    distance = np.linalg.norm(obs[8:])
    assert reward == pytest.approx((distance < 0.1) - distance, abs=1e-6)
    assert info["success"] == (distance < 0.1)
    assert not terminated


@pytest.mark.parametrize("task", TASKS)
def test_goals_lie_in_the_tasks_sector_within_reach(task):
    env, (low, high) = make(task), ARM_TASKS[task].goal_angles
    goals = np.array([env.reset(seed=s)[0][6:8] for s in range(200)])
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    middle = (low + high) / 2
    assert np.abs((angles - middle + math.pi) % (2 * math.pi) - math.pi).max() <= (high - low) / 2
    assert (np.linalg.norm(goals, axis=1) < 1).all()


@pytest.mark.parametrize(("task", "action", "moves"), [
    ("arm-plain", (1, 0), (1, 0)), ("arm-plain", (0, 1), (0, 1)),
    ("arm-mirrored", (1, 0), (-1, 0)), ("arm-mirrored", (0, 1), (0, -1)),
    ("arm-swapped", (1, 0), (0, 1)), ("arm-swapped", (0, 1), (1, 0)),
    ("arm-crossed", (1, 0), (0, 1)), ("arm-crossed", (0, 1), (-1, 0)),
])
def test_each_action_drives_the_motor_that_the_task_wires_it_to(task, action, moves):
    env = make(task)
    env.reset(seed=0)
    env.step(np.array(action, np.float32))
    np.testing.assert_array_equal(env.data.ctrl, moves)


def test_the_tip_can_be_brought_to_every_goal():
    """A controller of the joint angles that inverse kinematics asks for, as no agent knows them."""
    successes = 0
    for seed in range(20):
        env = make()
        obs, _ = env.reset(seed=seed)
        reach = np.hypot(*obs[6:8])
        elbow = math.acos(np.clip(2 * reach**2 - 1, -1, 1))
        shoulder = math.atan2(obs[7], obs[6]) - elbow / 2
        for _ in range(40):
            wanted = np.array([shoulder, elbow]) - env.data.qpos
            wanted[0] = (wanted[0] + math.pi) % (2 * math.pi) - math.pi
            *_, truncated, info = env.step(np.clip(3 * wanted, -1, 1).astype(np.float32))
        assert truncated
        successes += info["success"]
    assert successes >= 19


def test_the_horizon_can_be_set_and_the_goal_is_always_visible():
    assert crl.make_stream("arm4", horizon=7)[0].make().horizon == 7
    with pytest.raises(crl.UserError, match="works on Meta-World tasks, not on 'arm-plain'"):
        crl.make_stream("arm4", partially_observable=True)
