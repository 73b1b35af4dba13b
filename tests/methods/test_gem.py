"""GEM: the quadratic programme against a general solver, and no conflict with any old task."""

from __future__ import annotations

import numpy as np
import pytest
from given import SIZE, make, nearest, watch
from scipy.optimize import minimize, nnls
from visits import fill, make_agent, visit

import crl
from crl.methods.gem import minimise


def problem(seed, tasks):
    """Gradients of old tasks, one a row, and one that some of them object to."""
    rng = np.random.default_rng(seed)
    G, g = rng.normal(size=(tasks, SIZE)), rng.normal(size=SIZE)
    return (G, g) if (G @ g).min() < 0 else (G, -g)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_programme_agrees_with_a_general_solver(margin):
    clipped_agrees = []
    for seed in range(8):
        G, g = problem(seed, tasks=1 + seed)
        gram, products = G @ G.T, G @ g
        result = minimize(lambda v: 0.5 * v @ gram @ v + products @ v,  # noqa: B023
                          np.full(len(G), margin), jac=lambda v: gram @ v + products,  # noqa: B023
                          bounds=[(margin, None)] * len(G), method="SLSQP",
                          options={"ftol": 1e-14, "maxiter": 500})
        assert result.success
        ours = minimise(gram, products, margin)
        np.testing.assert_allclose(ours, result.x, atol=1e-5)
        clipped = np.maximum(np.linalg.solve(gram, -products), margin)
        clipped_agrees.append(np.allclose(clipped, result.x, atol=1e-5))
    assert not all(clipped_agrees)  # the control: clipping the free optimum is something else


def published(G, g, epsilon=1e-3):
    """The projection with ``epsilon`` on the diagonal, as released."""
    factor = np.linalg.cholesky(G @ G.T + epsilon * np.eye(len(G)))
    v, _ = nnls(factor.T, -np.linalg.solve(factor, G @ g))
    return g + v @ G


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_constraints_hold_whatever_the_lengths(scale):
    G, g = problem(3, tasks=5)
    G = G * (scale * np.logspace(-1, 1, 5))[:, None]

    def conflict(x):
        return (G @ x / np.linalg.norm(G, axis=1)).min() / np.linalg.norm(g)

    assert conflict(g + minimise(G @ G.T, G @ g) @ G) > -1e-6
    assert conflict(g) < -0.05  # the controls: without it, and with a diagonal of a fixed size
    if scale == 1e-4:
        assert conflict(published(G, g)) < -0.05


def test_parallel_and_vanishing_gradients_are_no_trouble():
    G, g = problem(0, tasks=2)
    G = np.stack((G[0], G[0], 2 * G[0], 0 * G[0], G[1], -G[1]))
    projected = g + minimise(G @ G.T, G @ g, margin=0.0) @ G
    assert np.isfinite(projected).all()
    assert (G @ projected).min() > -1e-6
    np.testing.assert_allclose(projected, nearest(g, G), atol=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_no_task_objects_afterwards(margin):
    for seed in range(5):
        G, g = problem(seed, tasks=4)
        given = make("gem", G, margin=margin)
        projected = given.project(g)
        assert (G @ projected).min() > -1e-5
        assert (G @ g).min() < 0  # the control
        if margin == 0:
            np.testing.assert_allclose(projected, nearest(g, G), atol=1e-5)
        assert [set(batch.heads.tolist()) for batch in given.batches] == [{0}, {1}, {2}, {3}]


def test_the_mean_of_all_tasks_is_too_few_constraints():
    """What A-GEM asks for leaves single tasks in conflict."""
    G, g = problem(1, tasks=4)
    mean = G.mean(0)
    averaged = g - min(g @ mean / (mean @ mean), 0) * mean
    assert (G @ averaged).min() < -0.1


def test_a_gradient_that_no_task_objects_to_is_left_alone():
    G, g = problem(2, tasks=3)
    g = nearest(g, G) + 0.1 * G.sum(0)
    assert (G @ g).min() > 0
    given = make("gem", G, margin=0.5)
    assert np.array_equal(given.project(g), g.astype(np.float32))


def test_heads_of_old_tasks_move_too():
    G, g = problem(4, tasks=3)
    g[6:8] = 0
    projected = make("gem", G, margin=0.0).project(g, absent=("actor.bias",))
    np.testing.assert_allclose(projected, nearest(g, G), atol=1e-5)
    assert (G @ projected).min() > -1e-5
    assert np.abs(projected[6:8]).min() > 1e-3


def test_no_step_of_sac_is_in_conflict_with_any_task():
    method = crl.make_method("gem", samples_per_task=100, batch_size=32, margin=0.0)
    agent, stream = make_agent(method)
    for task in stream[:2]:
        visit(agent, task, 30)
    agent.begin_task(stream[2])
    fill(agent, 2)
    seen = watch(agent, method)
    agent.learn(40)
    assert all(len(after) == 2 for _, after in seen)
    assert min(after.min().item() for _, after in seen) > -1e-6
    assert min(before.min().item() for before, _ in seen) < -0.01  # the control


def test_a_negative_margin_is_refused():
    with pytest.raises(crl.UserError, match="margin must not be negative"):
        crl.make_method("gem", margin=-0.1)
