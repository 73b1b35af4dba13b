"""Half fine-tuning: exactly one half moves in a task, another in the next."""

from __future__ import annotations

import pytest
import torch
from visits import fill, make_agent

import crl


def moved_in_each_task(*methods, **settings) -> list[dict[str, torch.Tensor]]:
    """Which entries of each actor parameter moved, task by task."""
    agent, stream = make_agent(*methods, **settings)
    moved = []
    for task in stream:
        before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
        agent.begin_task(task)
        fill(agent, task.head)
        agent.learn(5)
        agent.end_task(task)
        moved.append({n: p != before[n] for n, p in agent.actor.named_parameters()})
    return moved


@pytest.fixture(scope="module", params=[("replay", "optimizer"), ("replay",)])
def moved(request):
    """With the optimiser's moments reset at each task, and with what they were."""
    return moved_in_each_task(crl.make_method("half-fine-tuning", seed=1), reset=request.param)


def frozen(moved_in_task) -> torch.Tensor:
    return torch.cat([~m.flatten() for n, m in moved_in_task.items() if n.startswith("trunk")])


@pytest.mark.parametrize("task", [1, 2])
def test_half_of_every_shared_parameter_stays_in_a_later_task(moved, task):
    for name, entries in moved[task].items():
        if name.startswith("trunk"):
            # A unit that is dead on all the data gets no gradient and stays as well.
            assert 0.45 <= 1 - entries.float().mean() <= 0.6, name


def test_the_first_task_and_the_heads_learn_with_all_weights(moved):
    assert frozen(moved[0]).float().mean() < 0.05
    for task in (0, 1, 2):
        assert moved[task][f"heads.items.{task}.kernel"].float().mean() > 0.9


def test_tasks_freeze_different_halves(moved):
    both = (frozen(moved[1]) & frozen(moved[2])).float().mean()
    assert both == pytest.approx(0.25, abs=0.06)  # as independent halves do


def test_without_it_all_weights_move():
    for task in moved_in_each_task():
        assert frozen(task).float().mean() < 0.05


def test_the_frozen_half_is_exactly_a_half():
    method = crl.make_method("half-fine-tuning")
    agent, stream = make_agent(method)
    for task in stream[:2]:
        agent.begin_task(task)
    masks = {n: method._frozen.mask(agent.parts["actor"], n) for n in agent.parts["actor"].shared}
    for name, mask in masks.items():
        assert mask.sum() == mask.numel() // 2, name


def test_seeds_freeze_different_halves():
    def masks(seed):
        method = crl.make_method("half-fine-tuning", seed=seed)
        agent, stream = make_agent(method)
        for task in stream[:2]:
            agent.begin_task(task)
        return method._frozen.mask(agent.parts["actor"], "trunk.dense.1.kernel")

    assert torch.equal(masks(0), masks(0))
    assert not torch.equal(masks(0), masks(1))


def test_the_critic_can_be_halved_too():
    method = crl.make_method("half-fine-tuning", parts=("critic",))
    agent, stream = make_agent(method)
    for task in stream[:2]:
        agent.begin_task(task)
        fill(agent, task.head)
    part = agent.parts["critic"]
    before = {n: p.detach().clone() for n, p in part.parameters().items()}
    agent.learn(5)
    for name, parameter in part.shared_parameters().items():
        mask = method._frozen.mask(part, name)
        assert torch.equal(parameter[mask], before[name][mask])
        assert (parameter[~mask] != before[name][~mask]).float().mean() > 0.8


def test_an_agent_that_draws_the_actor_anew_is_refused():
    with pytest.raises(crl.UserError, match=r"leave 'actor' out of it"):
        make_agent(crl.make_method("half-fine-tuning"), reset=("replay", "actor"))
