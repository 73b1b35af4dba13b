"""Frozen entries stay to the last bit; the others move."""

from __future__ import annotations

import pytest
import torch
from visits import fill, make_agent

from crl.methods.freezing import FrozenEntries, whole

KERNEL, BIAS = "trunk.dense.1.kernel", "trunk.dense.1.bias"


class Hooks:
    """The part of a method that the agent calls."""

    def __init__(self, frozen, gradients=True, updated=True):
        self.frozen, self.on = frozen, (gradients, updated)

    def rehearse(self, batch):
        return batch

    def losses(self, part, batch):
        return []

    def gradients(self):
        if self.on[0]:
            self.frozen.gradients()

    def updated(self, batch):
        if self.on[1]:
            self.frozen.updated()


def moved(gradients=True, updated=True):
    """Which entries of a kernel moved, its mask, and whether a bias frozen as a whole did."""
    agent, _ = make_agent()
    fill(agent, 0)
    agent.learn(3)  # leaves momentum behind
    part = agent.parts["actor"]
    frozen = FrozenEntries([part])
    mask = torch.rand(24, 24, generator=torch.Generator().manual_seed(0)) < 0.5
    frozen.freeze(part, {KERNEL: mask, **whole(part, [BIAS])})
    agent.methods = Hooks(frozen, gradients, updated)
    before = {n: p.detach().clone() for n, p in part.parameters().items()}
    agent.learn(3)
    after = part.parameters()
    return before[KERNEL] != after[KERNEL], mask, not torch.equal(before[BIAS], after[BIAS])


def test_exactly_the_frozen_entries_stay():
    kernel, mask, bias = moved()
    assert torch.equal(kernel, ~mask)
    assert not bias


def test_without_putting_back_momentum_moves_them():
    kernel, mask, bias = moved(updated=False)
    assert kernel[mask].float().mean() > 0.9
    assert not bias  # it had no gradient, so its optimiser left it alone


def test_without_either_hook_all_move():
    kernel, _, bias = moved(gradients=False, updated=False)
    assert kernel.float().mean() > 0.9
    assert bias


def test_a_gradient_that_another_method_adds_later_does_not_move_them():
    kernel, mask, bias = moved(gradients=False)
    assert torch.equal(kernel, ~mask)
    assert not bias


def test_freezing_more_keeps_what_was_frozen_and_release_frees_all():
    agent, _ = make_agent()
    part = agent.parts["actor"]
    frozen = FrozenEntries([part])
    first, second = torch.zeros(2, 24, 24, dtype=torch.bool)
    first[0], second[1] = True, True
    frozen.freeze(part, {KERNEL: first})
    frozen.freeze(part, {KERNEL: second})
    assert torch.equal(frozen.mask(part, KERNEL), first | second)
    frozen.release()
    assert not frozen.mask(part, KERNEL).any()


@pytest.mark.parametrize("saved", [True, False])
def test_they_stay_after_saving_and_loading(saved):
    agent, _ = make_agent()
    part = agent.parts["actor"]
    frozen, again = FrozenEntries([part]), FrozenEntries([part])
    mask = torch.arange(24) < 12
    frozen.freeze(part, {BIAS: mask})
    if saved:
        again.load_state_dict(frozen.state_dict())
    bias = part.parameters()[BIAS]
    bias.grad = torch.ones_like(bias)
    again.gradients()
    assert torch.equal(bias.grad, (~mask).float()) == saved
