"""L2 Init: weights in use are pulled to where they began, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy import corners
from visits import fill, make_agent, visit

import crl


def far(agent, begun, names) -> float:
    parameters = dict(agent.actor.named_parameters())
    return torch.cat([(parameters[n] - begun[n]).flatten() for n in names]).detach().norm().item()


def snapshot(agent) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in agent.actor.named_parameters()}


@pytest.mark.parametrize("part", ["actor", "critic"])
def test_its_gradient_is_the_closed_form_on_shared_parameters_and_the_heads_of_the_batch(part):
    method = crl.make_method("l2-init", coefficient=0.3)
    agent, stream = make_agent(method)
    part = agent.parts[part]
    begun = {n: p.detach().clone() for n, p in part.parameters().items()}
    agent.begin_task(stream[0])
    fill(agent, 0)
    with torch.no_grad():
        for p in part.parameters().values():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    batch = agent.replay.take(torch.arange(6).numpy())
    for head, heads in ((1, [1]), (torch.tensor([0, 2, 2, 0, 0, 2]), [0, 2])):
        part.module.zero_grad()
        method.loss(part, replace(batch, head=head)).backward()
        used = {*part.shared, *(n for h in heads for n in part.heads[h])}
        for name, parameter in part.parameters().items():
            if name in used:
                expected = 2 * 0.3 * (parameter.detach() - begun[name])
                torch.testing.assert_close(parameter.grad, expected)
            else:
                assert parameter.grad is None


def test_it_pulls_back_to_the_beginning_even_after_tasks():
    def distance(*methods) -> float:
        agent, stream = make_agent(*methods)
        begun = snapshot(agent)
        visit(agent, stream[0], 50)
        visit(agent, stream[1], 100)
        return far(agent, begun, agent.parts["actor"].shared)

    near = 0.3 * distance()
    assert distance(crl.make_method("l2-init", coefficient=10.0)) < near
    assert distance(crl.make_method("l2", coefficient=10.0)) > near  # anchored where a task ended


def test_heads_of_other_tasks_are_left_alone():
    agent, stream = make_agent(crl.make_method("l2-init", coefficient=10.0))
    visit(agent, stream[0])
    before = snapshot(agent)
    visit(agent, stream[1])
    heads = agent.parts["actor"].heads
    for name in (*heads[0], *heads[2]):
        assert torch.equal(dict(agent.actor.named_parameters())[name], before[name])
    assert far(agent, before, heads[1]) > 0


def test_hidden_boundaries_are_no_matter(tmp_path):
    def distance(name, *methods) -> float:
        stream = corners(tasks=2, steps=50, boundaries="hidden")
        agent = crl.make_agent("sac", stream, hidden=(8,), batch_size=8, start_steps=0,
                               update_after=0)
        begun = snapshot(agent)
        crl.train(agent, stream, methods, out=tmp_path / name, eval_episodes=1)
        return far(agent, begun, begun)

    pulled = distance("pulled", crl.make_method("l2-init", coefficient=1e3))
    assert pulled < 0.5 * distance("free")
