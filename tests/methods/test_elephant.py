"""Elephant activations: value and gradient, where they act, and what they save from forgetting."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from visits import fill, flat, make_agent

import crl
from crl.methods.elephant import Elephant, ElephantActivation, use_elephants
from crl.nn.network import Network


def make(**settings):
    return crl.make_method("elephant", **settings)


def activation(**settings) -> ElephantActivation:
    module = ElephantActivation(3, Elephant.Config(**settings)).double()
    with torch.no_grad():
        module.log_h += torch.tensor([0.0, 0.3, -0.7])
        module.log_sigma += torch.tensor([0.0, -0.4, 0.5])
    return module


@pytest.mark.parametrize("d", [2.0, 4.0, 8.0])
def test_value_and_gradients_agree_with_the_formula_and_finite_differences(d):
    module = activation(d=d, h=2.0, sigma=0.5)
    x = torch.linspace(-2, 2, 21, dtype=torch.float64).repeat(3, 1).T.clone().requires_grad_()
    h, sigma = (np.exp(p.detach().numpy()) for p in (module.log_h, module.log_sigma))
    by_hand = h / (1 + np.abs(x.detach().numpy() / sigma) ** d)
    np.testing.assert_allclose(module(x, 0).detach().numpy(), by_hand, rtol=1e-12)

    def value(x, log_h, log_sigma):
        parameters = {"log_h": log_h, "log_sigma": log_sigma}
        return torch.func.functional_call(module, parameters, (x, 0))
    assert torch.autograd.gradcheck(value, (x, module.log_h, module.log_sigma))


def test_it_acts_near_zero_only():
    x = torch.tensor([0.0, 0.7, 1.0, 6.0, -6.0], dtype=torch.float64, requires_grad=True)
    module = ElephantActivation(1, Elephant.Config())
    y = module(x.unsqueeze(1), 0).squeeze(1)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert y[0].item() == 1
    assert y[2].item() == 0.5
    assert slope[0] == 0
    assert slope[1].abs() > 0.5
    assert y[3:].max() < 1e-3
    assert slope[3:].abs().max() < 1e-3  # the control, ReLU: 6 and 1
    assert torch.relu(x)[3] == 6


def started(*methods):
    agent, stream = make_agent(*methods)
    agent.begin_task(stream[0])
    fill(agent, 0)
    return agent


def test_all_networks_of_the_agent_have_them_and_learn_them():
    agent = started(make())
    networks = [agent.actor, *agent.critics.twins, *agent.targets["critic"].twins]
    for network in networks:
        assert not network.plain
        for dense, units in zip(network.trunk.dense, network.trunk.activation, strict=True):
            assert units.log_h.shape == units.log_sigma.shape == dense.bias.shape
            gaps = torch.diff(dense.bias)
            torch.testing.assert_close(gaps, gaps.mean().expand(23))
            assert dense.bias.max().item() == pytest.approx(2 * math.sqrt(3))
    part = agent.parts["actor"]
    names = {f"trunk.activation.{i}.{n}" for i in range(2) for n in ("log_h", "log_sigma")}
    assert names <= set(part.shared)
    assert part.kernels == ("trunk.dense.0.kernel", "trunk.dense.1.kernel")
    before = [flat(network.trunk.activation) for network in networks]
    agent.learn(10)
    assert all((flat(n.trunk.activation) != old).any()
               for n, old in zip(networks, before, strict=True))


def test_a_part_that_is_not_named_stays_plain():
    agent = started(make(parts=("critic",)))
    assert agent.actor.plain
    assert not any(twin.plain for twin in agent.critics.twins)


def test_a_part_that_the_agent_would_draw_anew_is_refused():
    with pytest.raises(crl.UserError, match="leave 'critic' out"):
        make_agent(make(), reset=("replay", "critic"))


@pytest.mark.parametrize("bad", [{"d": 1.9}, {"h": 0.0}, {"sigma": -1.0}, {"bias_std": -1.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)


def streamed(elephant: bool, learning_rate: float = 3e-4) -> float:
    """Mean squared error on sin πx over [0, 2] after one pass from left to right."""
    generator = torch.Generator().manual_seed(0)
    network = Network(1, 1, (300,), 1, generator, layer_norm=elephant)
    if elephant:
        use_elephants(network.trunk, Elephant.Config(d=8, sigma=0.08, bias_std=1.28))
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    x = torch.linspace(0, 2, 100).unsqueeze(1)
    y = torch.sin(math.pi * x)
    for i in range(len(x)):
        for _ in range(10):
            optimizer.zero_grad()
            (network(x[i:i + 1], 0) - y[i:i + 1]).square().mean().backward()
            optimizer.step()
    with torch.no_grad():
        return (network(x, 0) - y).square().mean().item()


def test_they_forget_less_of_a_stream_than_relu():
    assert streamed(elephant=True) < 0.5 * streamed(elephant=False)
