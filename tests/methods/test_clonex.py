"""Cloning: stored distributions are approached again once the policy has drifted."""

from __future__ import annotations

import pytest
import torch
from visits import fill, make_agent, visit

import crl


def drifted(coefficient: float = 100.0):
    """An agent that finished a task and whose trunk was then pushed away from it."""
    method = crl.make_method("clonex", coefficient=coefficient, samples_per_task=200)
    agent, stream = make_agent(method)
    visit(agent, stream[0])
    agent.begin_task(stream[1])
    fill(agent, 1)
    with torch.no_grad():
        for p in agent.actor.trunk.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
    return agent, method


def divergence(agent, method) -> float:
    with torch.no_grad():
        return sum(method.divergence(agent.parts["actor"]).item() for _ in range(20)) / 20


def test_the_kl_to_the_stored_distribution_falls():
    agent, method = drifted()
    before = divergence(agent, method)
    agent.learn(200)
    assert before > 0.05
    assert divergence(agent, method) < 0.2 * before


def test_without_the_loss_it_does_not_fall():
    agent, method = drifted(coefficient=0.0)
    before = divergence(agent, method)
    agent.learn(200)
    assert divergence(agent, method) > 0.5 * before


def test_right_after_a_task_the_kl_is_zero_and_all_tasks_are_stored():
    method = crl.make_method("clonex", samples_per_task=50)
    agent, stream = make_agent(method)
    visit(agent, stream[0])
    assert divergence(agent, method) == pytest.approx(0, abs=1e-6)
    visit(agent, stream[1])
    assert torch.bincount(method._memory["head"]).tolist() == [50, 50]


def test_the_gradient_of_the_actor_is_clipped():
    method = crl.make_method("clonex", clip_norm=0.1)
    agent, _ = make_agent(method)
    for p in agent.actor.parameters():
        p.grad = torch.ones_like(p)
    method.gradients()
    norm = torch.cat([p.grad.flatten() for p in agent.actor.parameters()]).norm()
    assert norm.item() == pytest.approx(0.1, rel=1e-3)


def test_a_part_without_gaussian_outputs_is_refused():
    with pytest.raises(crl.UserError, match="Gaussian"):
        make_agent(crl.make_method("clonex", part="critic"))
