"""Quadratic anchors in constant memory against the explicit sum over tasks."""

from __future__ import annotations

import pytest
import torch
from visits import flat, make_agent, visit

import crl
from crl.methods.anchors import Anchors


def moved_part(steps: int):
    """The actor's part at ``steps`` places, one after the other."""
    agent, _ = make_agent()
    part = agent.parts["actor"]
    for step in range(steps):
        with torch.no_grad():
            for i, p in enumerate(part.parameters().values()):
                generator = torch.Generator().manual_seed(100 * step + i)
                p.add_(torch.randn(p.shape, generator=generator))
        yield part


def random_importance(part, seed):
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(p.shape, generator=generator).round(decimals=1)  # some are zero
            for n, p in part.shared_parameters().items()}


def test_the_penalty_is_the_sum_over_all_anchors():
    anchors, kept = None, []
    for step, part in enumerate(moved_part(4)):
        anchors = anchors or Anchors([part])
        if step < 3:
            kept.append((random_importance(part, step),
                         {n: p.detach().clone() for n, p in part.shared_parameters().items()}))
            anchors.add(part, kept[-1][0])
    terms = [sum((f[n] * (p - a[n]).square()).sum() for n, p in part.shared_parameters().items())
             for f, a in kept]
    expected = torch.stack(terms).sum()
    assert anchors.penalty(part).item() == pytest.approx(expected.item(), rel=1e-4)
    # The control: the last anchor alone, as some released baselines keep, is something else.
    assert terms[-1].item() < 0.9 * expected.item()
    shared = list(part.shared_parameters().values())
    for ours, theirs in zip(torch.autograd.grad(anchors.penalty(part), shared),
                            torch.autograd.grad(expected, shared), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    for name, total in anchors.importance(part).items():
        torch.testing.assert_close(total, sum(f[name] for f, _ in kept))


def test_heads_are_not_anchored():
    part = next(moved_part(1))
    anchors = Anchors([part])
    anchors.add(part, random_importance(part, 0))
    with torch.no_grad():
        for head in part.heads.values():
            for name in head:
                part.parameters()[name].add_(1.0)
    assert anchors.penalty(part).item() == 0


@pytest.mark.parametrize("name", ["l2", "mas", "si"])
def test_a_large_coefficient_holds_the_weights(name):
    def moved(coefficient):
        agent, stream = make_agent(crl.make_method(name, coefficient=coefficient))
        visit(agent, stream[0])
        before = flat(agent.actor.trunk)
        visit(agent, stream[1], 60)
        return (flat(agent.actor.trunk) - before).norm().item()

    assert moved(1e4) < 0.5 * moved(0.0)
