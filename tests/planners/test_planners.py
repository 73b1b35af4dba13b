"""Planners: against the linear-quadratic regulator, pytorch_mppi and the noise's own theory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import crl
from crl.envs.car import ACTION_COST, STATE_COST, linear_system
from crl.planners import make_planner
from crl.planners.noise import colouring

NAMES = crl.registry.planners.names()
BOUND, STEPS = 2.0, 50
ENOUGH = {"icem": {"population": 100, "iterations": 5}, "cem": {"iterations": 10}}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def riccati_cost(a, b, start) -> float:
    """Of the best actions, bounds aside: cost-to-go x'Px, P from the last step backwards."""
    q, r = np.diag(STATE_COST), ACTION_COST * np.eye(2)
    p = np.zeros((4, 4))
    for _ in range(STEPS):
        # Of action u: u'Ru + x⁺'(Q + P)x⁺ with x⁺ = Ax + Bu.
        s = q + p
        gain = np.linalg.solve(r + b.T @ s @ b, b.T @ s @ a)
        closed = a - b @ gain
        p = closed.T @ s @ closed + gain.T @ r @ gain
    return float(start @ p @ start)


def planned_cost(planner, a, b, start, seed: int = 0) -> float:
    at, bt = torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)
    weights = torch.tensor(STATE_COST, dtype=torch.float32)
    x, state, draws, cost = start.copy(), planner.initial_state(1), generator(seed), 0.0

    def score(actions):
        here = torch.tensor(x, dtype=torch.float32).expand(*actions.shape[:2], 4)
        total = torch.zeros(actions.shape[:2])
        for action in (BOUND * actions).unbind(2):
            here = here @ at.T + action @ bt.T
            total -= (weights * here**2).sum(-1) + ACTION_COST * (action**2).sum(-1)
        return total

    for step in range(STEPS):
        action, state = planner.plan(score, state, torch.tensor([step == 0]), draws)
        assert action.abs().max() <= 1
        u = BOUND * action[0].double().numpy()
        x = a @ x + b @ u
        cost += x @ (STATE_COST * x) + ACTION_COST * u @ u
    return float(cost)


@pytest.mark.parametrize("friction", [0.0, 1.0])
@pytest.mark.parametrize("name", ENOUGH)
def test_with_the_true_dynamics_it_costs_little_more_than_the_regulator(name, friction):
    a, b = linear_system(friction)
    planner = make_planner(name, 2, horizon=20, **ENOUGH[name])
    starts = np.array([[0.6, -0.4, 0.2, 0.1], [-0.3, 0.7, 0.0, -0.3]])  # the best stays in bounds
    best = sum(riccati_cost(a, b, start) for start in starts)
    found = sum(planned_cost(planner, a, b, start) for start in starts)
    assert 0.999 * best <= found <= 1.1 * best


@pytest.mark.parametrize("name", NAMES)
def test_it_costs_the_evaluations_that_it_says(name):
    planner, counted = make_planner(name, 3, horizon=7), []

    def score(actions):
        counted.append(actions.shape[1] * actions.shape[2])
        assert actions.shape[0] == 2
        assert actions.shape[3] == 3
        assert actions.abs().max() <= 1
        return actions.sum((2, 3))

    state, first = planner.initial_state(2), torch.tensor([True, True])
    for _ in range(3):
        counted.clear()
        action, state = planner.plan(score, state, first, generator())
        assert action.shape == (2, 3)
        assert sum(counted) == planner.evaluations


def test_the_published_cross_entropy_method_costs_thirty_times_as_much():
    """Table of HyperCRL: cheetah, 6 populations of 500, 30 steps; iCEM's own count, 2,910."""
    assert make_planner("cem", 6, horizon=30).evaluations == 90_000
    icem = make_planner("icem", 6, horizon=30, reuse=0.0)
    assert icem.evaluations == (40 + 32 + 25) * 30 + 30  # and the mean, in the last population


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_the_worst(name):
    planner = make_planner(name, 1, horizon=3)

    def score(actions):
        total = actions.sum((2, 3))
        return torch.where(total > 0, torch.nan, total)

    action, state = planner.plan(score, planner.initial_state(1), torch.tensor([True]),
                                 generator())
    assert action.isfinite().all()
    assert all(s.isfinite().all() for s in state)


@pytest.mark.parametrize("name", ["icem", "mppi"])
def test_a_plan_goes_on_until_the_episode_ends(name):
    planner = make_planner(name, 1, horizon=5)
    target = torch.tensor([0.5, 0.5, 0.9, 0.5, 0.5])

    def score(actions):
        return -(actions[..., 0] - target).square().sum(-1) * 30

    state = planner.initial_state(1)
    for step in range(3):
        _, state = planner.plan(score, state, torch.tensor([step == 0]), generator(step))
    shown = state[0][0, :, 0]
    assert shown.argmax() == 1  # what was best at 2 is now at 1
    again, _ = planner.plan(score, state, torch.tensor([True]), generator(7))
    fresh, _ = planner.plan(score, planner.initial_state(1), torch.tensor([True]), generator(7))
    going, _ = planner.plan(score, state, torch.tensor([False]), generator(7))
    assert torch.equal(again, fresh)
    assert not torch.equal(again, going)


def test_mppi_is_pytorch_mppis():
    """The same draws, one step from the same mean, on a quadratic cost."""
    peer_module = pytest.importorskip("pytorch_mppi")
    horizon, count, temperature, std = 6, 50, 0.7, 0.4
    goal = torch.linspace(-0.5, 0.5, horizon)
    start = 0.1 * torch.ones(1, horizon, 1)
    peer = peer_module.MPPI(
        lambda x, u: x + 1, lambda x, u: (u[:, 0] - goal[x[:, 0].long() - 1]) ** 2, 1,
        torch.tensor([[std**2]]), num_samples=count, horizon=horizon, lambda_=temperature,
        U_init=start[0].clone(), u_min=torch.tensor([-1.0]), u_max=torch.tensor([1.0]),
        sample_null_action=False)
    noise = std * torch.randn(1, count, horizon, 1, generator=generator(3))
    peer._sample_noise = lambda shape: noise[0]
    expected = peer.command(torch.zeros(1), shift_nominal_trajectory=False)
    ours = make_planner("mppi", 1, horizon=horizon, population=count, temperature=temperature,
                        std=std)
    action, _ = ours.plan(lambda a: -(a[..., 0] - goal).square().sum(-1), (start,),
                          torch.tensor([False]), generator(3))
    torch.testing.assert_close(action[0], expected.flatten(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("exponent", [0.0, 2.0, 3.0])
def test_noise_has_the_spectrum_and_variance_asked_for(exponent):
    length = 64
    matrix = colouring(length, exponent).double()
    covariance = matrix.T @ matrix
    torch.testing.assert_close(covariance.diagonal(), torch.ones(length).double(), atol=1e-5,
                               rtol=0)
    if exponent == 0:
        torch.testing.assert_close(covariance, torch.eye(length).double(), atol=1e-5, rtol=0)
    power = torch.fft.rfft(matrix).abs().square().sum(0)[1:-1]
    slope = np.polyfit(np.log(np.arange(1, length // 2)), power.log().numpy(), 1)[0]
    assert slope == pytest.approx(-exponent, abs=1e-3)


def test_noise_is_colorednoises():
    """By correlations over many draws of theirs, whose variance is not 1 but 1.3."""
    peer = pytest.importorskip("colorednoise")
    theirs = peer.powerlaw_psd_gaussian(2.0, (40_000, 12), random_state=0)
    ours = colouring(12, 2.0).double()
    np.testing.assert_allclose(np.corrcoef(theirs.T), (ours.T @ ours).numpy(), atol=0.02)


@pytest.mark.parametrize(("name", "options", "hint"), [
    ("icem", {"population": 5}, "population must be at least elites"),
    ("icem", {"decay": 0.5}, "decay must be from 1"),
    ("icem", {"reuse": 2.0}, "reuse must be between 0 and 1"),
    ("cem", {"horizon": 0}, "horizon must be above 0"),
    ("mppi", {"temperature": 0.0}, "temperature must be above 0"),
    ("mppi", {"lambda": 1.0}, "unknown setting"),
    ("pddm", {}, "unknown planner"),
])
def test_settings_that_cannot_be(name, options, hint):
    with pytest.raises(crl.UserError, match=hint):
        make_planner(name, 1, **options)
