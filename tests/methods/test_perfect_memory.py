"""Perfect memory: a batch is uniform over all that was seen, however small the reservoir."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from visits import fill, make_agent

import crl
from crl.methods.rehearsal import replace_rows

COUNTS = (300, 200, 100)  # of two finished tasks and the current one


def after_two_tasks(capacity):
    method = crl.make_method("perfect-memory", seed=3, capacity=capacity)
    agent, stream = make_agent(method)
    for task, count in zip(stream[:2], COUNTS, strict=False):
        agent.begin_task(task)
        fill(agent, task.head, count)
        agent.end_task(task)
    agent.begin_task(stream[2])
    fill(agent, 2, COUNTS[2])
    return agent, method


def heads(agent, rehearse, draws=6000):
    batch = agent.replay.sample(draws, np.random.default_rng(0))
    return np.bincount(rehearse(batch).heads.numpy(), minlength=3)


def test_a_batch_has_each_task_as_often_as_it_was_seen():
    agent, method = after_two_tasks(capacity=1000)
    counts = heads(agent, method.rehearse)
    assert chisquare(counts, np.array(COUNTS) / sum(COUNTS) * counts.sum()).pvalue > 0.01


def test_it_counts_what_was_seen_not_what_is_kept():
    """The current task's share is 100 of 600, although 50 old transitions are kept beside it."""
    agent, method = after_two_tasks(50)

    def naive(batch):  # the control
        share = len(method._reservoir) / (len(method._reservoir) + len(agent.replay))
        return replace_rows(batch, share, lambda n: method._reservoir.sample(n, method._rng),
                            method._rng)

    current = [heads(agent, rehearse)[2] / 6000 for rehearse in (method.rehearse, naive)]
    assert current == pytest.approx([100 / 600, 100 / 150], abs=0.03)


def test_the_first_task_is_learned_from_its_own_transitions():
    method = crl.make_method("perfect-memory")
    agent, stream = make_agent(method)
    agent.begin_task(stream[0])
    fill(agent, 0)
    batch = agent.replay.sample(16, np.random.default_rng(0))
    assert method.rehearse(batch) is batch


def test_rows_are_replaced_with_the_probability_asked_for():
    agent, _ = after_two_tasks(50)
    rng = np.random.default_rng(1)
    batch = agent.replay.sample(4000, rng)
    other = replace(batch, head=7)
    mixed = replace_rows(batch, 0.3, lambda n: other.rows(torch.arange(n)), rng)
    assert len(mixed.obs) == 4000
    assert (mixed.heads == 7).float().mean().item() == pytest.approx(0.3, abs=0.03)
    kept = set(batch.reward.tolist())
    assert set(mixed.reward[mixed.heads == 2].tolist()) <= kept


def test_two_methods_cannot_both_choose_what_is_rehearsed():
    with pytest.raises(crl.UserError, match="rehearsal"):
        make_agent(*map(crl.make_method, ("perfect-memory", "power-law-rehearsal")))


def test_a_replay_that_keeps_old_transitions_too_is_refused():
    with pytest.raises(crl.UserError, match="leave 'replay' in"):
        make_agent(crl.make_method("perfect-memory"), reset=("optimizer",))
