"""PackNet: old policies never change; capacity is shared out as published."""

from __future__ import annotations

import pytest
import torch
from visits import fill, make_agent, outputs, visit

import crl
from crl.methods.packnet import PackNet, prune


def make(**settings) -> PackNet:
    return crl.make_method("packnet", **{"retrain_share": 0.2, **settings})


def test_old_policies_are_kept_although_momentum_is_not_reset():
    """Adam goes on moving weights whose gradient is masked; PackNet puts them back."""
    agent, stream = make_agent(make(), reset=("replay",))
    visit(agent, stream[0])
    before = outputs(agent, stream[0])
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(1)  # leaves momentum behind
    agent.methods.items[0].gradients = lambda: None  # masks nothing from here on
    kernels = [p.detach().clone() for n, p in agent.actor.named_parameters()
               if n.startswith("trunk") and n.endswith("kernel")]
    agent.learn(5)
    owner = agent.methods.items[0]._owner["actor"]
    for (name, mask), old in zip(owner.items(), kernels, strict=True):
        now = dict(agent.actor.named_parameters())[name]
        assert torch.equal(now[mask == 1], old[mask == 1])
        assert not torch.equal(now[mask == 0], old[mask == 0])
    assert before.shape == (64, 2)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_every_task_gets_an_equal_share_of_each_kernel(tasks):
    method = make()
    agent, stream = make_agent(method, tasks=tasks)
    for task in stream:
        visit(agent, task, gradient_steps=2)
    for owner in method._owner["actor"].values():
        counts = torch.bincount(owner.flatten().long(), minlength=len(stream) + 1)
        assert counts[0] == 0  # nothing is left free after the last task
        assert counts[1:].max() - counts[1:].min() <= len(stream)


def test_the_largest_weights_are_kept_and_the_others_zeroed():
    kernel = torch.tensor([[5.0, -4.0, 3.0], [-2.0, 1.0, 0.5]])
    owner = torch.tensor([[1, 0, 0], [0, 0, 0]], dtype=torch.int16)
    prune(kernel, owner, task=2, share=0.6)  # 5 are free, 3 of them go
    assert kernel.tolist() == [[5.0, -4.0, 3.0], [0.0, 0.0, 0.0]]
    assert owner.tolist() == [[1, 2, 2], [0, 0, 0]]


def test_biases_and_normalisation_are_trained_in_the_first_task_only():
    agent, stream = make_agent(make())

    def others():
        return [p.detach().clone() for n, p in agent.actor.named_parameters()
                if n.startswith("trunk") and not n.endswith("kernel")]

    start = others()
    visit(agent, stream[0])
    after_first = others()
    visit(agent, stream[1])
    assert not any(torch.equal(a, b) for a, b in zip(start, after_first, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after_first, others(), strict=True))


def test_retraining_changes_the_kept_weights_only_and_takes_its_share_of_steps():
    agent, stream = make_agent(make(retrain_share=0.2))
    visit(agent, stream[0], gradient_steps=30)
    assert agent.gradient_steps == 30 + 6
    owner = agent.methods.items[0]._owner["actor"]
    for name, mask in owner.items():
        kernel = dict(agent.actor.named_parameters())[name]
        assert (kernel[mask == 0] == 0).all()  # still zero: retraining left free weights alone


def test_the_current_task_uses_all_weights():
    agent, stream = make_agent(make())
    visit(agent, stream[0])
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(5)
    deployed = agent.methods.deployed(agent.parts["actor"], stream[1])
    for name, parameter in agent.actor.named_parameters():
        assert torch.equal(deployed[name], parameter)


def test_an_agent_with_one_head_for_all_is_refused():
    with pytest.raises(crl.UserError, match="head per task"):
        make_agent(make(), multi_head=False)


def test_a_part_that_the_agent_lacks_is_named():
    with pytest.raises(crl.UserError, match=r"needs a part 'world model'.*actor, critic"):
        make_agent(make(parts=("world model",)))
