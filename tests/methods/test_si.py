"""SI: the path integral against the fall of a loss, and whose gradient it is taken of."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from visits import fill, make_agent, visit

import crl
from crl.methods.parts import Part


class Bowl:
    """½ Σ h (θ − m)² in two parameters, descended by plain gradient steps with SI attached."""

    def __init__(self, **settings) -> None:
        module = nn.Module()
        module.a = nn.Parameter(torch.tensor([1.0, -2.0]))
        module.b = nn.Parameter(torch.tensor([[0.5]]))
        self.part = Part("actor", module, torch.optim.SGD(module.parameters(), 0.0),
                         lambda batch, parameters=None: None, gaussian=False, acts=True)
        self.method = crl.make_method("si", **settings)
        self.method.attach(SimpleNamespace(parts={"actor": self.part}, renewed=()), [])

    def value(self, minimum: float) -> torch.Tensor:
        a, b = self.part.module.a, self.part.module.b
        return 0.5 * ((torch.tensor([1.0, 3.0]) * (a - minimum) ** 2).sum()
                      + 2.0 * (b - minimum).square().sum())

    def descend(self, minimum: float, rate: float = 1e-3, steps: int = 1000) -> tuple[float, float]:
        """The fall of the loss, and −Σ Δθ · all gradients there were, penalties included."""
        self.method.begin_task(None)
        before, everything = self.value(minimum).item(), 0.0
        for _ in range(steps):
            self.part.module.zero_grad()
            self.value(minimum).backward()
            extra = self.method.loss(self.part, None)
            if extra is not None:
                extra.backward()
            self.method.gradients()
            with torch.no_grad():
                for p in self.part.module.parameters():
                    p -= rate * p.grad
                    everything += rate * p.grad.square().sum().item()
            self.method.updated(None)
        return before - self.value(minimum).item(), everything

    def path(self) -> float:
        return sum(path.sum().item() for path in self.method._path["actor"].values())


def test_the_path_integral_is_the_fall_of_the_loss():
    bowl = Bowl()
    fall, _ = bowl.descend(0.2)
    assert fall > 1
    assert bowl.path() == pytest.approx(fall, rel=0.01)
    # The control: with large steps the integral is only a crude sum.
    coarse = Bowl()
    fall, _ = coarse.descend(0.2, rate=0.4, steps=3)
    assert coarse.path() > 1.2 * fall


def test_each_parameter_is_given_its_own_share():
    bowl = Bowl(damping=0.1)
    bowl.descend(0.2, steps=5000)
    path = bowl.method._path["actor"]["a"]
    start, end = torch.tensor([1.0, -2.0]), bowl.part.module.a.detach().clone()
    share = 0.5 * torch.tensor([1.0, 3.0]) * ((start - 0.2) ** 2 - (end - 0.2) ** 2)
    torch.testing.assert_close(path, share, rtol=0.01, atol=0)
    bowl.method.end_task(None)
    importance = bowl.method._anchors.importance(bowl.part)["a"]
    torch.testing.assert_close(importance, share / ((end - start) ** 2 + 0.1), rtol=0.01, atol=0)


def test_the_penalty_does_not_count_as_loss():
    bowl = Bowl(coefficient=2.0)
    bowl.descend(0.2)
    bowl.method.end_task(None)
    fall, everything = bowl.descend(-1.0)
    assert bowl.path() == pytest.approx(fall, rel=0.01)
    assert abs(everything - fall) > 0.1 * fall  # the control: gradients with the penalty's


def test_a_task_that_hurts_does_not_erase_importance():
    bowl = Bowl()
    bowl.descend(0.2)
    bowl.method.end_task(None)
    first = dict(bowl.method._anchors.importance(bowl.part))
    bowl.descend(1.0, rate=-1e-3, steps=100)  # uphill: the path integral is negative
    assert bowl.path() < 0
    bowl.method.end_task(None)
    for name, importance in bowl.method._anchors.importance(bowl.part).items():
        assert (first[name] > 0).all()
        assert torch.equal(importance, first[name])


def test_the_gradient_is_the_agents_own_whatever_other_methods_add_or_clip():
    def methods():
        return [crl.make_method("clonex", samples_per_task=100, clip_norm=1e-3),
                crl.make_method("l2", coefficient=10.0), crl.make_method("si", coefficient=10.0)]

    agent, stream = make_agent(*methods())
    visit(agent, stream[0])
    agent.begin_task(stream[1])
    fill(agent, 1)
    agent.learn(5)
    alone, _ = make_agent()
    alone.load_state_dict({**agent.state_dict(), "methods": {}})
    si = agent.methods.items[-1]
    seen = {}
    si.gradients = lambda: seen.update(si._step["actor"].gradient)
    agent.learn(1)
    alone.learn(1)
    own, total = alone.parts["actor"].parameters(), agent.parts["actor"].parameters()
    assert set(seen) == set(alone.parts["actor"].shared)
    for name, gradient in seen.items():
        torch.testing.assert_close(gradient, own[name].grad, rtol=1e-5, atol=1e-8)
        assert not torch.allclose(total[name].grad, own[name].grad, rtol=0.1)  # the control


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(crl.UserError, match="damping must be above 0"):
        crl.make_method("si", damping=0.0)
