"""Layers against torch's own, distributions against torch.distributions and numerical integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from crl.nn.adam import Adam
from crl.nn.distributions import TanhGaussian, gaussian_kl
from crl.nn.layers import Dense, Heads, rows_by_head
from crl.nn.state import load_optimizer, optimizer_to_tree


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_dense_equals_linear():
    dense, linear = Dense(5, 3, generator()), nn.Linear(5, 3)
    with torch.no_grad():
        linear.weight.copy_(dense.kernel.T)
        linear.bias.copy_(dense.bias)
    x = torch.randn(7, 5, generator=generator(1))
    torch.testing.assert_close(dense(x), linear(x))


def test_heads_per_row_equal_heads_one_by_one():
    heads = Heads(4, 3, 5, generator())
    x = torch.randn(6, 4, generator=generator(1))
    index = torch.tensor([0, 3, 3, 1, 0, 3])
    result = heads(x, index)
    for row, head in enumerate(index.tolist()):
        torch.testing.assert_close(result[row], heads(x, head)[row])
    result.sum().backward()
    assert {i for i, h in enumerate(heads.items) if h.kernel.grad is not None} == {0, 1, 3}


@pytest.mark.parametrize("head", [
    torch.tensor([2, 2, 0, 0, 0, 5]), torch.tensor([0, 1, 0, 1]), torch.tensor([3]),
    torch.randint(4, (200,), generator=generator()),
])
def test_every_row_is_given_its_head_once(head):
    found = torch.full_like(head, -1)
    for h, rows in rows_by_head(head):
        assert (found[rows] == -1).all()
        found[rows] = h
    assert torch.equal(found, head)


def test_initial_weights_are_those_of_torch_in_distribution():
    ours = Dense(64, 4000, generator()).kernel.detach().flatten().numpy()
    bound = 1 / 8
    assert np.abs(ours).max() <= bound
    assert ours.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)


def test_squashed_log_density_equals_torchs_and_integrates_to_one():
    mean = torch.randn(9, 3, generator=generator(), dtype=torch.float64)
    log_std = torch.randn(9, 3, generator=generator(1), dtype=torch.float64) * 0.3
    noise = torch.randn(9, 3, generator=generator(2), dtype=torch.float64)
    ours = TanhGaussian(torch.cat((mean, log_std), -1), noise)
    squashed = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), TanhTransform())
    torch.testing.assert_close(ours.log_prob, squashed.log_prob(ours.action))

    grid = torch.linspace(-6, 8, 200_001, dtype=torch.float64)[:, None]  # pre-tanh values
    out = torch.tensor([[0.7, np.log(0.4)]], dtype=torch.float64)
    ours = TanhGaussian(out.expand(len(grid), 2), (grid - 0.7) / 0.4)
    area = torch.trapezoid(ours.log_prob.exp(), ours.action.squeeze(-1)).item()
    assert area == pytest.approx(1, abs=1e-4)


def test_squashed_log_density_is_finite_where_tanh_saturates():
    """The usual log(1 − tanh² + 1e-6) is off by many nats here; ours keeps growing linearly."""
    x = torch.tensor([[10.0], [20.0], [40.0]])
    ours = TanhGaussian(torch.cat((x, torch.zeros_like(x)), -1), torch.zeros_like(x))
    expected = 2 * x.squeeze(-1) - 2 * np.log(2) - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(ours.log_prob, expected)
    assert torch.isfinite(ours.to_out(torch.ones(3, 1), torch.ones(3))).all()


def test_gradient_of_a_squashed_sample_equals_autograds():
    out = torch.randn(9, 6, generator=generator(), dtype=torch.float64)
    out[0, 3], out[1, 4] = 2.5, -21.0  # beyond the bounds of log std: no gradient there
    out.requires_grad_()
    noise = torch.randn(9, 3, generator=generator(1), dtype=torch.float64)
    at_action = torch.randn(9, 3, generator=generator(2), dtype=torch.float64)
    at_log_prob = torch.randn(9, generator=generator(3), dtype=torch.float64)
    ours = TanhGaussian(out, noise)
    (expected,) = torch.autograd.grad([ours.action, ours.log_prob], out, [at_action, at_log_prob])
    result = ours.to_out(at_action, at_log_prob)
    torch.testing.assert_close(result, expected)
    assert result[0, 3] == result[1, 4] == 0


def test_gaussian_kl_equals_torchs():
    values = [torch.randn(5, 3, generator=generator(i)) for i in range(4)]
    p, q = (values[0], values[1].exp()), (values[2], values[3].exp())
    expected = kl_divergence(Normal(*p), Normal(*q)).sum(-1)
    torch.testing.assert_close(gaussian_kl(*p, *q), expected)
    assert gaussian_kl(*p, *p).abs().max() < 1e-6


def test_an_optimizer_restored_from_its_tree_goes_on_to_the_bit():
    def problem():
        layer = Dense(3, 2, generator())
        return layer, Adam(layer.parameters(), lr=1e-2)

    def train(layer, optimizer, seeds):
        for seed in seeds:
            optimizer.zero_grad()
            layer(torch.randn(4, 3, generator=generator(seed))).square().sum().backward()
            optimizer.step()

    straight, optimizer = problem()
    train(straight, optimizer, range(6))
    stopped, before = problem()
    train(stopped, before, range(3))
    resumed, after = problem()
    resumed.load_state_dict(stopped.state_dict())
    load_optimizer(after, optimizer_to_tree(before))
    train(resumed, after, range(3, 6))
    assert torch.equal(resumed.kernel, straight.kernel)


def test_adam_equals_torchs_and_leaves_alone_what_has_no_gradient():
    ours, theirs = (Dense(3, 2, generator()) for _ in range(2))
    lone = nn.Parameter(torch.ones(2))
    one = Adam([*ours.parameters(), lone], lr=1e-2)
    other = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    for seed in range(5):
        x = torch.randn(4, 3, generator=generator(seed))
        for layer, optimizer in ((ours, one), (theirs, other)):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ours.kernel, theirs.kernel)
    torch.testing.assert_close(ours.bias, theirs.bias)
    assert torch.equal(lone, torch.ones(2))
    assert lone not in one.state
