"""What holds for every registered method, and for several together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from toy import ANYWHERE, corners
from visits import fill, flat, make_agent, outputs, visit

import crl
from crl import checkpoint, registry

FAST = {"packnet": {"retrain_share": 0.1}, "ewc": {"batches": 1, "batch_size": 32},
        "clonex": {"samples_per_task": 100},
        "clnp": {"samples": 100, "threshold": 0.5}, "mas": {"batches": 1, "batch_size": 32},
        "ser": {"samples_per_task": 100},
        "a-gem": {"samples_per_task": 100, "batch_size": 16},
        "gem": {"samples_per_task": 100, "batch_size": 16},
        "redo": {"period": 5, "threshold": 0.3},
        "continual-backprop": {"rate": 0.02, "maturity": 5},
        "resets": {"period": 7, "layers": 2}}
AGENT = {"clnp": {"layer_norm": False}}  # what a method asks of the agent


def make(name: str):
    return crl.make_method(name, seed=5, **FAST.get(name, {}))


@pytest.mark.parametrize("names", [[n] for n in ANYWHERE]
                         + [["ewc", "clonex", "packnet"]], ids="-".join)
def test_a_saved_and_loaded_agent_goes_on_to_the_bit(names, tmp_path):
    settings = {k: v for name in names for k, v in AGENT.get(name, {}).items()}
    agent, stream = make_agent(*map(make, names), **settings)
    for task in stream[:2]:
        visit(agent, task)
    agent.begin_task(stream[2])
    fill(agent, 9)
    agent.learn(3)
    checkpoint.save_tree(agent.state_dict(), tmp_path / "state")
    again, _ = make_agent(*map(make, names), **settings)
    again.load_state_dict(checkpoint.load_tree(tmp_path / "state"))
    for a in (agent, again):
        a.learn(10)
        a.end_task(stream[2])
    assert torch.equal(flat(agent.actor), flat(again.actor))
    assert torch.equal(flat(agent.critics), flat(again.critics))
    for task in stream:
        assert (outputs(agent, task) == outputs(again, task)).all()


@pytest.mark.parametrize("name", ANYWHERE)
def test_a_method_works_on_every_part_of_sac_or_says_what_the_part_lacks(name):
    fields = {f.name for f in dataclasses.fields(registry.methods.load(name).Config)}
    if "parts" in fields:
        choices = [{"parts": ("actor", "critic")}, {"parts": ("critic",)}]
    elif "part" in fields:
        choices = [{"part": "critic"}]
    else:
        pytest.skip("it is for no part in particular")
    def critics(*methods) -> torch.Tensor:
        agent, stream = make_agent(*methods, **AGENT.get(name, {}))
        for task in stream[:2]:
            visit(agent, task, 10)
        return torch.cat([p.flatten() for p in agent.critics.state_dict().values()])

    untouched = critics()
    for choice in choices:
        method = crl.make_method(name, seed=5, **{**FAST.get(name, {}), **choice})
        if "gaussian" in method.needs:
            with pytest.raises(crl.UserError, match="'critic' gives point predictions"):
                make_agent(method, **AGENT.get(name, {}))
            continue
        learned = critics(method)
        assert torch.isfinite(learned).all()
        if name != "ema":  # which changes what is deployed only
            assert not torch.equal(learned, untouched)  # the control: it reaches the critic


@pytest.mark.parametrize("name", registry.methods.names())
def test_a_method_names_its_paper_and_what_it_needs(name):
    method = registry.methods.load(name)
    assert method.name == name
    assert method.paper
    assert set(method.needs) <= {"boundaries", "replay", "fresh replay", "heads", "hidden layers",
                                 "gaussian", "dreams"}
    assert set(method.claims) <= {"kernels", "layers", "activations", "inputs", "policy",
                                  "rehearsal"}
    assert method.__doc__


def test_packnet_promises_hold_in_company():
    agent, stream = make_agent(*map(make, ["ewc", "clonex", "packnet"]))
    visit(agent, stream[0])
    before = outputs(agent, stream[0])
    for task in stream[1:]:
        visit(agent, task)  # cloning would train the old heads too
        assert (outputs(agent, stream[0]) == before).all()


def test_a_method_that_needs_boundaries_is_refused_where_they_are_hidden(tmp_path):
    stream = corners(boundaries="hidden")
    agent = crl.make_agent("sac", stream)
    with pytest.raises(crl.UserError, match="needs to know task boundaries"):
        crl.train(agent, stream, ["ewc"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_method_can_be_given_once():
    agent = crl.make_agent("sac", corners())
    with pytest.raises(crl.UserError, match="once"):
        agent.attach([make("ewc"), make("ewc")])


@pytest.mark.parametrize("name", ["ewc", "packnet"])
def test_a_part_can_be_named_once(name):
    with pytest.raises(crl.UserError, match="each of its parts once; got actor, actor"):
        make_agent(crl.make_method(name, parts=("actor", "actor")))
