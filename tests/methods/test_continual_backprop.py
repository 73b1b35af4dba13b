"""Continual backprop: the utility, who is replaced, and how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from visits import fill, flat, make_agent

import crl
from crl.methods.continual_backprop import contribution


def make(**settings):
    return crl.make_method("continual-backprop", **{"parts": ("actor",), **settings})


def started(*methods):
    """An agent whose hook can be called by hand, on batches of its replay, with no learning."""
    agent, stream = make_agent(*methods)
    agent.begin_task(stream[0])
    fill(agent, 0)
    return agent


def batches(agent, count: int):
    rng = np.random.default_rng(1)
    return [agent.replay.sample(16, rng) for _ in range(count)]


def changed(agent, before) -> list[list[int]]:
    """The units of each hidden layer that have a bias other than ``before``: those recycled."""
    return [(dense.bias != old).nonzero().squeeze(1).tolist()
            for dense, old in zip(agent.actor.trunk.dense, before, strict=True)]


def biases(agent):
    return [dense.bias.detach().clone() for dense in agent.actor.trunk.dense]


def test_the_contribution_counts_the_head_of_each_row():
    rng = torch.Generator().manual_seed(0)
    h = torch.randn(6, 4, generator=rng)
    heads = [torch.randn(4, 3, generator=rng) for _ in range(3)]
    of_row = [0, 2, 2, 0, 0, 2]
    by_hand = [sum(abs(float(h[b, i])) * sum(abs(float(w)) for w in heads[of_row[b]][i])
                   for b in range(6)) / 6 for i in range(4)]
    ours = contribution(h, heads, torch.tensor(of_row))
    assert ours.tolist() == pytest.approx(by_hand, rel=1e-5)
    everyone = h.abs().mean(0) * sum(w.abs().sum(1) for w in heads)  # the control
    assert ours.tolist() != pytest.approx(everyone.tolist(), rel=0.1)
    assert contribution(h, heads, 1).tolist() == pytest.approx(
        (h.abs().mean(0) * heads[1].abs().sum(1)).tolist(), rel=1e-5)


def test_the_unit_of_least_average_utility_goes_first():
    steps, decay = 21, 0.8
    agent = started(make(rate=1 / 24, maturity=steps - 1, decay=decay))
    trunk, head, before = agent.actor.trunk, agent.actor.heads.items[0], biases(agent)
    with torch.no_grad():
        trunk.norm[1].bias.fill_(1.0)  # no unit is silent: no ties
    utility = [np.zeros(24), np.zeros(24)]
    for t, batch in enumerate(batches(agent, steps)):
        features = [h.detach().numpy() for h in agent.actor.features(batch.obs, 0)]
        for i, outgoing in enumerate((trunk.dense[1].kernel, head.kernel)):
            reach = np.abs(outgoing.detach().numpy()).sum(1)
            now = np.abs(features[i]).mean(0) * reach
            utility[i] += (1 - decay) * decay ** (steps - 1 - t) * now
        assert changed(agent, before) == [[], []]
        agent.methods.updated(batch)
    assert changed(agent, before) == [[int(u.argmin())] for u in utility]
    assert now.argmin() != utility[1].argmin(), "the control: the latest alone is another's"


def test_shares_of_a_unit_add_up_and_the_young_are_safe():
    """24 mature units × 0.01 make one in 5 steps; then 23, and one more after 4."""
    agent = started(make(rate=0.01, maturity=10))
    before, counts = biases(agent), []
    for batch in batches(agent, 19):
        agent.methods.updated(batch)
        counts.append([len(units) for units in changed(agent, before)])
    assert counts == [[0, 0]] * 14 + [[1, 1]] * 4 + [[2, 2]]


def test_at_rate_zero_nothing_changes():
    def learned(*methods):
        agent = started(*methods)
        agent.learn(10)
        return flat(agent.actor)

    assert torch.equal(learned(make(rate=0.0, maturity=0)), learned())
    assert not torch.equal(learned(make(rate=0.05, maturity=0)), learned())


def test_it_also_recycles_both_critics():
    agent = started(make(parts=("critic",), rate=0.05, maturity=2))
    agent.learn(5)
    ages = [layer.age for layer in agent.methods.items[0]._layers["critic"]]
    assert len(ages) == 4
    assert all((age < 5).any() and (age == 5).any() for age in ages)


@pytest.mark.parametrize("bad", [{"rate": 1.5}, {"maturity": -1}, {"decay": 1.0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)
