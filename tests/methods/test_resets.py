"""Resets: which layers begin anew, when, and what the optimiser remembers."""

from __future__ import annotations

import pytest
import torch
from visits import fill, flat, make_agent

import crl
from crl import seeding
from crl.nn.network import Network


def make(**settings):
    return crl.make_method("resets", seed=5, **{"period": 6, "parts": ("actor",), **settings})


def learned(steps, *methods, task=0):
    agent, stream = make_agent(*methods)
    agent.begin_task(stream[task])
    fill(agent, 0)
    agent.learn(steps)
    return agent


def differing(agent, other) -> set[str]:
    theirs = dict(other.actor.named_parameters())
    return {n for n, p in agent.actor.named_parameters() if not torch.equal(p, theirs[n])}


LAST = {"heads.items.0.kernel", "heads.items.0.bias"}
SECOND = {f"trunk.{n}" for n in ("dense.1.kernel", "dense.1.bias", "norm.1.weight", "norm.1.bias")}
FIRST = {n.replace("1", "0") for n in SECOND}


@pytest.mark.parametrize(("layers", "anew"), [(1, LAST), (2, LAST | SECOND),
                                              (None, LAST | SECOND | FIRST)])
def test_the_last_layers_are_drawn_anew_and_the_others_are_not(layers, anew):
    plain = learned(6)
    agent = learned(6, make(layers=layers))
    assert differing(agent, plain) == anew  # neither other layers nor heads of other tasks
    state = agent.parts["actor"].optimizer.state
    for name, parameter in agent.actor.named_parameters():
        assert (parameter in state) == (name in FIRST | SECOND | LAST and name not in anew)


def test_before_its_time_nothing_changes():
    assert differing(learned(5, make()), learned(5)) == set()


def test_a_whole_network_is_as_a_new_one():
    agent = learned(6, make(), task=1)
    generator = torch.Generator().manual_seed(seeding.integer(5, "resets"))
    fresh = Network(3, 4, (24, 24), 1, generator)
    assert torch.equal(flat(agent.actor.trunk), flat(fresh.trunk))
    assert torch.equal(flat(agent.actor.heads.items[1]), flat(fresh.heads))


def test_target_critics_follow_slowly():
    plain, agent = learned(6), learned(6, make(parts=("critic",)))
    assert not torch.equal(flat(agent.critics), flat(plain.critics))
    gap = flat(agent.critics) - flat(plain.critics)
    moved = flat(agent.targets["critic"]) - flat(plain.targets["critic"])
    torch.testing.assert_close(moved, (1 - agent.config.polyak) * gap, atol=1e-6, rtol=1e-3)


def test_it_goes_on_learning_and_resetting():
    once, twice = learned(11, make()), learned(12, make())
    assert differing(twice, once) >= FIRST | SECOND | LAST
    assert twice.parts["actor"].optimizer.state == {}
    assert once.parts["actor"].optimizer.state != {}


@pytest.mark.parametrize("bad", [{"period": 0}, {"layers": 0}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(crl.UserError, match=next(iter(bad))):
        make(**bad)


def test_more_layers_than_there_are_is_an_error():
    with pytest.raises(crl.UserError, match="has 3 layers"):
        learned(0, make(layers=4))
