"""Rank updates: the factorised function, its rank, what learns when, old tasks to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from keeping import drift, mixed_batch
from visits import fill, make_agent, outputs, visit

import crl


def make(**settings):
    return crl.make_method("rank-updates", **settings)


def kernel(layer, head: int) -> torch.Tensor:
    """U diag(s) Vᵀ, written out."""
    s = layer.own(head)["selector"].detach()
    u, v = layer.u.detach(), layer.v.detach()
    return sum(s[i] * torch.outer(u[:, i], v[:, i]) for i in range(len(s)))


def test_with_factors_alone_old_policies_change():
    method = make()
    agent, stream = make_agent(method)
    method._frozen.freeze = lambda part, masks: None
    assert drift(agent, stream) > 0


def test_the_first_task_begins_as_the_network_that_was_replaced():
    plain, stream = make_agent()
    factored, _ = make_agent(make())
    assert np.allclose(outputs(plain, stream[0]), outputs(factored, stream[0]), atol=1e-6)
    low, _ = make_agent(make(first_rank=4))
    assert not np.allclose(outputs(plain, stream[0]), outputs(low, stream[0]), atol=1e-3)


def test_a_low_first_rank_is_the_nearest_kernel_of_that_rank():
    """Eckart and Young: what is lost is the singular values beyond."""
    plain, _ = make_agent()
    low, _ = make_agent(make(first_rank=4))
    before, after = plain.actor.trunk.dense[1].kernel.detach(), kernel(low.actor.trunk.dense[1], 0)
    lost = torch.linalg.svdvals(before)[4:].square().sum()
    assert torch.linalg.matrix_rank(after) == 4
    assert (before - after).square().sum() == pytest.approx(float(lost), rel=1e-4)


def test_each_task_adds_its_rank_and_begins_without_old_columns():
    agent, stream = make_agent(make(first_rank=5, rank=2))
    layer = agent.actor.trunk.dense[1]
    for task in stream[:2]:
        visit(agent, task)
    assert torch.linalg.matrix_rank(kernel(layer, 0)) == 5
    assert torch.linalg.matrix_rank(kernel(layer, 1)) == 7
    assert layer.own(2)["selector"].tolist() == [0.0] * 7 + [1.0] * 2
    assert torch.linalg.matrix_rank(kernel(layer, 2)) == 2  # before it is trained


def test_new_columns_are_of_the_size_of_a_new_kernel():
    agent, _ = make_agent(make(rank=8), hidden=(64, 64))
    plain, _ = make_agent(hidden=(64, 64))
    new, usual = kernel(agent.actor.trunk.dense[1], 2), plain.actor.trunk.dense[1].kernel.detach()
    assert new.std() == pytest.approx(float(usual.std()), rel=0.2)


def test_every_row_is_computed_with_the_kernel_and_bias_of_its_head():
    agent, stream = make_agent(make(rank=3))
    for task in stream:
        visit(agent, task)
    layer, heads = agent.actor.trunk.dense[0], mixed_batch().head
    x = torch.randn(len(heads), 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = layer(x, heads)
        for head in range(3):
            rows = heads == head
            expected = x[rows] @ kernel(layer, head) + layer.own(head)["bias"]
            assert torch.allclose(out[rows], expected, atol=1e-5)
    assert not torch.allclose(kernel(layer, 0), kernel(layer, 1), atol=1e-2)


def test_a_later_task_moves_its_columns_selector_bias_and_head_and_nothing_else():
    agent, stream = make_agent(make(first_rank=5, rank=2))
    visit(agent, stream[0])
    before = {n: p.detach().clone() for n, p in agent.actor.named_parameters()}
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(5)
    moved = {n: p != before[n] for n, p in agent.actor.named_parameters()}
    layers = {f"trunk.dense.{i}.{n}" for i in range(2)
              for n in ("u", "v", "heads.items.1.selector", "heads.items.1.bias")}
    heads = {"heads.items.1.kernel", "heads.items.1.bias"}
    assert {n for n, m in moved.items() if m.any()} == layers | heads
    for i, first in enumerate((3, 5)):  # three inputs: no rank above three
        for factor in ("u", "v"):
            columns = moved[f"trunk.dense.{i}.{factor}"].any(0)
            assert columns.nonzero().flatten().tolist() == [first, first + 1]


def test_settings_out_of_range_are_refused():
    with pytest.raises(crl.UserError, match="first_rank must be above 0"):
        make(first_rank=0)
    with pytest.raises(crl.UserError, match="rank must be above 0"):
        make(rank=0)
