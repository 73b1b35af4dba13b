"""The arm with hidden dynamics: they change once an episode, they act, and nothing tells them."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crl
from crl.envs.arm_tasks import HIDDEN_ARM_TASKS
from crl.envs.hidden_arm import HiddenArmEnv

CHANGES = sorted(HIDDEN_ARM_TASKS.values())
PUSH = np.array([1.0, 0.5], np.float32)


def episode(env, seed, action=PUSH):
    obs, _ = env.reset(seed=seed)
    seen, dynamics, over = [obs], [], False
    while not over:
        obs, _, _, over, info = env.step(action)
        seen.append(obs)
        dynamics.append(np.array(info["dynamics"]))
    return np.array(seen), dynamics


@pytest.mark.parametrize("changes", CHANGES)
def test_it_is_an_environment(changes):
    check_env(HiddenArmEnv(changes), skip_render_check=True)


@pytest.mark.parametrize("changes", CHANGES)
def test_dynamics_change_at_most_once_in_the_middle_and_differ_between_episodes(changes):
    env, times, values = HiddenArmEnv(changes), set(), set()
    for seed in range(12):
        _, dynamics = episode(env, seed)
        steps = [t for t in range(1, 60) if not np.array_equal(dynamics[t], dynamics[t - 1])]
        assert len(steps) <= 1  # a delay may be drawn twice alike
        assert all(20 <= t <= 40 for t in steps)
        times |= set(steps)
        values |= {str(d) for d in dynamics}
    assert len(times) > 3
    assert len(values) > 3


@pytest.mark.parametrize("changes", CHANGES)
def test_equal_seeds_make_equal_episodes_whatever_came_before(changes):
    fresh, used = HiddenArmEnv(changes), HiddenArmEnv(changes)
    for seed in (5, 6):
        episode(used, seed)
    assert np.array_equal(episode(fresh, 1)[0], episode(used, 1)[0])


def test_gains_turn_the_motors_round():
    """Positive commands move the shoulder by the sign of its gain."""
    env = HiddenArmEnv("gains")
    for seed in range(8):
        env.reset(seed=seed)
        env.data.qvel[:] = 0
        *_, info = env.step(np.array([1.0, 0.0], np.float32))
        assert np.sign(env.data.qvel[0]) == np.sign(info["dynamics"][0])


def test_friction_slows_it_down():
    speeds = {}
    for seed in range(8):
        env = HiddenArmEnv("friction")
        env.reset(seed=seed)
        *_, info = env.step(np.array([1.0, 0.0], np.float32))
        speeds[float(info["dynamics"])] = abs(env.data.qvel[0])
    ordered = [speeds[d] for d in sorted(speeds)]
    assert np.corrcoef(np.arange(8), ordered)[0, 1] < -0.8


def test_a_delayed_command_acts_that_many_steps_later():
    for seed in range(8):
        env = HiddenArmEnv("delay")
        env.reset(seed=seed)
        moved = []
        for _ in range(5):
            env.data.qvel[:] = 0
            before = env.data.qpos.copy()
            *_, info = env.step(PUSH)
            moved.append(not np.allclose(before, env.data.qpos))
        assert moved == [t >= info["dynamics"] for t in range(5)]


def test_the_stream_chains_them():
    stream = crl.make_stream("arm-hidden3")
    assert [t.name for t in stream] == list(HIDDEN_ARM_TASKS)
    assert stream.observation_space.shape == (10,)
