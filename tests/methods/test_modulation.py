"""Modulation: identity at first; a slot for each later task; old tasks to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from keeping import drift, mixed_batch
from toy import corners
from visits import fill, flat, make_agent, outputs, visit

import crl
from crl.stream import Task, TaskStream

KINDS = ["lora", "film"]
TENSORS = {"lora": {"a", "b"}, "film": {"scale", "shift"}}


def make(**settings):
    return crl.make_method("modulation", **settings)


def own(agent, head: int) -> dict[str, torch.nn.Parameter]:
    """The parameters of a head's slot, by name."""
    return {n: p for n, p in agent.actor.named_parameters() if f".slots.{head}." in n}


@pytest.mark.parametrize("kind", KINDS)
def test_at_first_it_changes_nothing(kind):
    plain, stream = make_agent()
    modulated, _ = make_agent(make(kind=kind))
    for task in stream:
        assert np.allclose(outputs(plain, task), outputs(modulated, task), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_task_trains_the_network_and_later_ones_their_slot_and_head(kind):
    agent, stream = make_agent(make(kind=kind))
    assert not own(agent, 0)
    layers = {f"trunk.{n}.{i}.{p}" for i in range(2)
              for n, p in [("dense", "kernel"), ("dense", "bias"),
                           ("norm", "weight"), ("norm", "bias")]}
    for task in stream:
        before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
        agent.begin_task(task)
        fill(agent, task.head)
        agent.learn(5)
        agent.end_task(task)
        moved = {n for n, p in agent.actor.named_parameters() if not torch.equal(p, before[n])}
        slot = {f"trunk.dense.{i}.slots.{task.head}.{n}" for i in range(2) for n in TENSORS[kind]}
        head = {f"heads.items.{task.head}.{n}" for n in ("kernel", "bias")}
        assert moved == head | (slot if task.head else layers)


@pytest.mark.parametrize("kind", KINDS)
def test_old_policies_stay_to_the_bit_and_without_freezing_do_not(kind):
    for frozen in (True, False):
        method = make(kind=kind)
        agent, stream = make_agent(method, reset=("replay",))  # momentum outlasts a task
        if not frozen:
            method._frozen.freeze = lambda part, masks: None
        assert (drift(agent, stream) == 0) == frozen


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_computed_with_the_slot_of_its_head(kind):
    agent, stream = make_agent(make(kind=kind))
    for task in stream:
        visit(agent, task)
    batch, network = mixed_batch(), agent.actor
    with torch.no_grad():
        out = network(batch.obs, batch.head)
        for head in range(3):
            rows = batch.head == head
            assert torch.allclose(out[rows], network(batch.obs[rows], head), atol=1e-6)
            features, others = (network.features(batch.obs[rows], h)[-1]
                                for h in (head, (head + 1) % 3))
            assert not torch.allclose(features, others, atol=1e-3)


def test_a_later_task_begins_with_what_the_first_one_learned():
    agent, stream = make_agent(make())
    visit(agent, stream[0])
    visit(agent, stream[1])
    obs = mixed_batch().obs
    with torch.no_grad():
        first, second, third = (agent.actor.features(obs, head)[-1] for head in range(3))
    assert torch.allclose(first, third, atol=1e-6)
    assert not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_slot_learns_what_a_head_alone_cannot(kind):
    """What another network says, on the frozen one of the first task."""
    errors = []
    for names in ((".slots.1.", "heads.items.1."), ("heads.items.1.",)):
        agent, stream = make_agent(make(kind=kind), tasks=2)
        visit(agent, stream[0])
        network = agent.actor
        obs = torch.randn(256, 3, generator=torch.Generator().manual_seed(0))
        target = (3 * obs[:, :2]).sin().repeat(1, 2)
        optimizer = torch.optim.Adam([p for n, p in network.named_parameters()
                                      if any(name in n for name in names)], 1e-2)
        for _ in range(300):
            optimizer.zero_grad()
            error = (network(obs, 1) - target).square().mean()
            error.backward()
            optimizer.step()
        errors.append(float(error.detach()))
    assert errors[0] < 0.5 * errors[1]


def test_critics_are_modulated_if_named():
    agent, stream = make_agent(make(parts=("actor", "critic")))
    visit(agent, stream[0])
    before = flat(agent.critics.twins[1].trunk.norm)
    visit(agent, stream[1])
    assert torch.equal(flat(agent.critics.twins[1].trunk.norm), before)
    slots = [p for n, p in agent.critics.named_parameters() if ".slots.1.b" in n]
    assert len(slots) == 4
    assert all((p != 0).any() for p in slots)


def test_slots_are_drawn_from_the_methods_seed():
    drawn = [own(make_agent(crl.make_method("modulation", seed=seed))[0], 1) for seed in (0, 0, 1)]
    name = "trunk.dense.0.slots.1.a"
    assert torch.equal(drawn[0][name], drawn[1][name])
    assert not torch.equal(drawn[0][name], drawn[2][name])


@pytest.mark.parametrize(("other", "claim"), [("packnet", "kernels"), ("ema", "policy")])
def test_it_shares_neither_the_weights_nor_what_is_deployed(other, claim):
    with pytest.raises(crl.UserError, match=f"cannot share the {claim} of the actor"):
        make_agent(make(), crl.make_method(other))


def test_what_it_cannot_do_is_refused():
    with pytest.raises(crl.UserError, match="head per task"):
        make_agent(make(), multi_head=False)
    with pytest.raises(crl.UserError, match="rank must be above 0"):
        make(rank=0)
    with pytest.raises(crl.UserError, match="kind must be one of lora, film"):
        make(kind="prefix")
    swapped = TaskStream([Task(t.name, t.make, t.steps, 1 - t.head) for t in corners(2)])
    with pytest.raises(crl.UserError, match=r"heads numbered as they come, got \[1, 0\]"):
        crl.make_agent("sac", swapped).attach([make()])
