"""EWC: the Fisher matrix against closed forms, the penalty against the explicit sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from visits import flat, make_agent, visit

import crl
from crl.methods.ewc import fisher
from crl.methods.parts import Gaussian, Part
from crl.replay import Batch


class LinearGaussian(nn.Module):
    """Mean W x + b, log standard deviation s."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
        self.bias = nn.Parameter(torch.tensor([0.3, -0.2]))
        self.log_std = nn.Parameter(torch.tensor([-0.5, 0.4]))

    def forward(self, x):
        return x @ self.weight.T + self.bias, self.log_std.exp().expand(len(x), 2)


def linear_part() -> Part:
    module = LinearGaussian()
    return Part(
        "actor", module, torch.optim.Adam(module.parameters()),
        lambda batch, parameters=None: Gaussian(
            *functional_call(module, parameters or {}, (batch.obs,))),
        gaussian=True,
    )


def batch_of(obs: torch.Tensor, head=0) -> Batch:
    nothing = torch.zeros(len(obs))
    return Batch(obs, torch.zeros(len(obs), 2), nothing, obs, nothing, head)


def test_fisher_of_a_linear_gaussian_policy_is_the_closed_form():
    part = linear_part()
    obs = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    result = fisher(part, [batch_of(obs[:30]), batch_of(obs[30:])])
    variance = part.module.log_std.detach().exp().square()
    # log N(a; Wx + b, σ²): F_W = E[x xᵀ]/σ² on the diagonal, F_b = 1/σ², F_s = 2 for s = log σ.
    torch.testing.assert_close(result["weight"], obs.square().mean(0) / variance[:, None],
                               rtol=1e-5, atol=0)
    torch.testing.assert_close(result["bias"], 1 / variance, rtol=1e-5, atol=0)
    torch.testing.assert_close(result["log_std"], torch.full((2,), 2.0), rtol=1e-5, atol=0)


def test_fisher_is_the_expected_squared_score():
    """Another definition of the same thing: E_a[(∂ log p(a))²], by Monte Carlo."""
    part = linear_part()
    obs = torch.tensor([[0.5, -1.0, 2.0]])
    exact = fisher(part, [batch_of(obs)])
    mean, std = part.outputs(batch_of(obs))
    mean, std = mean.detach(), std.detach()
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(2))
    bias_score = noise / std  # ∂ log p / ∂b = (a − μ)/σ²
    torch.testing.assert_close(exact["bias"], bias_score.square().mean(0), rtol=0.05, atol=0)
    assert mean.shape == (1, 2)


def test_the_floor_holds_per_sample():
    obs = torch.zeros(8, 3)
    assert (fisher(linear_part(), [batch_of(obs)], floor=0.0)["weight"] == 0).all()
    floored = fisher(linear_part(), [batch_of(obs)], floor=1e-5)["weight"]
    torch.testing.assert_close(floored, torch.full_like(floored, 1e-5))
    mixed = torch.cat((obs, torch.ones(8, 3)))  # half the samples at the floor, half far above
    part = linear_part()
    exact = fisher(part, [batch_of(mixed)], floor=0.0)["weight"]
    with_floor = fisher(part, [batch_of(mixed)], floor=1e-2)["weight"]
    torch.testing.assert_close(with_floor, exact + 0.5e-2)


def test_fisher_of_sac_parts_agrees_with_one_backward_pass_per_sample():
    agent, stream = make_agent()
    visit(agent, stream[0], 5)
    batch = agent.replay.sample(6, np.random.default_rng(0))
    for part in agent.parts.values():
        ours = fisher(part, [batch])
        expected = {n: torch.zeros_like(p) for n, p in part.shared_parameters().items()}
        names = list(expected)
        for i in range(6):
            one = batch.rows(torch.tensor([i]))
            outputs = part.outputs(one)
            pairs = ([(outputs.mean, 1.0), (outputs.std, 2.0)] if isinstance(outputs, Gaussian)
                     else [(outputs, None)])
            for column, factor in pairs:
                for o in range(column.shape[1]):
                    gradient = torch.autograd.grad(column[0, o],
                                                   list(part.shared_parameters().values()),
                                                   retain_graph=True)
                    scale = 1.0
                    if factor:
                        scale = factor / (outputs.std[0, o].item() ** 2 + 1e-6)
                    for name, g in zip(names, gradient, strict=True):
                        expected[name] += scale * g.square() / 6
        for name in names:
            torch.testing.assert_close(ours[name], expected[name], rtol=1e-3, atol=1e-7)


def test_the_online_form_has_one_anchor_and_fading_importance():
    method = crl.make_method("ewc", coefficient=1.0, online=0.5, batches=2, batch_size=32)
    agent, stream = make_agent(method)
    part, seen = agent.parts["actor"], []
    original = method._anchors.replace

    def spy(part, importance):
        seen.append(importance)
        original(part, importance)

    method._anchors.replace = spy
    for task in stream:
        visit(agent, task)
    anchor = {n: p.detach().clone() for n, p in part.shared_parameters().items()}
    assert method._anchors.penalty(part).item() == 0
    with torch.no_grad():
        for p in agent.actor.parameters():
            p.add_(0.1)
    expected = sum((seen[-1][n] * (p - anchor[n]).square()).sum()
                   for n, p in part.shared_parameters().items())
    assert method._anchors.penalty(part).item() == pytest.approx(expected.item(), rel=1e-5)
    kernel = part.kernels[0]
    own = [seen[0][kernel], seen[1][kernel] - 0.5 * seen[0][kernel]]
    assert (own[1] >= 0).all()
    assert not torch.allclose(own[0], own[1])


def test_a_large_coefficient_holds_the_weights():
    def moved(coefficient):
        method = crl.make_method("ewc", coefficient=coefficient, floor=1.0, batches=1)
        agent, stream = make_agent(method)
        visit(agent, stream[0])
        before = flat(agent.actor.trunk)
        visit(agent, stream[1], 60)
        return (flat(agent.actor.trunk) - before).norm().item()

    assert moved(1e4) < 0.5 * moved(0.0)


def test_no_penalty_before_the_first_task_has_ended():
    method = crl.make_method("ewc")
    agent, _ = make_agent(method)
    assert method.loss(agent.parts["actor"], None) is None
