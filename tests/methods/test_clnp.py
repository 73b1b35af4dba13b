"""CLNP: active units and what feeds them stay; the others are cut off, drawn anew and used."""

from __future__ import annotations

import pytest
import torch
from keeping import drift
from visits import fill, make_agent, visit

import crl

KERNELS = ["trunk.dense.0.kernel", "trunk.dense.1.kernel"]


def make(**settings):
    return crl.make_method("clnp", **{"threshold": 0.5, "samples": 200, **settings})


def make_bare(*methods, **settings):
    return make_agent(*methods, **{"layer_norm": False, **settings})


@pytest.mark.parametrize("without", ["freezing", "cutting"])
def test_without_freezing_or_without_cutting_old_policies_change(without):
    method = make()
    agent, stream = make_bare(method)
    if without == "freezing":
        method._frozen.freeze = lambda part, masks: None
    else:
        method._prune = lambda part, head: None
    assert drift(agent, stream) > 0


def silenced(threshold: float = 0.5):
    """An agent after one task in which units 4 to 23 of both layers hardly answered."""
    method = make(threshold=threshold, coefficient=0.0)
    agent, stream = make_bare(method)
    agent.begin_task(stream[0])
    fill(agent, 0)
    with torch.no_grad():
        for dense in agent.actor.trunk.dense:
            dense.kernel[:, 4:] = 0.0
            dense.bias.fill_(1.0)
            dense.bias[4:] = 1e-3
    before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
    agent.end_task(stream[0])
    return agent, stream, method, before


def test_units_are_active_above_the_threshold():
    agent, _, method, _ = silenced()
    assert method.units(agent.parts["actor"]) == [(4, 0, 20), (4, 0, 20)]
    agent, _, method, _ = silenced(threshold=0.0)
    assert method.units(agent.parts["actor"]) == [(24, 0, 0), (24, 0, 0)]


def test_inactive_units_are_cut_off_and_drawn_anew():
    agent, _, _, before = silenced()
    after = dict(agent.actor.named_parameters())
    first, second = (after[name] for name in KERNELS)
    assert torch.equal(first[:, :4], before[KERNELS[0]][:, :4])
    assert torch.equal(second[:4, :4], before[KERNELS[1]][:4, :4])
    assert (second[4:, :4] == 0).all()
    assert (after["heads.items.0.kernel"][4:] == 0).all()
    assert torch.equal(after["heads.items.0.kernel"][:4], before["heads.items.0.kernel"][:4])
    assert torch.equal(after["heads.items.1.kernel"], before["heads.items.1.kernel"])
    for kernel, bound in ((first, 3 ** -0.5), (second, 24 ** -0.5)):
        drawn = kernel[:, 4:].detach()
        assert (drawn != 0).all()
        assert drawn.abs().max() <= bound
        assert drawn.std() == pytest.approx(bound / 3 ** 0.5, rel=0.2)


def test_the_next_task_trains_free_units_alone_and_may_listen_to_active_ones():
    agent, stream, _, _ = silenced()
    before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(20)
    moved = {n: p != before[n] for n, p in agent.actor.named_parameters()}
    for name in KERNELS:
        assert not moved[name][:, :4].any()
    assert moved[KERNELS[0]][:, 4:].float().mean() > 0.5
    assert moved[KERNELS[1]][:4, 4:].float().mean() > 0.5  # from active to free
    assert moved[KERNELS[1]][4:, 4:].float().mean() > 0.3
    assert not moved["heads.items.0.kernel"].any()
    assert moved["heads.items.1.kernel"][:4].all()  # the new head uses old units


def test_units_of_an_earlier_task_that_a_later_one_needs_are_counted_as_reused():
    agent, stream, method, _ = silenced()
    visit(agent, stream[1], gradient_steps=2)
    for units in method.units(agent.parts["actor"]):
        assert units.active + units.free == 24
        assert 0 < units.reused <= 4
        assert units.active > 4


def test_the_penalty_is_the_sum_of_absolute_weights_of_the_hidden_layers():
    method = make(coefficient=0.25)
    agent, _ = make_bare(method)
    part = agent.parts["actor"]
    expected = sum(p.detach().abs().sum() for p in agent.actor.trunk.parameters())
    assert method.loss(part, None).item() == pytest.approx(0.25 * float(expected), rel=1e-5)
    assert method.loss(agent.parts["critic"], None) is None


def test_the_penalty_frees_units():
    def free(coefficient):
        method = make(coefficient=coefficient, threshold=0.1)
        agent, stream = make_bare(method, learning_rate=1e-2)
        visit(agent, stream[0], gradient_steps=150)
        return method.units(agent.parts["actor"])[0].free

    assert free(3e-4) > 1.5 * free(0.0)


def test_layer_normalisation_is_refused():
    with pytest.raises(crl.UserError, match=r"type --set agent\.layer_norm=false"):
        make_agent(make())


@pytest.mark.parametrize(("setting", "value"), [("coefficient", -1.0), ("threshold", 1.0),
                                                ("threshold", -0.1), ("samples", 0)])
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(crl.UserError, match=setting):
        make(**{setting: value})
