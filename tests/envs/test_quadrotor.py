"""The quadrotor: statics and dynamics that are known on paper."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import crl
import crl.envs  # registers the tasks
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.maps import AIR
from crl.envs.pilots import fly
from crl.envs.quadrotor import QuadrotorEnv

MASS, GRAVITY, HOVER = 0.5, 9.81, np.zeros(4, np.float32)
INERTIA = np.array([0.0032, 0.0032, 0.0055])


def level(env, height=50.0):
    """A reset to exactly level, at rest, high above the ground."""
    env.reset(seed=0)
    inner = env.unwrapped
    inner.set_state(np.array([0, 0, height, 1, 0, 0, 0]), np.zeros(6))
    return env


@pytest.mark.parametrize("tracking", [False, True])
def test_gymnasiums_checker_is_content(tracking):
    check_env(gymnasium.make("crl/Quadrotor-v0", tracking=tracking).unwrapped,
              skip_render_check=True)


def test_the_thrust_of_its_weight_holds_its_height():
    env = level(QuadrotorEnv())
    for _ in range(200):  # 4 s
        obs = env.step(HOVER)[0]
    np.testing.assert_allclose(obs[:3], (0, 0, 50), atol=1e-4)
    np.testing.assert_allclose(env.data.ctrl, MASS * GRAVITY / 4, rtol=1e-6)


@pytest.mark.parametrize(("thrust", "acceleration"), [(-1, -9.81), (-0.5, -9.81 / 2), (1, 9.81)])
def test_it_falls_and_climbs_freely_where_there_is_no_air(thrust, acceleration):
    env = level(QuadrotorEnv())
    env.model.opt.density = 0
    heights = np.array([env.step(np.float32([thrust, 0, 0, 0]))[0][2] for _ in range(50)])
    time = 0.02 * np.arange(1, 51)
    np.testing.assert_allclose(heights, 50 + acceleration * time**2 / 2, atol=2e-5)


@pytest.mark.parametrize(("axis", "unit", "within"), [(1, 4, 0.12), (2, 4, 0.12), (3, 1.5, 0.5)])
def test_its_body_turns_as_fast_as_asked_and_about_that_axis_alone(axis, unit, within):
    env = level(QuadrotorEnv())
    action = HOVER.copy()
    action[axis] = 0.25
    for _ in range(round(within / 0.02)):
        obs = env.step(action)[0]
    rates = np.zeros(3)
    rates[axis - 1] = 0.25 * unit
    np.testing.assert_allclose(obs[12:15], rates, atol=0.06 * 0.25 * unit)


def test_a_motor_pushes_no_more_than_it_can_and_never_pulls():
    env = level(QuadrotorEnv())
    thrusts = []
    for action in ([1, 1, 1, 1], [-1, 1, 1, 1]):
        env.step(np.float32(action))
        thrusts.append(env.data.actuator_force.copy())
    assert np.min(thrusts) == 0
    assert np.max(thrusts) == pytest.approx(2.75)


def test_the_observation_is_the_geometry():
    env = QuadrotorEnv("square")
    env.reset(seed=0)
    for _ in range(30):
        obs = env.step(np.float32([0.1, 0.1, 0.15, 0.3]))[0]
    rotation = env.data.body("base").xmat.reshape(3, 3)
    assert abs(rotation - np.eye(3)).max() > 0.1
    position = env.data.joint("base").qpos[:3]
    np.testing.assert_allclose(obs[:3], position, atol=1e-6)
    np.testing.assert_allclose(obs[3:9], np.append(rotation[:, 0], rotation[:, 2]), atol=1e-6)
    velocity = env.data.joint("base").qvel
    np.testing.assert_allclose(obs[9:12], velocity[:3] @ rotation, atol=1e-6)
    np.testing.assert_allclose(obs[12:15], velocity[3:], atol=1e-6)
    goals = env.course.ahead() - position
    np.testing.assert_allclose(obs[15:21], (goals @ rotation).ravel(), atol=1e-5)
    assert obs.shape == (22,)


@pytest.mark.parametrize("name", AIR)
@pytest.mark.parametrize("tracking", [False, True])
def test_every_course_can_be_flown_and_rewards_are_those_of_the_specification(name, tracking):
    env = QuadrotorEnv(name, tracking=tracking)
    obs, actions, rewards, over = [env.reset(seed=0)[0]], [], [], False
    info = {"success": False}
    while not (over or info["success"]):
        actions.append(fly(obs[-1]))
        following, reward, terminated, over, info = env.step(actions[-1])
        assert not terminated
        obs.append(following)
        rewards.append(reward)
    assert info["success"]
    assert info["progress"] == 1
    arrays = np.array(obs[:-1]), np.array(actions), np.array(obs[1:])
    np.testing.assert_allclose(env.task_spec.reward(*arrays), rewards, atol=1e-5)
    told = env.task_spec.reward(*map(torch.from_numpy, arrays))
    np.testing.assert_allclose(told.numpy(), rewards, atol=1e-5)
    if tracking:
        assert np.mean(rewards) > 0.6
    else:
        assert sum(rewards) == pytest.approx(env.course.length, abs=0.1)


def test_an_episode_depends_on_its_seed_alone():
    actions = np.random.default_rng(0).uniform(-0.3, 0.3, (40, 4)).astype(np.float32)

    def episode(env, seed):
        return np.array([env.reset(seed=seed)[0], *(env.step(a)[0] for a in actions)])

    env = QuadrotorEnv()
    first = episode(env, 3)
    assert (episode(env, 4)[0] != first[0]).any()
    assert (episode(env, 3) == first).all()
    assert (episode(QuadrotorEnv(), 3) == first).all()


# ---- what may be wrong with it ----


def test_a_weak_motor_lets_it_turn_until_the_rate_loop_holds_against_that():
    """Torques are B e u of the controls u = weight / 4 − B⁺ (inertia · response · rates), e being
    what the motors are worth; they vanish at the rates that it comes to."""
    env = level(DynamicsSchedule(QuadrotorEnv(), [Change("motor", 0.7, on="front left")]))
    for _ in range(40):
        obs = env.step(HOVER)[0]
    worth = np.array([0.7, 1, 1, 1])
    torques = np.array([(0.12, -0.12, 0.12, -0.12), (-0.12, -0.12, 0.12, 0.12),
                        (-0.016, 0.016, 0.016, -0.016)])
    feedback = np.linalg.pinv(torques) * INERTIA * (25, 25, 6)
    rates = np.linalg.solve(torques * worth @ feedback, torques @ worth * MASS * GRAVITY / 4)
    np.testing.assert_allclose(obs[12:15], rates, atol=0.03)
    assert np.abs(rates[:2]).min() > 0.5
    np.testing.assert_allclose(env.unwrapped.data.actuator_force / env.unwrapped.data.ctrl, worth)


@pytest.mark.parametrize("kilograms", [0.1, 0.25])
def test_a_payload_makes_it_sink_by_what_newton_says(kilograms):
    env = level(DynamicsSchedule(QuadrotorEnv(), [Change("payload", kilograms, on="base")]))
    obs = env.step(HOVER)[0]
    acceleration = MASS * GRAVITY / (MASS + kilograms) - GRAVITY
    assert obs[11] / 0.02 == pytest.approx(acceleration, rel=0.01)


@pytest.mark.parametrize(("speed", "axis"), [(6, 0), (-3, 1), (4, 2)])
def test_wind_pushes_it_as_it_would_a_box_of_its_inertia(speed, axis):
    half = np.sqrt(6 / MASS * (INERTIA.sum() - 2 * INERTIA)) / 2
    env = level(DynamicsSchedule(QuadrotorEnv(), [Change("wind", speed, on="xyz"[axis])]))
    env.step(HOVER)
    area = np.delete(half, axis).prod()
    force = 2 * 1.2 * area * abs(speed) * speed
    assert env.unwrapped.data.qvel[axis] / 0.02 == pytest.approx(force / MASS, rel=0.05)


@pytest.mark.parametrize("task", ["quad-breeze", "quad-crosswind", "quad-gusts", "quad-payload",
                                  "quad-weak-motor"])
def test_the_pilot_feels_what_is_wrong(task):
    stream = crl.make_stream(f"quad-eight,{task}")
    ways = []
    for env in map(stream.make, stream):
        obs = env.reset(seed=0)[0]
        seen = []
        for _ in range(150):
            obs = env.step(fly(obs))[0]
            seen.append(obs[:3])
        ways.append(np.array(seen))
    assert 0.02 < np.abs(ways[0] - ways[1]).max() < 3


def test_it_is_drawn():
    env = QuadrotorEnv("helix", render_mode="rgb_array")
    env.reset(seed=0)
    before = env.render()
    for _ in range(60):
        env.step(np.float32([0.1, 0, 0.05, 0]))
    after = env.render()
    env.close()
    assert before.shape == after.shape == (480, 480, 3)
    assert (before != after).mean() > 0.05


def test_a_map_on_the_ground_is_none_in_the_air():
    with pytest.raises(crl.UserError, match="known: eight, helix, square"):
        QuadrotorEnv("slalom")
    with pytest.raises(crl.UserError, match="3 finite numbers"):
        QuadrotorEnv([(0, 0), (1, 1)])
