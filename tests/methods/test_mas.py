"""MAS: sensitivity against closed forms and against one backward pass per sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from visits import make_agent, visit

import crl
from crl.methods.mas import sensitivity
from crl.methods.parts import Gaussian, Part
from crl.replay import Batch


class Linear(nn.Module):
    """Point prediction W x, or a Gaussian of that mean and of log standard deviation s."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
        self.log_std = nn.Parameter(torch.tensor([-0.5, 0.4]))

    def forward(self, x):
        return x @ self.weight.T, self.log_std.exp().expand(len(x), 2)


def linear_part(gaussian: bool) -> Part:
    module = Linear()

    def outputs(batch, parameters=None):
        mean, std = functional_call(module, parameters or {}, (batch.obs,))
        return Gaussian(mean, std) if gaussian else mean

    return Part("any", module, torch.optim.Adam(module.parameters()), outputs, gaussian)


def batch_of(obs: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(obs))
    return Batch(obs, torch.zeros(len(obs), 2), nothing, obs, nothing, 0)


@pytest.mark.parametrize("gaussian", [True, False])
def test_sensitivity_of_a_linear_model_is_the_closed_form(gaussian):
    part = linear_part(gaussian)
    obs = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    result = sensitivity(part, [batch_of(obs[:30]), batch_of(obs[30:])])
    # ‖Wx‖²: ∂/∂W = 2 (Wx) xᵀ, of each sample; ‖s‖²: ∂/∂s = 2 s.
    slopes = 2 * torch.einsum("bo,bi->boi", part.outputs(batch_of(obs))[0] if gaussian else
                              part.outputs(batch_of(obs)), obs).detach()
    torch.testing.assert_close(result["weight"], slopes.abs().mean(0))
    expected = 2 * part.module.log_std.detach().abs() if gaussian else torch.zeros(2)
    torch.testing.assert_close(result["log_std"], expected)
    # The control: the absolute value of the mean gradient, cheaper and wrong.
    assert (result["weight"] > 1.2 * slopes.mean(0).abs()).any()


def test_sensitivity_of_sac_parts_agrees_with_one_backward_pass_per_sample():
    agent, stream = make_agent()
    visit(agent, stream[0], 5)
    batch = agent.replay.sample(6, np.random.default_rng(0))
    mixed = replace(batch, head=torch.tensor([0, 1, 2, 0, 1, 2]))
    for part in agent.parts.values():
        expected = {n: torch.zeros_like(p) for n, p in part.shared_parameters().items()}
        for i in range(6):
            out = part.outputs(mixed.rows(torch.tensor([i])))
            norm = ((out.mean**2).sum() + (out.std.log() ** 2).sum() if part.gaussian
                    else (out**2).sum())
            slopes = torch.autograd.grad(norm, list(part.shared_parameters().values()))
            for total, slope in zip(expected.values(), slopes, strict=True):
                total += slope.abs() / 6
        for name, ours in sensitivity(part, [mixed]).items():
            torch.testing.assert_close(ours, expected[name], rtol=1e-3, atol=1e-6)
        assert part.module.training


def test_importance_adds_up_and_there_is_one_anchor_the_newest():
    method = crl.make_method("mas", coefficient=1.0, batches=2, batch_size=32)
    agent, stream = make_agent(method)
    part, totals = agent.parts["actor"], []
    for task in stream[:2]:
        visit(agent, task)
        totals.append(dict(method._anchors.importance(part)))
    assert all((new >= old).all() for old, new in zip(*(t.values() for t in totals), strict=True))
    assert any((new > old).any() for old, new in zip(*(t.values() for t in totals), strict=True))
    assert method.loss(part, None).item() == 0  # an anchor per task, as of EWC, would leave a rest
    with torch.no_grad():
        for p in agent.actor.parameters():
            p.add_(0.1)
    expected = 0.01 * sum(total.sum() for total in totals[1].values())
    assert method.loss(part, None).item() == pytest.approx(expected.item(), rel=1e-4)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(crl.UserError, match="above 0"):
        crl.make_method("mas", batches=0)
