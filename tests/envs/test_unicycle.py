"""The unicycle: closed forms, and the loop of the paper's release written once more."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import crl
import crl.envs  # registers the tasks
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.maps import AIR, GROUND
from crl.envs.pilots import drive
from crl.envs.top_view import top_view
from crl.envs.unicycle import UnicycleEnv

NOISE = 3e-4  # what 30 steps of noise may add up to, metres and radians


def run(env, action, steps=30):
    start = env.reset(seed=0)[0].astype(np.float64)
    return start, np.array([env.step(np.array(action, np.float32))[0] for _ in range(steps)])


def drive_through(env):
    obs, _ = env.reset(seed=0)
    rewards, over, info = [], False, {"success": False}
    while not (over or info["success"]):
        obs, reward, _, over, info = env.step(drive(obs))
        rewards.append(reward)
    return rewards, info


@pytest.mark.parametrize("tracking", [False, True])
def test_gymnasiums_checker_is_content(tracking):
    check_env(gymnasium.make("crl/Unicycle-v0", tracking=tracking).unwrapped,
              skip_render_check=True)


@pytest.mark.parametrize(("v", "omega"), [(1, 0.8), (-0.5, 1.5), (0.7, -0.3)])
def test_it_drives_the_arc_that_sums_to_a_dirichlet_kernel(v, omega):
    start, seen = run(UnicycleEnv("eight"), (v, omega))
    n, turn = np.arange(1, 31), omega * 0.2
    chord = v * 0.2 * np.sin(n * turn / 2) / np.sin(turn / 2)
    middle = start[2] + (n - 1) * turn / 2
    np.testing.assert_allclose(seen[:, 0], start[0] + chord * np.cos(middle), atol=NOISE)
    np.testing.assert_allclose(seen[:, 1], start[1] + chord * np.sin(middle), atol=NOISE)
    heading = np.angle(np.exp(1j * (start[2] + n * turn)))
    np.testing.assert_allclose(seen[:, 2], heading, atol=NOISE)


def test_the_noise_is_the_papers():
    _, seen = run(UnicycleEnv("eight"), (0, 0), 900)
    assert np.diff(seen[:, :3], axis=0).std() == pytest.approx(1e-5, rel=0.1)


@pytest.mark.parametrize("slip", [(0, 0), (0.5, 0), (0, 1), (0.4, 0.4)])
def test_a_wheel_that_slips_covers_less_ground(slip):
    env = UnicycleEnv("eight")
    env.slip[:] = slip
    start, seen = run(env, (1, 0.5), 1)
    left, right = (1 - np.array(slip)) * (1 - 0.5 * 0.28, 1 + 0.5 * 0.28)
    np.testing.assert_allclose(seen[0, 2] - start[2], 0.2 * (right - left) / 0.56, atol=6e-5)
    np.testing.assert_allclose(np.hypot(*(seen[0, :2] - start[:2])), 0.2 * (left + right) / 2,
                               atol=6e-5)


@pytest.mark.parametrize(("number", "waypoints", "metres"), [(1, 34, 99.7), (2, 19, 70.1)])
def test_the_maps_are_the_papers_closed(number, waypoints, metres):
    env = UnicycleEnv(f"afm-{number}")
    assert len(env.course.points) == waypoints
    assert env.course.length == pytest.approx(metres, abs=0.05)
    assert (env.course.points[0] == env.course.points[-1]).all()


@pytest.mark.parametrize("name", ["afm-1", "afm-2"])
def test_gains_come_and_go_where_the_papers_loop_has_them(name):
    """From the release: at most one waypoint a step, within 0.5 m; changed if more than 15 % of
    the waypoints are reached, back if more than 80 %."""
    gains = (0.8, 0.6)
    env = DynamicsSchedule(UnicycleEnv(name), [
        Change("gain", g, on=i, start=0.15, stop=0.8, unit="progress")
        for i, g in enumerate(gains)])
    obs, _ = env.reset(seed=1)
    waypoints, reached = GROUND[name], 0
    x, y, theta = obs[:3].astype(np.float64)
    while reached < len(waypoints):
        changed = 0.15 * len(waypoints) < reached <= 0.8 * len(waypoints)
        action = drive(obs)
        v, omega = action * (gains if changed else (1, 1))
        obs, _, _, truncated, info = env.step(action)
        assert not truncated
        assert list(info["dynamics"].values()) == list(gains if changed else (1, 1))
        predicted = (x + v * np.cos(theta) * 0.2, y + v * np.sin(theta) * 0.2)
        np.testing.assert_allclose(obs[:2], predicted, atol=6e-5)
        assert abs(np.angle(np.exp(1j * (obs[2] - theta - omega * 0.2)))) < 6e-5
        x, y, theta = obs[:3].astype(np.float64)
        reached += np.hypot(x - waypoints[reached][0], y - waypoints[reached][1]) < 0.5
        assert info["progress"] == reached / len(waypoints)
        assert info["success"] == info["is_success"] == (reached == len(waypoints))


@pytest.mark.parametrize("name", GROUND)
@pytest.mark.parametrize("tracking", [False, True])
def test_every_course_can_be_driven(name, tracking):
    env = UnicycleEnv(name, tracking=tracking)
    rewards, info = drive_through(env)
    assert info["success"]
    assert info["progress"] == 1
    if tracking:
        assert np.mean(rewards) > 0.55  # 1 − tanh of half a metre
    else:  # metres
        assert sum(rewards) == pytest.approx(env.course.length, abs=0.1)


@pytest.mark.parametrize("tracking", [False, True])
def test_the_reward_of_tensors_and_of_batches_is_the_environments(tracking):
    env = UnicycleEnv("square", tracking=tracking)
    obs, actions, rewards = [env.reset(seed=2)[0]], [], []
    for _ in range(100):
        actions.append(drive(obs[-1]))
        following, reward, *_ = env.step(actions[-1])
        obs.append(following)
        rewards.append(reward)
    arrays = np.array(obs[:-1]), np.array(actions), np.array(obs[1:])
    told = env.task_spec.reward(*map(torch.from_numpy, arrays))
    assert told.dtype == torch.float32
    np.testing.assert_allclose(told.numpy(), rewards, atol=1e-5)
    batched = env.task_spec.reward(*(a.reshape(10, 10, -1) for a in arrays))
    np.testing.assert_allclose(batched.ravel(), rewards, atol=1e-5)


def test_goals_are_seen_from_the_robot():
    env = UnicycleEnv([(0, 0), (3, 0), (3, 4)])
    env.reset(seed=0)
    env._state = np.array([2.8, 0.0, np.pi / 2])
    env.course.begin()
    env.course.advance(np.zeros(2), 0.2)
    obs = env._observe()
    np.testing.assert_allclose(obs[3:], [0, -0.2, 4, -0.2, 4.2], atol=1e-6)
    env.course.advance(np.array([2.8, 0]), 0.2)
    np.testing.assert_allclose(env._observe()[3:], [4, -0.2, 4, -0.2, np.hypot(0.2, 4)], atol=1e-6)
    env.course.advance(np.array([3, 4]), 0.2)  # all is done: the last waypoint goes on being shown
    np.testing.assert_allclose(env._observe()[3:], [4, -0.2, 4, -0.2, 0], atol=1e-6)


def test_a_reference_moves_at_its_pace_and_stops():
    env = UnicycleEnv([(0, 0), (2, 0), (2, 1)], tracking=True, horizon=40)
    seen = run(env, (0, 0), 25)[1]
    there = np.minimum(np.arange(1, 26) * 0.8 * 0.2, 3)
    np.testing.assert_allclose(seen[:, -1], 3 - there, atol=1e-6)
    corner = np.column_stack((np.minimum(there, 2), np.maximum(there - 2, 0)))
    c, s = np.cos(seen[:, 2]), np.sin(seen[:, 2])
    x, y = (corner - seen[:, :2]).T
    np.testing.assert_allclose(seen[:, 3:5], np.column_stack((c * x + s * y, c * y - s * x)),
                               atol=1e-5)


def test_an_episode_depends_on_its_seed_alone_and_ends_in_time():
    env, other = UnicycleEnv("square", horizon=30), UnicycleEnv("square", horizon=30)
    first = run(env, (1, 0.3))[1]
    assert env.step(np.zeros(2))[3]
    other.reset(seed=9)
    assert (run(other, (1, 0.3))[1] == first).all()
    assert env.reset(seed=1)[0][0] != env.reset(seed=2)[0][0]


@pytest.mark.parametrize(("arguments", "message"), [
    ({"map": "eihgt"}, "did you mean 'eight'"), ({"map": [(0, 0)]}, "at least two points"),
    ({"map": [(0, 0, 0), (1, 1, 1)]}, "2 finite numbers"),
    ({"map": [(0, 0), (1, np.nan)]}, "finite"), ({"render_mode": "human"}, "rgb_array")])
def test_what_cannot_be_is_said(arguments, message):
    with pytest.raises(crl.UserError, match=message):
        UnicycleEnv(**arguments)


def test_it_is_drawn_from_above():
    env = UnicycleEnv("eight", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(20):
        env.step(np.array([1, 0.5], np.float32))
    after = env.render()
    assert before.shape == after.shape == (480, 480, 3)
    assert before.dtype == np.uint8
    assert (before != after).any(axis=2).sum() > 100
    assert UnicycleEnv("eight").render() is None


def test_a_top_view_shows_the_map_and_the_ways():
    from matplotlib.figure import Figure

    axis = Figure().add_subplot()
    top_view(axis, AIR["helix"], {"a way": np.ones((5, 3))}, radius=0.3)
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["a way"]
    assert len(axis.patches) == len(AIR["helix"])
