"""Relevance masks: the masked function, its straight-through gradient, old tasks to the bit."""

from __future__ import annotations

import pytest
import torch
from keeping import drift, mixed_batch
from visits import fill, make_agent, visit

import crl

KERNELS = ["trunk.dense.0.kernel", "trunk.dense.1.kernel"]


def make(**settings):
    return crl.make_method("relevance-masks", **settings)


def test_with_masks_alone_old_policies_change():
    method = make()
    agent, stream = make_agent(method)
    method._frozen.freeze = lambda part, masks: None
    assert drift(agent, stream) > 0


def test_every_head_computes_with_the_weights_its_scores_let_through():
    """Against a network without masks whose kernels have zeros there."""
    agent, _ = make_agent(make())
    plain, _ = make_agent()
    batch, masked, reference = mixed_batch(), agent.actor, dict(plain.actor.named_parameters())
    for head in range(3):
        with torch.no_grad():
            for name, parameter in masked.named_parameters():
                if name in reference:
                    reference[name].copy_(parameter)
            for layer, name in zip(masked.trunk.dense, KERNELS, strict=True):
                reference[name][layer.own(head)["scores"] <= 0] = 0
            rows = batch.head == head
            found = masked(batch.obs, batch.head)[rows]
            expected = plain.actor(batch.obs[rows], head)
        assert torch.allclose(found, expected, atol=1e-6)


def test_the_gradient_is_that_of_the_masked_kernel_straight_through():
    agent, _ = make_agent(make())
    layer = agent.actor.trunk.dense[1]
    x = torch.randn(16, 24, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(16, 24, generator=torch.Generator().manual_seed(1))
    (layer(x, 1) * weight).sum().backward()
    at_kernel = x.t() @ weight
    scores = layer.own(1)["scores"]
    sigmoid = torch.sigmoid(scores.detach())
    assert torch.allclose(layer.kernel.grad, at_kernel * (scores > 0), atol=1e-5)
    expected = at_kernel * layer.kernel.detach() * sigmoid * (1 - sigmoid)
    assert torch.allclose(scores.grad, expected, atol=1e-5)
    assert layer.own(0)["scores"].grad is None


def test_a_finished_task_owns_the_weights_its_mask_lets_through_and_no_others():
    method = make()
    agent, stream = make_agent(method, hidden=(64, 64))
    visit(agent, stream[0])
    masks = [layer.mask(0).clone() for layer in agent.actor.trunk.dense]
    before = [layer.kernel.detach().clone() for layer in agent.actor.trunk.dense]
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(20)
    for layer, used, kernel in zip(agent.actor.trunk.dense, masks, before, strict=True):
        assert torch.equal(layer.kernel[used], kernel[used])
        # Some others are outside the second mask, or behind a unit that is dead.
        assert (layer.kernel != kernel)[~used].float().mean() > 0.3


@pytest.mark.parametrize("density", [0.2, 0.5])
def test_free_weights_dwindle_as_independent_masks_take_them(density):
    method = make(density=density)
    agent, stream = make_agent(method, hidden=(64, 64))
    assert method.free(agent.parts["actor"]) == 1
    for finished, task in enumerate(stream, start=1):
        visit(agent, task, gradient_steps=2)
        expected = (1 - density) ** finished
        assert method.free(agent.parts["actor"]) == pytest.approx(expected, abs=0.03)


def test_masks_learn():
    agent, stream = make_agent(make())
    before = agent.actor.trunk.dense[1].mask(0).clone()
    visit(agent, stream[0], gradient_steps=100)
    changed = (agent.actor.trunk.dense[1].mask(0) != before).float().mean()
    assert 0.01 < changed < 0.5


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_a_density_that_masks_all_or_nothing_is_refused(density):
    with pytest.raises(crl.UserError, match="density must be between 0 and 1"):
        make(density=density)
