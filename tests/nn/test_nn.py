"""Layers against torch's own, distributions against torch.distributions and numerical integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal, TransformedDistribution, kl_divergence
from torch.distributions.transforms import TanhTransform

from crl.nn.distributions import gaussian_kl, tanh_gaussian
from crl.nn.layers import Dense, Heads, LayerNorm, Trunk
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


@pytest.mark.parametrize("layer_norm", [True, False])
def test_an_ensemble_equals_its_members_one_by_one(layer_norm):
    together = Trunk(5, (8, 6), generator(), ensemble=3, layer_norm=layer_norm)
    with torch.no_grad():
        for p in together.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator(2)))
    x = torch.randn(7, 5, generator=generator(1))
    result = together(x)
    assert result.shape == (3, 7, 6)
    for i in range(3):
        alone = Trunk(5, (8, 6), generator(), layer_norm=layer_norm)
        with torch.no_grad():
            for single, stacked in zip(alone.parameters(), together.parameters(), strict=True):
                single.copy_(stacked[i])
        torch.testing.assert_close(result[i], alone(x))
    assert not torch.allclose(result[0], result[1])


def test_layer_norm_equals_torchs():
    ours, theirs = LayerNorm(6), nn.LayerNorm(6)
    x = torch.randn(4, 6, generator=generator())
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("ensemble", [None, 2])
def test_heads_per_row_equal_heads_one_by_one(ensemble):
    heads = Heads(4, 3, 5, generator(), ensemble)
    shape = (6, 4) if ensemble is None else (ensemble, 6, 4)
    x = torch.randn(shape, generator=generator(1))
    index = torch.tensor([0, 3, 3, 1, 0, 3])
    result = heads(x, index)
    for row, head in enumerate(index.tolist()):
        torch.testing.assert_close(result[..., row, :], heads(x, head)[..., row, :])
    result.sum().backward()
    assert {i for i, h in enumerate(heads.items) if h.kernel.grad is not None} == {0, 1, 3}


def test_initial_weights_are_those_of_torch_in_distribution():
    ours = Dense(64, 4000, generator()).kernel.detach().flatten().numpy()
    bound = 1 / 8
    assert np.abs(ours).max() <= bound
    assert ours.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)


def test_squashed_log_density_equals_torchs_and_integrates_to_one():
    mean = torch.randn(9, 3, generator=generator(), dtype=torch.float64)
    log_std = torch.randn(9, 3, generator=generator(1), dtype=torch.float64) * 0.3
    noise = torch.randn(9, 3, generator=generator(2), dtype=torch.float64)
    action, log_prob = tanh_gaussian(mean, log_std, noise)
    squashed = TransformedDistribution(Independent(Normal(mean, log_std.exp()), 1), TanhTransform())
    torch.testing.assert_close(log_prob, squashed.log_prob(action))

    grid = torch.linspace(-6, 8, 200_001, dtype=torch.float64)[:, None]  # pre-tanh values
    m, s = torch.tensor(0.7, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    action, log_prob = tanh_gaussian(m.expand_as(grid), s.log().expand_as(grid), (grid - m) / s)
    assert torch.trapezoid(log_prob.exp(), action.squeeze(-1)).item() == pytest.approx(1, abs=1e-4)


def test_squashed_log_density_is_finite_where_tanh_saturates():
    """The usual log(1 − tanh² + 1e-6) is off by many nats here; ours keeps growing linearly."""
    x = torch.tensor([[10.0], [20.0], [40.0]], requires_grad=True)
    _, log_prob = tanh_gaussian(x, torch.zeros_like(x), torch.zeros_like(x))
    expected = 2 * x.squeeze(-1) - 2 * np.log(2) - 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(log_prob, expected)
    log_prob.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gaussian_kl_equals_torchs():
    values = [torch.randn(5, 3, generator=generator(i)) for i in range(4)]
    p, q = (values[0], values[1].exp()), (values[2], values[3].exp())
    expected = kl_divergence(Normal(*p), Normal(*q)).sum(-1)
    torch.testing.assert_close(gaussian_kl(*p, *q), expected)
    assert gaussian_kl(*p, *p).abs().max() < 1e-6


def test_an_optimizer_restored_from_its_tree_goes_on_to_the_bit():
    def problem():
        layer = Dense(3, 2, generator())
        return layer, torch.optim.Adam(layer.parameters(), lr=1e-2, fused=True)

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
