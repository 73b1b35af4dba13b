"""Every method on two tasks of the toy stream: it learns, and what is said to keep keeps."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from toy import ANYWHERE, corners

import crl

STEPS = 800
LEARNED, KEPT = -20, -12  # returns of an episode; nothing is better than about -4
# Settings for a run of a minute in place of an hour.
SETTINGS = {
    "elephant": {"bias_std": 1.0},
    "continual-backprop": {"maturity": 100},
    "resets": {"period": 500, "layers": 1},
    "redo": {"period": 100},
}
KEEP = ("l2", "ewc", "mas", "vcl", "clonex", "ser", "a-gem", "gem", "perfect-memory",
        "power-law-rehearsal", "replay-scheduling", "packnet", "clnp", "input-affine", "modulation",
        "relevance-masks", "rank-updates")


@cache
def returns(name: str) -> tuple[float, float]:
    """Mean return on the first and on the second task after both."""
    stream = corners(2, STEPS)
    agent = crl.make_agent("sac", stream, hidden=(32, 32), learning_rate=3e-3, batch_size=32,
                           update_to_data=1.0, polyak=0.995, start_steps=100, update_after=100,
                           layer_norm=name != "clnp")
    methods = [] if name == "finetuning" else [crl.make_method(name, **SETTINGS.get(name, {}))]
    agent.attach(methods)
    for task in stream:
        learn(agent, task)
    return tuple(np.mean([e.reward_sum for e in crl.evaluate(agent.policy(task), task, 10)])
                 for task in stream)


def learn(agent, task) -> None:
    """A task from its first step to its last, evaluated half way."""
    from crl.agent import Step

    env = task.make()
    agent.begin_task(task)
    obs, _ = env.reset(seed=0)
    first = np.array([True])
    for i in range(task.steps):
        action = agent.act(obs[None], first)
        following, reward, terminated, truncated, info = env.step(action[0])
        agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                           np.array([terminated]), np.array([truncated]), first, [info]))
        agent.update()
        obs, first = following, np.array([False])
        if terminated or truncated:
            (obs, _), first = env.reset(seed=i + 1), np.array([True])
            agent.methods.evaluated(task, 1.0 if task.head else 0.0)
    agent.end_task(task)


@pytest.mark.parametrize("name", ["finetuning", *ANYWHERE])
def test_the_newest_task_is_learned(name):
    assert returns(name)[1] >= LEARNED


@pytest.mark.parametrize("name", KEEP)
def test_the_first_task_is_kept(name):
    assert returns(name)[0] >= KEPT


def test_without_a_method_it_is_not():
    assert returns("finetuning")[0] < KEPT - 3


def test_an_untrained_policy_has_done_neither():
    stream = corners(2, STEPS)
    policy = crl.make_agent("sac", stream, hidden=(32, 32)).policy(stream[0])
    assert np.mean([e.reward_sum for e in crl.evaluate(policy, stream[0], 10)]) < LEARNED - 5
