"""The scripted experts are Meta-World's, for every task, whatever a stream appends."""

from __future__ import annotations

import numpy as np
import pytest
from metaworld import policies
from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE

import crl
from crl.agents.scripted import scripted_policy
from crl.data import collect
from crl.envs.metaworld_tasks import TASKS
from crl.envs.views import ObserveReward

pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # pytest undoes the filter of ours
NO_STATE, FIRST = (), np.array([True])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_expert(task):
    policy = scripted_policy(task)
    words = task.replace("peg-insert-", "peg-insertion-").split("-")
    cls = getattr(policies, f"Sawyer{''.join(w.capitalize() for w in words)}Policy")
    obs = np.random.default_rng(0).uniform(-1, 1, (3, 39)).astype(np.float32)
    actions, state = policy.step(obs, NO_STATE, np.full(3, True))
    assert state == NO_STATE
    assert actions.dtype == np.float32
    for row, action in zip(obs, actions, strict=True):  # a row depends on its own alone
        stock = cls().get_action(row.astype(np.float64))
        assert np.array_equal(action, np.clip(stock, -1, 1))
    assert policy.predict(obs[0])[0].shape == (4,)


def test_the_expert_does_in_stock_metaworld_what_it_does_here():
    stock = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE["push-v3-goal-observable"](seed=0)
    obs, _ = stock.reset()
    policy, solved = scripted_policy("push-v3"), False
    for _ in range(200):
        obs, *_, info = stock.step(policy.step(np.float32(obs)[None], NO_STATE, FIRST)[0][0])
        solved = solved or info["success"] > 0
    assert solved


@pytest.mark.parametrize("task", ["push-v3", "basketball-v3", "drawer-open-v3"])
def test_an_expert_succeeds_at_its_own_task_and_no_other_there(task):
    stream = crl.make_stream(task)
    success = [collect(scripted_policy(name), stream[0], episodes=4).successful.mean()
               for name in (task, "window-close-v3")]
    assert success[0] >= 0.75
    assert success[1] <= 0.25


def test_what_a_stream_appends_is_not_looked_at():
    stream = crl.make_stream("window-close-v3", horizon=5, observe_reward=True)
    policy = scripted_policy("window-close-v3", stream.observation_space)
    plain = collect(scripted_policy("window-close-v3"), crl.make_stream(
        "window-close-v3", horizon=5)[0], episodes=2)
    seen = collect(policy, stream[0], episodes=2)
    assert isinstance(stream[0].make(), ObserveReward)
    assert np.array_equal(seen.actions, plain.actions)
    assert np.array_equal(seen.obs[1:6, 39], seen.rewards[:5])
    assert crl.evaluate(policy, stream[0], episodes=1)[0].length == 5


def test_a_second_visit_is_to_the_same_task():
    assert scripted_policy("push-v3@2").spec.task == "push-v3@2"
    with pytest.raises(crl.UserError, match="fifty"):
        scripted_policy("push@v3")


@pytest.mark.parametrize("name", ["arm-plain", "Pendulum-v1", "push-v2", ""])
def test_other_tasks_have_none(name):
    with pytest.raises(crl.UserError, match="Meta-World's fifty have one, such as 'push-v3'"):
        scripted_policy(name)


def test_an_expert_is_not_given_less_than_it_looks_at():
    stream = crl.make_stream("push-v3", hide_velocities=True)
    with pytest.raises(crl.UserError, match=r"leave stream\.hide_velocities out"):
        scripted_policy("push-v3", stream.observation_space)
