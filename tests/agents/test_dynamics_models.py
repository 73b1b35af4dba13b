"""Models of what comes next: three ways of one computation, losses against torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from crl.agents.dynamics import (
    Angles,
    NetworkModel,
    PerceptronModel,
    frozen,
    gaussian,
    mean_step,
    negative_log_likelihood,
)
from crl.memory.generated_network import GeneratedNetwork
from crl.memory.hypernetwork import Hypernetwork
from crl.nn.network import Network
from crl.nn.scaling import Standardizer

OBS, ACT, HEADS = 4, 2, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=generator(seed))


def network_of(kind: str, size_in: int, hidden=(16, 40), **options) -> torch.nn.Module:
    if kind == "generated":
        return GeneratedNetwork(size_in, OBS, hidden, HEADS, generator(),
                                config=Hypernetwork.Config(width=8), **options)
    return Network(size_in, OBS, hidden, HEADS, generator(), **options)


def by_hand(network, head, angles, inputs, changes, obs, actions) -> torch.Tensor:
    """One sequence, one step at a time."""
    seen = [obs]
    for action in actions:
        others = [obs[i] for i in range(OBS) if i not in angles]
        x = torch.stack([*others, *(obs[i].cos() for i in angles), *(obs[i].sin() for i in angles),
                         *action])
        out = network(((x - inputs[0]) * inputs[1])[None], head)[0, :OBS]
        obs = obs + out / changes[1] + changes[0]
        seen.append(obs)
    return torch.stack(seen)


@pytest.mark.parametrize("kind", ["network", "generated"])
@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize("angles", [(), (1,), (0, 3)])
@torch.no_grad()
def test_what_is_imagined_is_the_network_step_by_step(kind, layer_norm, angles):
    seen = Angles(OBS, angles)
    network = network_of(kind, seen.size + ACT, layer_norm=layer_norm)
    inputs = (some(seen.size + ACT, seed=1), some(seen.size + ACT, seed=2).exp())
    changes = (some(OBS, seed=3), some(OBS, seed=4).exp())
    model = frozen(network, 1, seen, inputs, changes)
    assert type(model) is (NetworkModel if layer_norm else PerceptronModel)
    obs, actions = some(5, OBS, seed=5), some(5, 6, ACT, seed=6)
    found = model.imagine(obs, actions)
    expected = torch.stack([by_hand(network, 1, angles, inputs, changes, o, a)
                            for o, a in zip(obs, actions, strict=True)])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    other = frozen(network, 2, seen, inputs, changes).imagine(obs, actions)
    assert not torch.allclose(found, other, atol=1e-2)


def test_a_step_of_models_together_is_the_mean_of_what_each_imagines():
    seen = Angles(OBS, (1,))
    models = [frozen(Network(seen.size + ACT, OBS, (16, 40), HEADS, generator(seed),
                             layer_norm=False), 1, seen,
                     (some(seen.size + ACT, seed=1), some(seen.size + ACT, seed=2).exp()),
                     (some(OBS, seed=3), some(OBS, seed=4).exp())) for seed in range(3)]
    obs, actions = some(5, OBS, seed=5), some(5, ACT, seed=6)
    each = torch.stack([model.imagine(obs, actions[:, None])[:, 1] for model in models])
    assert each.std(0).min() > 1e-3
    torch.testing.assert_close(mean_step(models)(obs, actions), each.mean(0))


def test_a_frozen_model_does_not_learn_on():
    network = network_of("network", OBS + ACT, layer_norm=False)
    scaling = (torch.zeros(OBS + ACT), torch.ones(OBS + ACT)), (torch.zeros(OBS), torch.ones(OBS))
    model = frozen(network, 0, Angles(OBS, ()), *scaling)
    obs, actions = some(3, OBS), some(3, 2, ACT, seed=1)
    before = model.imagine(obs, actions)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1)
    assert torch.equal(model.imagine(obs, actions), before)


def test_angles_change_the_shorter_way_round():
    angles = Angles(3, (1,))
    obs = torch.tensor([[0.0, math.pi - 0.1, 5.0]])
    following = torch.tensor([[1.0, -math.pi + 0.1, -5.0]])
    torch.testing.assert_close(angles.change(obs, following), torch.tensor([[1.0, 0.2, -10.0]]),
                               atol=1e-5, rtol=0)


def test_the_likelihood_is_torchs_with_a_soft_bound():
    out, target = some(50, 2 * OBS), some(50, OBS, seed=1)
    mean, std = gaussian(out)
    log_std = out[:, OBS:] / 2
    expected = -Normal(mean, std).log_prob(target).mean() - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(negative_log_likelihood(out, target), expected)
    assert torch.equal(mean, out[:, :OBS])
    far = gaussian(torch.tensor([[0.0, 100.0], [0.0, -100.0], [0.0, -4.0]])).std[:, 0]
    np.testing.assert_allclose(far.log() * 2, [0.5, -10.0, -4.0], atol=0.02)
    assert (gaussian(out).std.log() < log_std + 1e-3).float().mean() > 0.9  # below the upper bound


def test_the_likelihoods_gradient_by_finite_differences():
    out, target = some(3, 2 * OBS).double().requires_grad_(), some(3, OBS, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: negative_log_likelihood(x, target), (out,))


def test_a_standardizer_keeps_heads_apart():
    scaling, rng = Standardizer(HEADS, 3), np.random.default_rng(0)
    data = rng.normal([5.0, -1e-3, 7.0], [2.0, 1e-4, 0.0], (400, 3)).astype(np.float32)
    scaling.fit(torch.from_numpy(data), 1)
    scaled = scaling(torch.from_numpy(data), 1).numpy()
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(0), [1, 1, 0], atol=1e-3)  # what never moves: centred
    untouched = some(4, 3)
    assert torch.equal(scaling(untouched, 2), untouched)
    mixed = scaling(torch.from_numpy(data[:2]), torch.tensor([1, 0]))
    np.testing.assert_array_equal(mixed, [scaled[0], data[1]])
    again = Standardizer(HEADS, 3)
    again.load_state_dict(scaling.state_dict())
    assert torch.equal(again(torch.from_numpy(data), 1), scaling(torch.from_numpy(data), 1))
