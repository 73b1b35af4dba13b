"""Every task against the stock package: the same vector and actions, the same numbers.

By default each of the fifty tasks plays a scripted expert's, a random and a saturated episode, the
ten Continual World tasks three seeds of each. ``CRL_TEST_FULL=1`` plays three seeds of all fifty,
some four minutes.
"""

from __future__ import annotations

import os

import metaworld.policies as policies
import numpy as np
import pytest
from metaworld.env_dict import ALL_V3_ENVIRONMENTS

from crl.envs.metaworld import TASKS, MetaworldEnv

CW10 = (
    "hammer-v3", "push-wall-v3", "faucet-close-v3", "push-back-v3", "stick-pull-v3",
    "handle-press-side-v3", "push-v3", "shelf-place-v3", "window-close-v3", "peg-unplug-side-v3",
)
FULL = os.environ.get("CRL_TEST_FULL") == "1"
pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # the experts

KINDS = ("expert", "random", "saturated")
HORIZON = 200


def stock_episode(task, vector, partially_observable=False):
    """A stock environment as it comes out of its constructor, and its first observation."""
    env = ALL_V3_ENVIRONMENTS[task]()
    env._partially_observable = partially_observable
    del env.sawyer_observation_space
    env._set_task_called = True
    env._freeze_rand_vec = True
    env._last_rand_vec = vector.copy()
    obs, _ = env.reset()
    return env, obs


def expert(task):
    words = {"peg-insert-side-v3": "peg-insertion-side-v3"}.get(task, task).split("-")
    name = "Sawyer" + "".join(w.capitalize() for w in words) + "Policy"
    return getattr(policies, name)()


def actions_of(kind, task, seed):
    """A function observation → action [4]."""
    rng = np.random.default_rng(seed)
    if kind == "random":
        return lambda obs: rng.uniform(-1.2, 1.2, 4).astype(np.float32)
    if kind == "double":
        return lambda obs: rng.uniform(-1.2, 1.2, 4)
    if kind == "saturated":
        return lambda obs: rng.choice([-1.0, 1.0], 4).astype(np.float32)
    policy = expert(task)
    return lambda obs: policy.get_action(obs).astype(np.float32)


def assert_same_episode(task, kind, seed, hidden=False):
    env = MetaworldEnv(task, horizon=HORIZON, partially_observable=hidden)
    for earlier in range(seed):  # a used environment, which must not matter
        env.reset(seed=100 + earlier)
        env.step(np.ones(4, np.float32))
    obs, info = env.reset(seed=seed)
    stock, stock_obs = stock_episode(task, info["task_vector"], hidden)
    np.testing.assert_array_equal(obs, stock_obs.astype(np.float32))
    choose = actions_of(kind, task, seed)
    for step in range(1, HORIZON + 1):
        action = choose(stock_obs)
        obs, reward, terminated, truncated, info = env.step(action)
        stock_obs, stock_reward, _, _, stock_info = stock.step(action)
        np.testing.assert_array_equal(obs, stock_obs.astype(np.float32), err_msg=f"step {step}")
        assert reward == pytest.approx(float(stock_reward), abs=1e-9, rel=0), f"step {step}"
        assert set(info) == {*stock_info, "is_success"}
        for name, value in stock_info.items():
            assert info[name] == pytest.approx(float(value), abs=1e-9, rel=0), f"{name} at {step}"
        assert info["is_success"] is (float(stock_info["success"]) > 0)
        assert env.observation_space.contains(obs)
        assert terminated is False
        assert truncated is (step == HORIZON)
    # Bit for bit: nothing has drifted that the rounded observation would hide.
    np.testing.assert_array_equal(env.data.qpos, stock.data.qpos)
    np.testing.assert_array_equal(env.data.qvel, stock.data.qvel)
    env.close()


def cases():
    for task in TASKS:
        for k, kind in enumerate(KINDS):
            for seed in range(3):
                if FULL or task in CW10 or seed == k:
                    yield pytest.param(task, kind, seed, id=f"{task}-{kind}-{seed}")


@pytest.mark.parametrize(("task", "kind", "seed"), list(cases()))
def test_episode_is_that_of_a_fresh_stock_environment(task, kind, seed):
    assert_same_episode(task, kind, seed)


@pytest.mark.parametrize("task", CW10)
def test_double_precision_actions_and_hidden_goals(task):
    assert_same_episode(task, "double", 1, hidden=True)


def test_experts_succeed():
    # Or the comparison above would never meet a grasp, a contact or a success.
    won = set()
    for task in CW10:
        env = MetaworldEnv(task)
        obs, _ = env.reset(seed=0)
        choose = actions_of("expert", task, 0)
        truncated = False
        while not truncated:
            obs, _, _, truncated, info = env.step(choose(obs.astype(np.float64)))
            if info["is_success"]:
                won.add(task)
    assert len(won) >= 8


def test_the_comparison_notices_another_vector():
    env = MetaworldEnv("push-v3")
    _, info = env.reset(seed=0)
    vector = info["task_vector"]
    vector[0] += 1e-5
    _, stock_obs = stock_episode("push-v3", vector)
    obs, _ = env.reset(seed=0)
    assert not np.array_equal(obs, stock_obs.astype(np.float32))
