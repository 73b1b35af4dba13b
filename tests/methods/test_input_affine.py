"""Input-space tuning: identity at first; the network in its place; old tasks to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from keeping import mixed_batch
from visits import fill, flat, make_agent, outputs, visit

import crl


def make(**settings):
    return crl.make_method("input-affine", **settings)


def test_at_first_it_changes_nothing():
    plain, stream = make_agent()
    tuned, _ = make_agent(make())
    for task in stream:
        assert np.array_equal(outputs(plain, task), outputs(tuned, task))


def test_each_head_has_an_affine_map_of_its_own():
    agent, _ = make_agent(make())
    network, batch = agent.actor, mixed_batch()
    with torch.no_grad():
        for head, (scale, shift) in enumerate([(2.0, 0.5), (-1.0, 0.0), (0.5, -3.0)]):
            own = network.input.own(head)
            own["scale"].fill_(scale)
            own["shift"].fill_(shift)
            rows = batch.head == head
            mapped = network.trunk(batch.obs[rows] * scale + shift, head)[-1]
            expected = network.heads(mapped, head)
            assert torch.allclose(network(batch.obs, batch.head)[rows], expected, atol=1e-6)


def test_a_later_task_moves_its_own_affine_map_and_head_and_nothing_else():
    agent, stream = make_agent(make())
    visit(agent, stream[0])
    before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(5)
    moved = {n for n, p in agent.actor.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {f"{n}.items.1.{p}" for n, p in [("input.heads", "scale"),
                     ("input.heads", "shift"), ("heads", "kernel"), ("heads", "bias")]}


def test_the_first_task_trains_the_network():
    agent, stream = make_agent(make())
    before = flat(agent.actor.trunk)
    visit(agent, stream[0])
    assert not torch.equal(before, flat(agent.actor.trunk))


@pytest.mark.parametrize(("other", "claim"), [("packnet", "kernels"), ("ema", "policy")])
def test_it_shares_neither_the_weights_nor_what_is_deployed(other, claim):
    with pytest.raises(crl.UserError, match=f"cannot share the {claim} of the actor"):
        make_agent(make(), crl.make_method(other))


def test_an_agent_with_one_head_for_all_is_refused():
    with pytest.raises(crl.UserError, match="head per task"):
        make_agent(make(), multi_head=False)
