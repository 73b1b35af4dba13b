"""The doors: geometry and reward by hand, latches by force, handles by a hand that turns them."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest

from crl.envs.door import DoorEnv

TASKS = [("pull", 1), ("round", 1), ("round", -1), ("lever", 1), ("lever", -1)]
CENTRE = {"pull": (0, -0.07, 0), "round": (0, -0.07, 0), "lever": (-0.06, -0.07, 0)}
tasks = pytest.mark.parametrize(("handle", "sense"), TASKS)


def random_actions(*shape: int):
    return np.random.default_rng(0).uniform(-1, 1, (*shape, 7)).astype(np.float32)


def begin_in_front(env) -> None:
    """Starts with the hand in front of where the handle is to be gripped."""
    start = env.init_qpos.copy()
    start[2] = CENTRE[env.handle][0]
    env.place = lambda: env.set_state(start, np.zeros(10))
    env.reset()


def grip_turn_pull(handle: str, turn: int):
    """Actions, open loop: ``turn`` 1 is anticlockwise as the hand sees it."""
    phases = [(10, {"y": 0.9}), (8, {"close": 1}),
              (12, {"close": 1, "z": -0.3 * turn, "roll": -0.5 * turn} if handle == "lever" else
                   {"close": 1, "roll": -turn}),
              (24, {"close": 1, "y": -0.5})]
    names = ("x", "y", "z", "roll", "pitch", "yaw", "close")
    return np.array([[phase.get(name, 0) for name in names] for steps, phase in phases
                     for _ in range(steps)], np.float32)


def point(handle: str, door: float, turned: float):
    """Where the handle is gripped: it turns about -y, the door about -z."""
    x, y, z = CENTRE[handle]
    x, z = x * np.cos(turned) - z * np.sin(turned), x * np.sin(turned) + z * np.cos(turned)
    x, y = x + 0.36, y - 0.02
    x, y = x * np.cos(door) + y * np.sin(door), y * np.cos(door) - x * np.sin(door)
    return x - 0.36, y + 0.02, z


@tasks
def test_observation_reward_and_success_are_the_geometry(handle, sense):
    env = DoorEnv(handle, sense)
    begin_in_front(env)
    seven = ("x", "y", "z", "roll", "pitch", "yaw", "finger-up")
    for action in grip_turn_pull(handle, sense):
        obs, reward, _, _, info = env.step(action)
        joint = {env.model.joint(i).name: env.data.joint(i) for i in range(10)}
        expected = [[*joint["door"].qpos, *joint["handle"].qpos],
                    [*joint["door"].qvel, *joint["handle"].qvel],
                    [joint[j].qpos[0] for j in seven], [joint[j].qvel[0] for j in seven],
                    obs[4:7] + np.array([0, -0.25, 0]), point(handle, *obs[:2]),
                    [*joint["finger-down"].qpos, *joint["finger-down"].qvel]]
        np.testing.assert_allclose(obs, np.concatenate(expected), atol=1e-6)

        turned = 0 if handle == "pull" else np.clip(sense * obs[1] / 0.5, -1, 1)
        expected = (-4 * np.linalg.norm(obs[18:21] - obs[21:24]) + turned
                    + 10 * np.clip(obs[0], 0, 0.4) - 0.01 * (action**2).sum())
        assert reward == pytest.approx(expected, abs=1e-5)
        assert info["success"] == (obs[0] >= 0.2)
    assert obs[0] > 0.4
    assert handle != "pull" or abs(obs[1]) < 0.05
    assert env.task_spec.angles == (0, 1)


@tasks
def test_what_is_imagined_comes_true_in_contact(handle, sense):
    env = DoorEnv(handle, sense)
    begin_in_front(env)
    actions = grip_turn_pull(handle, sense)
    for action in actions[:20]:
        env.step(action)
    assert env.data.ncon
    plans = np.stack((random_actions(16), actions[20:36]))
    imagined = env.imagine(plans)
    assert imagined.shape == (2, 17, 26)
    seen = np.array([env.step(action)[0] for action in plans[1]])
    np.testing.assert_allclose(imagined[1, 1:], seen, atol=1e-6)
    assert np.abs(imagined[0, 1:] - seen).max() > 0.1


@pytest.mark.parametrize(("turned", "opens"), [(0, False), (0.45, False), (0.55, True),
                                               (-0.55, False), (-0.7, False)])
@tasks
def test_the_latch_is_free_where_the_handle_is_turned_half_a_radian_the_tasks_way(
        handle, sense, turned, opens):
    env = DoorEnv(handle, sense)
    env.reset(seed=0)
    door = env.data.joint("door")
    widest = 0.0
    for _ in range(200):
        env.data.joint("handle").qpos = 0 if handle == "pull" else sense * turned
        env.data.joint("handle").qvel = 0
        door.qfrc_applied = 20  # N m: the hand's 40 N at 0.36 m are 14
        mujoco.mj_step(env.model, env.data)
        widest = max(widest, door.qpos[0])
    assert widest > 0.2 if opens or handle == "pull" else widest < 0.02


@pytest.mark.parametrize("turn", [1, -1])
@tasks
def test_the_hand_opens_the_door_if_it_turns_the_handle_the_tasks_way(handle, sense, turn):
    env = DoorEnv(handle, sense)
    begin_in_front(env)
    successes = [env.step(action)[4]["success"] for action in grip_turn_pull(handle, turn)]
    assert any(successes) == (handle == "pull" or turn == sense)


def test_tasks_differ():
    """In how they move, not only in where their handles are."""
    paths = []
    for task in TASKS:
        env = DoorEnv(*task)
        begin_in_front(env)
        paths.append([env.step(action)[0][:18] for action in grip_turn_pull("round", 1)])
    for one, other in itertools.combinations(np.array(paths), 2):
        assert np.abs(one - other).max() > 0.1
