"""A-GEM: a step never raises the loss on old transitions, and is the nearest such step."""

from __future__ import annotations

import numpy as np
import pytest
from given import SIZE, make, nearest, watch
from visits import fill, make_agent, visit

import crl


def vectors(seed, conflict=True):
    """A gradient and a reference whose product is negative, or positive."""
    g, r = np.random.default_rng(seed).normal(size=(2, SIZE))
    return g, r if (g @ r < 0) == conflict else -r


def test_a_case_by_hand():
    g, r = np.zeros((2, SIZE))
    g[0], r[:2] = 1, (-1, 1)  # g·r = −1, r·r = 2: g + r/2
    expected = np.zeros(SIZE)
    expected[:2] = 0.5
    np.testing.assert_allclose(make("a-gem", [r]).project(g), expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_the_result_is_the_nearest_vector_without_conflict(seed):
    g, r = vectors(seed)
    assert g @ r < 0  # the control: what the optimiser gets without the method
    projected = make("a-gem", [r]).project(g)
    assert projected @ r > -1e-5
    np.testing.assert_allclose(projected, nearest(g, [r]), atol=1e-5)


def test_a_gradient_without_conflict_is_left_alone():
    g, r = vectors(0, conflict=False)
    given = make("a-gem", [r])
    before = g.astype(np.float32)
    before[6:8] = 0
    assert np.array_equal(given.project(g, absent=("actor.bias",)), before)
    assert given.parameter("actor.bias").grad is None


def test_parameters_that_one_gradient_does_not_reach_count_as_zero():
    """As the heads of old tasks, which the current loss does not reach, and the current head."""
    g, r = vectors(1)
    given = make("a-gem", [r], absent=("critic.bias",))
    g[6:8], r[14:] = 0, 0
    assert g @ r < 0
    projected = given.project(g, absent=("actor.bias",))
    np.testing.assert_allclose(projected, nearest(g, [r]), atol=1e-5)
    assert np.array_equal(projected[14:], g[14:].astype(np.float32))
    # The control: writing back only where the current loss has a gradient is not enough.
    assert r @ np.where(np.arange(SIZE) // 2 == 3, 0, projected) < -1e-3


def test_there_is_one_product_over_all_parts():
    g, r = np.ones((2, SIZE))
    r[:8] = -0.5  # the actor alone is in conflict, both together are not
    assert np.array_equal(make("a-gem", [r]).project(g), g)
    assert not np.array_equal(make("a-gem", [r], parts=("actor",)).project(g), g)


def test_the_reference_is_a_batch_of_all_finished_tasks():
    given = make("a-gem", np.ones((3, SIZE)))
    for _ in range(20):
        given.project(-np.ones(SIZE))
    assert all(len(batch.obs) == 12 for batch in given.batches)
    assert {head for batch in given.batches for head in batch.heads.tolist()} == {0, 1, 2}


def test_no_step_of_sac_is_in_conflict_with_the_memory():
    method = crl.make_method("a-gem", samples_per_task=100, batch_size=32)
    agent, stream = make_agent(method)
    for task in stream[:2]:
        visit(agent, task, 30)
    agent.begin_task(stream[2])
    fill(agent, 2)
    seen = watch(agent, method)
    agent.learn(40)
    assert min(after.item() for _, after in seen) > -1e-6
    assert min(before.item() for before, _ in seen) < -0.01  # the control


def test_bad_settings_and_a_shared_replay_are_refused():
    with pytest.raises(crl.UserError, match="above 0"):
        crl.make_method("a-gem", batch_size=0)
    with pytest.raises(crl.UserError, match="leave 'replay' in"):
        make_agent(crl.make_method("a-gem"), reset=())
