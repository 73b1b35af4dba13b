"""Recycled units: what the network computes loses their contribution and nothing else."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from toy import corners
from visits import fill, flat, make_agent

import crl
from crl.methods.recycling import recycle


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained(steps: int = 10, **settings):
    agent, stream = make_agent(**settings)
    agent.begin_task(stream[0])
    fill(agent, 0)
    agent.learn(steps)
    return agent


UNITS = [torch.tensor([2, 7]), torch.tensor([0, 5, 11])]


def outputs(part) -> list[torch.Tensor]:
    """Of every network of a part, of every head."""
    width = len(part.networks[0].trunk.dense[0].kernel)
    x = torch.randn(32, width, generator=generator(8))
    return [network(x, head).detach() for network in part.networks
            for head in range(len(network.heads.items))]


def silence(part) -> list[torch.Tensor]:
    """The outputs with the outgoing weights of UNITS at zero, and nothing else changed."""
    kept = copy.deepcopy(part.module.state_dict())
    with torch.no_grad():
        for layer, units in zip(part.layers, UNITS * len(part.networks), strict=True):
            for name in layer.outgoing:
                part.parameters()[name][units] = 0.0
    expected = outputs(part)
    part.module.load_state_dict(kept)
    return expected


@pytest.mark.parametrize("name", ["actor", "critic"])
def test_every_head_loses_the_contribution_of_the_units_and_no_more(name):
    part = trained(layer_norm=False).parts[name]
    before, expected = outputs(part), silence(part)
    recycle(part, UNITS * len(part.networks), generator())
    for ours, silenced, old in zip(outputs(part), expected, before, strict=True):
        assert torch.equal(ours, silenced)
        assert not torch.allclose(ours, old, atol=1e-3), "the control: they had a say"


def test_a_silent_unit_is_not_missed():
    part = trained(layer_norm=False).parts["actor"]
    kernel, (bias,), *_ = part.layers[0]
    with torch.no_grad():
        part.parameters()[kernel][:, 4] = 0.0
        part.parameters()[bias][4] = -1.0
    before = outputs(part)
    recycle(part, [torch.tensor([4]), torch.tensor([], dtype=torch.int64)], generator())
    assert all(torch.equal(a, b) for a, b in zip(outputs(part), before, strict=True))


@pytest.mark.parametrize(("width", "bound"), [(16, 0.5), (256, 0.05)])
def test_layer_normalisation_passes_a_little_on_the_less_the_wider(width, bound):
    """No exact equality there: a new unit takes part in the mean and variance of its layer."""
    part = trained(hidden=(width, width)).parts["actor"]
    units, none = torch.tensor([3]), torch.tensor([], dtype=torch.int64)
    with torch.no_grad():
        for name in part.layers[0].outgoing:
            part.parameters()[name][units] = 0.0
    before = outputs(part)
    recycle(part, [units, none], generator())
    change = max(((a - b).norm() / b.norm()).item()
                 for a, b in zip(outputs(part), before, strict=True))
    assert 0 < change < bound


@pytest.mark.parametrize("layer_norm", [True, False])
def test_exactly_the_entries_of_the_units_and_their_moments_begin_anew(layer_norm):
    part = trained(layer_norm=layer_norm).parts["actor"]
    mask = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in part.parameters().items()}
    outgoing = copy.deepcopy(mask)
    for layer, units in zip(part.layers, UNITS, strict=True):
        mask[layer.kernel][:, units] = True
        for name in layer.vectors:
            mask[name][units] = True
        for name in layer.outgoing:
            outgoing[name][units] = True
    old = {n: p.detach().clone() for n, p in part.parameters().items()}
    state = part.optimizer.state
    moments = {n: copy.deepcopy(state[p]) for n, p in part.parameters().items() if p in state}
    recycle(part, UNITS, generator())

    for name, parameter in part.parameters().items():
        touched = mask[name] | outgoing[name]
        assert torch.equal(parameter[~touched], old[name][~touched])
        assert (parameter[outgoing[name]] == 0).all()
        fresh = mask[name] & ~outgoing[name]
        assert (parameter[fresh] != old[name][fresh]).all()
        if name not in moments:
            continue
        for kind in ("exp_avg", "exp_avg_sq"):
            now = state[parameter][kind]
            assert (now[touched] == 0).all()
            assert torch.equal(now[~touched], moments[name][kind][~touched])
        if touched.any():  # the control: there was something to lose
            assert (moments[name]["exp_avg"][touched] != 0).any()
        assert state[parameter]["step"] == moments[name]["step"] > 0
    for layer, units in zip(part.layers, UNITS, strict=True):
        for name, value in zip(layer.norm, (1.0, 0.0), strict=False):
            assert (part.parameters()[name][units] == value).all()


@pytest.mark.parametrize(("index", "size_in"), [(0, 3), (1, 24)])
def test_new_weights_are_of_the_initial_distribution(index, size_in):
    part = trained().parts["actor"]
    with torch.no_grad():
        for parameter in part.parameters().values():
            parameter.mul_(10)
    every, none = torch.arange(24), torch.tensor([], dtype=torch.int64)
    recycle(part, [every if i == index else none for i in range(2)], generator())
    layer, bound = part.layers[index], 1 / math.sqrt(size_in)
    kernel, bias = (part.parameters()[name] for name in (layer.kernel, layer.vectors[0]))
    assert max(kernel.abs().max(), bias.abs().max()) <= bound
    assert kernel.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
    assert bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.3)


@pytest.mark.parametrize("settings", [
    ("redo", {"period": 4, "threshold": 0.5}), ("resets", {"period": 4, "layers": 1}),
    ("continual-backprop", {"rate": 0.1, "maturity": 2}), ("shrink-and-perturb", {"period": 4}),
], ids=lambda settings: settings[0])
def test_what_draws_weights_anew_needs_no_task_boundaries(settings):
    name, values = settings
    learned = []
    for methods in ([crl.make_method(name, **values)], []):
        agent = crl.make_agent("sac", corners(boundaries="hidden"), hidden=(24, 24), batch_size=16)
        agent.attach(methods)
        fill(agent, 0)
        agent.learn(5)
        learned.append([flat(module) for module in (agent.actor, agent.critics)])
    assert not any(torch.equal(ours, plain) for ours, plain in zip(*learned, strict=True))
