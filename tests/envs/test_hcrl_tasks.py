"""What is true of every task that planners are told all about, and what two of the robots are."""

from __future__ import annotations

from itertools import combinations, groupby

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import crl
import crl.envs  # registers the tasks
from crl.envs.car import linear_system
from crl.envs.hcrl_tasks import HCRL_STREAMS, HCRL_TASKS
from crl.envs.sensed import SensedEnv

ROBOTS = {robot: list(names)
          for robot, names in groupby(HCRL_TASKS, lambda name: name.split("-")[0])}


def make(name, **options) -> SensedEnv:
    return gymnasium.make(f"crl/{name}", **options).unwrapped


def actions_for(env, steps, seed=0):
    space = env.action_space
    drawn = np.random.default_rng(seed).uniform(space.low, space.high, (steps, *space.shape))
    return drawn.astype(np.float32)


def episode(env, actions, seed=3):
    return np.array([env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)])


@pytest.mark.parametrize("robot", ROBOTS)
def test_gymnasiums_checker_is_content(robot):
    check_env(make(ROBOTS[robot][-1]), skip_render_check=True)


@pytest.mark.parametrize("name", HCRL_TASKS)
def test_the_reward_of_tensors_and_of_batches_is_the_environments(name):
    env = make(name)
    obs = [env.reset(seed=1)[0]]
    actions = actions_for(env, 200)
    rewards = []
    for action in actions:
        following, reward, terminated, _, _ = env.step(action)
        assert not terminated
        obs.append(following)
        rewards.append(reward)
    before, after = np.array(obs[:-1]), np.array(obs[1:])
    for told in (env.task_spec.reward(*map(torch.from_numpy, (before, actions, after))).numpy(),
                 env.task_spec.reward(before.reshape(10, 20, -1), actions.reshape(10, 20, -1),
                                      after.reshape(10, 20, -1)).reshape(-1)):
        np.testing.assert_allclose(told, rewards, atol=1e-5)
    assert np.std(rewards) > 1e-4


@pytest.mark.parametrize("name", HCRL_TASKS)
def test_what_is_imagined_happens_and_imagining_changes_nothing(name):
    env = make(name)
    actions = actions_for(env, 25)
    episode(env, actions[:5])
    state = env.data.qpos.copy(), env.data.qvel.copy()
    imagined = env.imagine(np.stack((actions[5:], -actions[5:])))
    assert (env.data.qpos == state[0]).all()
    assert (env.data.qvel == state[1]).all()
    happened = np.array([env.step(a)[0] for a in actions[5:]])
    np.testing.assert_allclose(imagined[0, 1:], happened, atol=1e-4)


@pytest.mark.parametrize("name", HCRL_TASKS)
def test_an_episode_depends_on_its_seed_alone(name):
    env = make(name)
    actions = actions_for(env, 20)
    first = episode(env, actions)
    assert (episode(env, actions, seed=4) != first).any(axis=1).all()
    assert (episode(env, actions) == first).all()
    assert (episode(make(name), actions) == first).all()


@pytest.mark.parametrize("robot", ["cartpole", "car"])  # the others' tests have contacts as well
def test_the_same_actions_lead_elsewhere_in_every_task(robot):
    ways = [episode(env, actions_for(env, 20)) for env in map(make, ROBOTS[robot])]
    for one, other in combinations(ways, 2):
        assert np.abs(one - other).max() > 0.01


@pytest.mark.parametrize("name", HCRL_STREAMS)
def test_a_streams_tasks_have_the_robots_spaces_and_end_by_time(name):
    stream = crl.make_stream(name)
    env = stream[0].make()
    env.reset(seed=0)
    steps = 0
    truncated = False
    while not truncated:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        steps += 1
        assert not terminated
        assert "success" in info
    assert steps == env.unwrapped.horizon


@pytest.mark.parametrize("length", [0.4, 1.3])
def test_a_pole_is_rewarded_by_where_its_tip_is(length):
    env = make(f"cartpole-{length}")
    env.reset(seed=0)
    x, angle = 0.3, 0.5
    env.set_state(np.array([x, angle]), np.zeros(2))
    tip = env.data.site("tip").xpos
    np.testing.assert_allclose(tip[[0, 2]], [x + length * np.sin(angle), length * np.cos(angle)],
                               atol=1e-9)
    squared = tip[0] ** 2 + (tip[2] - length) ** 2
    obs = np.float32([x, angle, 0, 0])
    reward = env.task_spec.reward(obs, np.float32([0.5]), obs)
    assert reward == pytest.approx(np.exp(-squared / length**2) - 0.01 * 0.25, abs=1e-6)
    assert env.succeeded(np.float32([0, 0, 0, 0]))
    assert not env.succeeded(np.float32([0.21 * length, 0, 0, 0]))


def test_a_free_pole_swings_at_the_frequency_of_a_rod_on_a_cart():
    """Small swings of a rod (m, L) that hangs from a free cart (M): Lagrange's equations give
    ω² = 3 g (M + m) / (2 L (M + m) − 1.5 L m). Its ends are round, which 2 % allow for."""
    length = 0.6
    env = make(f"cartpole-{length}", horizon=10_000)
    env.reset(seed=0)
    env.set_state(np.array([0, np.pi + 0.02]), np.zeros(2))
    env.model.dof_damping[:] = 0
    env.model.dof_frictionloss[:] = 0
    m = 0.2 * length
    cart = env.model.body_mass.sum() - m
    omega = np.sqrt(3 * 9.81 * (cart + m) / (2 * length * (cart + m) - 1.5 * length * m))
    angle = np.array([env.step(np.zeros(1, np.float32))[0][1] for _ in range(500)]) - np.pi
    crossings = np.flatnonzero((angle[:-1] < 0) & (angle[1:] >= 0))
    period = (crossings[-1] - crossings[0]) * env.dt / (len(crossings) - 1)
    assert period == pytest.approx(2 * np.pi / omega, rel=0.02)


@pytest.mark.parametrize("friction", [0.0, 1.5])
def test_a_car_is_the_linear_system_that_it_says(friction):
    env = make(f"car-{friction}")
    a, b = linear_system(friction)
    state, _ = env.reset(seed=5)
    for action in actions_for(env, 30):
        state = a @ state + b @ action
        np.testing.assert_allclose(env.step(action)[0], state, atol=1e-5)
