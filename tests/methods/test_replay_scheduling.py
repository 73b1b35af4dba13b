"""Replay scheduling: what is rehearsed is what the newest evaluation says is being lost."""

from __future__ import annotations

import numpy as np
import pytest
from visits import fill, make_agent, visit

import crl


def trained(**settings):
    """In the third task, the first two finished."""
    method = crl.make_method("replay-scheduling", seed=1, samples_per_task=100, **settings)
    agent, stream = make_agent(method)
    for task in stream[:2]:
        visit(agent, task, 2)
    agent.begin_task(stream[2])
    fill(agent, 2)
    return agent, method, stream


def evaluate(method, stream, *successes):
    for task, success in zip(stream, successes, strict=True):
        method.evaluated(task, success)


def shares(agent, method, count=4000):
    batch = method.rehearse(agent.replay.sample(count, np.random.default_rng(0)))
    assert len(batch.obs) == count
    return (np.bincount(batch.heads.numpy(), minlength=3) / count).tolist()


@pytest.mark.parametrize(("newest", "expected"), [
    ((0.8, 0.5, 0.0), [0, 0, 1]),        # all kept: nothing is rehearsed
    ((0.7, 0.5, 0.0), [0.5, 0, 0.5]),    # the first is being lost
    ((0.8, 0.4, 0.0), [0, 0.5, 0.5]),    # the second is
    ((0.1, 0.1, 0.0), [0.25, 0.25, 0.5]),
    ((0.8 * 0.96, 0.49, 0.0), [0.5, 0, 0.5]),  # at the threshold, and above it
])
def test_tasks_that_fell_below_their_best_are_rehearsed(newest, expected):
    agent, method, stream = trained()
    evaluate(method, stream, 0.8, 0.2, 0.0)
    evaluate(method, stream, 0.3, 0.5, 0.0)  # the best need not be the first or the last
    evaluate(method, stream, *newest)
    assert shares(agent, method) == pytest.approx(expected, abs=0.03)


def test_the_schedule_follows_the_newest_evaluation():
    agent, method, stream = trained(share=0.25)
    evaluate(method, stream, 0.8, 0.8, 0.0)
    assert shares(agent, method) == [0, 0, 1]
    evaluate(method, stream, 0.2, 0.8, 0.0)
    assert shares(agent, method) == pytest.approx([0.25, 0, 0.75], abs=0.03)
    evaluate(method, stream, 0.9, 0.9, 0.0)  # it came back
    assert shares(agent, method) == [0, 0, 1]


def test_another_threshold_rehearses_other_tasks():
    """The control of the published one: half of the best is enough here."""
    agent, method, stream = trained(threshold=0.5)
    evaluate(method, stream, 0.8, 0.8, 0.0)
    evaluate(method, stream, 0.6, 0.3, 0.0)
    assert shares(agent, method) == pytest.approx([0, 0.5, 0.5], abs=0.03)


def test_the_current_task_and_those_never_evaluated_are_not_rehearsed():
    agent, method, stream = trained()
    assert shares(agent, method) == [0, 0, 1]
    method.evaluated(stream[2], 1.0)
    method.evaluated(stream[2], 0.0)
    assert shares(agent, method) == [0, 0, 1]


def test_it_is_told_of_evaluations_in_a_run(tmp_path):
    method = crl.make_method("replay-scheduling", samples_per_task=100)
    agent, stream = make_agent(steps=50, update_to_data=0.1)
    crl.train(agent, stream, [method], out=tmp_path / "run", eval_episodes=1, eval_every=50)
    assert set(method._best) == {task.name for task in stream}
    assert all(method._newest[name] <= best for name, best in method._best.items())


@pytest.mark.parametrize("settings", [{"share": 1.5}, {"threshold": -0.1}, {"samples_per_task": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(crl.UserError, match=next(iter(settings))):
        crl.make_method("replay-scheduling", **settings)
