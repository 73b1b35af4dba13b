"""Robots of different kinds in one stream: each sees and does what it would by itself."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crl
from crl.data import collect, read_data
from crl.data.folder import DataFolder
from crl.envs.terms import terms

TASKS = "Pendulum-v1,push-v3,arm-plain,arm-mirrored,reach-v3"  # 3, 39, 10 numbers; 1, 4, 2 actions
STREAM = crl.make_stream(TASKS, unify=True, steps_per_task=150)
FIELDS = {"Pendulum-v1": (0, 3), "push-v3": (3, 42), "reach-v3": (3, 42), "arm-plain": (42, 52),
          "arm-mirrored": (42, 52)}


@pytest.mark.parametrize("task", FIELDS)
def test_it_sees_and_does_what_it_would_by_itself(task):
    alone = crl.make_stream(task)
    env, single = STREAM.make(STREAM[task]), alone.make(alone[0])
    low, high = single.action_space.low, single.action_space.high
    start, stop = FIELDS[task]
    rng = np.random.default_rng(0)
    found, expected = env.reset(seed=3)[0], single.reset(seed=3)[0]
    for _ in range(20):
        assert found.shape == (52,)
        assert np.array_equal(found[start:stop], np.float32(expected))
        assert not np.delete(found, range(start, stop)).any()
        assert env.observation_space.contains(found)
        action = rng.uniform(-1, 1, 4)
        found, reward, *ended, _ = env.step(action)
        own = low + (action[:len(low)] + 1) / 2 * (high - low)
        expected, single_reward, *single_ended, _ = single.step(own)
        assert (reward, ended) == (single_reward, single_ended)


def test_gymnasiums_checker_is_content():
    check_env(STREAM.make(STREAM["arm-plain"]), skip_render_check=True)


def test_all_have_one_space():
    assert STREAM.observation_space.shape == (52,)
    assert STREAM.action_space.shape == (4,)
    for task in STREAM:
        STREAM.make(task).close()
    assert "spaces=unified" in STREAM.protocol
    apart = crl.make_stream(TASKS)
    with pytest.raises(crl.UserError, match=r"stream\.unify=true"):
        apart.make(apart[1])


def test_what_else_is_shown_goes_with_it():
    stream = crl.make_stream("Pendulum-v1,arm-plain", unify=True, hide_velocities=True,
                             observe_reward=True, frame_stack=2)
    env = stream.make(stream[0])
    assert env.observation_space.shape == (2 * (2 + 8 + 1),)
    obs = [env.reset(seed=0)[0]]
    for _ in range(3):
        found, reward, *_ = env.step(np.zeros(2))
        assert found[-1] == np.float32(reward)
        assert np.array_equal(found[:11], obs[-1][11:])
        obs.append(found)


def test_choices_are_refused():
    with pytest.raises(crl.UserError, match="continuous actions, and task 'CartPole-v1'"):
        crl.make_stream("Pendulum-v1,CartPole-v1", unify=True)


def test_an_agent_learns_them_one_after_another(tmp_path):
    agent = crl.make_agent("sac", STREAM, hidden=(8,), start_steps=20, update_after=20)
    run = crl.train(agent, STREAM, ["packnet"], out=tmp_path / "run", eval_every=150,
                    eval_episodes=1)
    assert np.isfinite(run.scores("return").values).all()
    again = crl.Run(tmp_path / "run")
    assert again.stream.observation_space.shape == (52,)
    assert crl.evaluate(again.policy("push-v3"), STREAM["push-v3"], 1)[0].length == 200


@pytest.mark.parametrize("rewarded", [False, True])
def test_sets_of_a_robot_by_itself_are_read_as_of_one_of_several(rewarded, tmp_path):
    shown = {"horizon": 30, "observe_reward": rewarded}
    alone = crl.make_stream("Pendulum-v1", **shown)
    together = crl.make_stream("arm-plain,Pendulum-v1", unify=True, **shown)
    episodes = collect(crl.make_agent("sac", alone, hidden=(8,)).policy(alone[0]), alone[0],
                       episodes=2)
    DataFolder(tmp_path, alone, "policy", "sac", {}, "hdf5").write(alone[0], episodes)
    read = read_data(tmp_path, "Pendulum-v1", together)
    assert read.obs.shape[1] == 13 + rewarded
    env = together.make(together["Pendulum-v1"])
    for number, seed in enumerate(read.seeds):
        rows = slice(read.offsets[number], read.offsets[number + 1])
        seen = [env.reset(seed=int(seed))[0], *(env.step(a)[0] for a in read.actions[rows])]
        first = read.offsets[number] + number
        assert np.allclose(seen, read.obs[first:first + len(seen)], atol=1e-4)
    whole = crl.make_stream("arm-plain", unify=True, **shown)
    with pytest.raises(crl.UserError, match="of shapes"):
        read_data(tmp_path, "Pendulum-v1", crl.make_stream("arm-plain,push-v3", **shown))
    assert whole.observation_space.shape == (10 + rewarded,)


def test_terms_say_what_is_whose():
    observation, action = terms(STREAM.make(STREAM["arm-plain"]), "arm-plain")
    names = [term.name for term in observation]
    assert len(set(names)) == 52
    assert names[:2] == ["unused[0]", "unused[1]"]
    alone = crl.make_stream("arm-plain")
    assert names[42:] == [term.name for term in terms(alone.make(alone[0]), "arm-plain")[0]]
    assert len(action) == 4
