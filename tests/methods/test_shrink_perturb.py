"""Shrink and perturb against networks drawn by the agent's own class."""

from __future__ import annotations

import pytest
import torch
from toy import corners
from visits import fill, flat, make_agent, visit

import crl
from crl import seeding
from crl.methods.shrink_perturb import shrink_and_perturb
from crl.nn.network import Network


def make(**settings):
    return crl.make_method("shrink-and-perturb", seed=5, **settings)


def drawn(networks: int, size_in: int, size_out: int, heads: int = 1) -> list[Network]:
    """New networks, from the generator that the method has."""
    generator = torch.Generator().manual_seed(seeding.integer(5, "shrink-and-perturb"))
    return [Network(size_in, size_out, (24, 24), heads, generator) for _ in range(networks)]


@pytest.mark.parametrize(("name", "sizes"), [("actor", (1, 3, 4)), ("critic", (2, 5, 1))])
def test_weights_become_the_shrunk_plus_a_little_of_a_new_network(name, sizes):
    agent, stream = make_agent(make(parts=(name,), shrink=0.4, perturb=0.1), multi_head=False)
    visit(agent, stream[0])
    networks = agent.parts[name].networks
    old = [flat(network) for network in networks]
    agent.begin_task(stream[1])
    for network, before, fresh in zip(networks, old, drawn(*sizes), strict=True):
        torch.testing.assert_close(flat(network), 0.4 * before + 0.1 * flat(fresh))
        assert not torch.allclose(flat(network), 0.4 * before, atol=1e-3)  # the control: shrunk


def test_a_head_per_task_is_left_alone():
    agent, stream = make_agent(make())
    visit(agent, stream[0])
    heads, trunk = flat(agent.actor.heads), flat(agent.actor.trunk)
    agent.begin_task(stream[1])
    assert torch.equal(flat(agent.actor.heads), heads)
    (fresh,) = drawn(1, 3, 4, heads=3)
    torch.testing.assert_close(flat(agent.actor.trunk), 0.6 * trunk + 0.01 * flat(fresh.trunk))


def test_the_norm_is_as_expected():
    """E‖λθ + σθ₀‖² = λ²‖θ‖² + σ²n/(3·in) for the uniform draws of a kernel."""
    agent, _ = make_agent(hidden=(200, 300))
    part, kernel = agent.parts["actor"], agent.actor.trunk.dense[1].kernel
    before = kernel.detach().square().sum().item()
    shrink_and_perturb(part, 0.5, 2.0, torch.Generator().manual_seed(0))
    after = kernel.detach().square().sum().item()
    assert after == pytest.approx(0.25 * before + 4 * 200 * 300 / (3 * 200), rel=0.02)


def test_the_first_task_begins_as_ever_and_later_ones_do_not():
    plain, stream = make_agent()
    agent, _ = make_agent(make())
    for a in (plain, agent):
        visit(a, stream[0])
    assert torch.equal(flat(agent.actor), flat(plain.actor))
    for a in (plain, agent):
        a.begin_task(stream[1])
    assert not torch.equal(flat(agent.actor), flat(plain.actor))


def test_a_period_counts_gradient_steps():
    plain, stream = make_agent()
    agent, _ = make_agent(make(period=6))
    same = []
    for a in (plain, agent):
        a.begin_task(stream[0])
        fill(a, 0)
    for _ in range(7):
        for a in (plain, agent):
            a.learn(1)
        same.append(torch.equal(flat(agent.actor), flat(plain.actor)))
    assert same == [True] * 5 + [False] * 2


def test_hidden_boundaries_need_a_period():
    agent = crl.make_agent("sac", corners(boundaries="hidden"))
    with pytest.raises(crl.UserError, match=r"shrink-and-perturb\.period"):
        agent.attach([make()])
    agent.attach([make(period=10)])


@pytest.mark.parametrize("bad", [{"shrink": 1.1}, {"perturb": -1.0}, {"period": 0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)
