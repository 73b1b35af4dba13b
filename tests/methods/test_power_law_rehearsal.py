"""Power-law rehearsal: how often a task is rehearsed falls as a power of its age."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare
from visits import fill, make_agent, visit

import crl


def rehearsed(**settings):
    """How often each of three finished tasks is in a batch, and the current one."""
    method = crl.make_method("power-law-rehearsal", seed=2, samples_per_task=50, **settings)
    agent, stream = make_agent(method, tasks=4)
    for task in stream[:3]:
        visit(agent, task, 1)
    agent.begin_task(stream[3])
    fill(agent, 3)
    batch = method.rehearse(agent.replay.sample(6000, np.random.default_rng(0)))
    return np.bincount(batch.heads.numpy(), minlength=4)


def p_value(counts, weights):
    expected = np.asarray(weights, float)
    return chisquare(counts, expected / expected.sum() * counts.sum()).pvalue


@pytest.mark.parametrize(("exponent", "weights"), [
    (1.0, [1 / 3, 1 / 2, 1]), (2.0, [1 / 9, 1 / 4, 1]), (0.0, [1, 1, 1])])
def test_the_oldest_task_is_the_rarest(exponent, weights):
    counts = rehearsed(exponent=exponent, share=1.0)
    assert counts[3] == 0
    assert p_value(counts[:3], weights) > 0.01
    if exponent > 0:
        assert p_value(counts[:3], [1, 1, 1]) < 1e-6  # the controls: all alike,
        assert p_value(counts[:3], weights[::-1]) < 1e-6  # and age counted from the other end


def test_the_share_is_that_of_all_old_tasks_together():
    counts = rehearsed(share=0.2)
    assert counts[:3].sum() / counts.sum() == pytest.approx(0.2, abs=0.02)


def test_nothing_is_rehearsed_in_the_first_task():
    method = crl.make_method("power-law-rehearsal")
    agent, stream = make_agent(method)
    agent.begin_task(stream[0])
    fill(agent, 0)
    batch = agent.replay.sample(16, np.random.default_rng(0))
    assert method.rehearse(batch) is batch


def test_a_negative_exponent_is_refused():
    with pytest.raises(crl.UserError, match="exponent must not be negative"):
        crl.make_method("power-law-rehearsal", exponent=-1)
