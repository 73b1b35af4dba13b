"""What is hidden is hidden: observations do not change with it."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box

import crl

SIZES = {"push-v3": 21, "arm-plain": 8, "Pendulum-v1": 2, "CartPole-v1": 2, "HalfCheetah-v5": 8,
         "Ant-v5": 91, "Humanoid-v5": 247, "Reacher-v5": 8, "InvertedDoublePendulum-v5": 6,
         "Pusher-v5": 16, "Swimmer-v5": 3}


def make(task, **options):
    stream = crl.make_stream(task, **options)
    return stream.make(stream[0])


@pytest.mark.parametrize("task", sorted(SIZES))
def test_velocities_are_hidden_and_nothing_else(task):
    whole, env = make(task), make(task, hide_velocities=True)
    assert env.observation_space.shape == (SIZES[task],)
    obs, seen = whole.reset(seed=3)[0], env.reset(seed=3)[0]
    for _ in range(3):
        action = env.action_space.sample()
        assert np.isin(seen, np.float32(obs)).all()
        obs, seen = whole.step(action)[0], env.step(action)[0]
        assert seen.dtype == np.float32


@pytest.mark.parametrize("shown", [1, 3])
def test_a_goal_is_shown_at_the_start_only(shown):
    whole = make("reach-v3")
    env = make("reach-v3", partially_observable=True, goal_shown=shown)
    for _ in range(2):  # in every episode
        obs, seen = whole.reset(seed=3)[0], env.reset(seed=3)[0]
        for t in range(6):
            assert env.observation_space.contains(seen)
            assert np.array_equal(seen[:-3], obs[:-3])
            assert np.array_equal(seen[-3:], obs[-3:] if t < shown else np.zeros(3))
            assert np.abs(obs[-3:]).sum() > 0
            action = env.action_space.sample()
            obs, seen = whole.step(action)[0], env.step(action)[0]
    both = make("reach-v3", partially_observable=True, goal_shown=1, hide_velocities=True)
    assert both.reset(seed=3)[0].shape == (21,)


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "Humanoid-v5", "Reacher-v5", "arm-plain",
                                  "InvertedDoublePendulum-v5", "Swimmer-v5"])
def test_a_robot_looks_the_same_whatever_its_speed(task):
    env = make(task, hide_velocities=True)
    env.reset(seed=0)
    inner, seen = env.unwrapped, []
    for speed in (0.0, 1.0):
        velocity = np.full(inner.model.nv, speed)
        inner.set_state(inner.data.qpos.copy(), velocity)
        obs = inner._observe() if hasattr(inner, "_observe") else inner._get_obs()
        seen.append((env.observation(obs), obs))
    (hidden_still, still), (hidden_moving, moving) = seen
    assert np.allclose(hidden_still, hidden_moving, atol=1e-6)
    assert not np.allclose(still, moving)  # control: without the wrapper it shows


@pytest.mark.parametrize(("task", "still", "moving"), [
    ("Pendulum-v1", [1.0, 0.0], [1.0, 5.0]),
    ("CartPole-v1", [0.1, 0.0, 0.2, 0.0], [0.1, 1.0, 0.2, -2.0])])
def test_classic_control_too(task, still, moving):
    env, seen = make(task, hide_velocities=True), []
    env.reset(seed=0)
    for state in (still, moving):
        env.unwrapped.state = np.array(state)
        obs = env.unwrapped._get_obs() if task == "Pendulum-v1" else np.array(state)
        seen.append(env.observation(obs))
    assert np.allclose(*seen)


def test_what_is_not_known_is_refused():
    with pytest.raises(crl.UserError, match="hide_velocities does not know"):
        make("memory-length-5", hide_velocities=True)


def test_rewards_are_observed_one_step_later():
    env = make("Pendulum-v1", observe_reward=True)
    assert isinstance(env.observation_space, Box)
    assert env.observation_space.shape == (4,)
    assert env.reset(seed=0)[0][3] == 0
    obs, reward, *_ = env.step(np.array([1.0], np.float32))
    assert obs[3] == np.float32(reward)
    assert env.reset(seed=0)[0][3] == 0


def test_frames_are_stacked_oldest_first():
    plain, env = make("Pendulum-v1"), make("Pendulum-v1", frame_stack=3)
    frames = [plain.reset(seed=0)[0]] * 3
    assert np.array_equal(env.reset(seed=0)[0], np.concatenate(frames))
    for value in (1.0, -2.0):
        action = np.array([value], np.float32)
        frames = [*frames[1:], plain.step(action)[0]]
        assert np.array_equal(env.step(action)[0], np.concatenate(frames))


def test_protocols_say_what_is_shown():
    protocols = {crl.make_stream("Pendulum-v1", **options).protocol for options in (
        {}, {"hide_velocities": True}, {"observe_reward": True}, {"frame_stack": 2},
        {"frame_stack": 4}, {"frame_stack": 4, "hide_velocities": True})}
    assert len(protocols) == 6
