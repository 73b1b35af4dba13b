"""Flows against closed forms, and what the loss must not let a field read off."""

from __future__ import annotations

import math

import pytest
import torch

from crl.nn.descent import descend
from crl.nn.flow import VelocityField, integrate, matching_errors


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


SPIN = torch.tensor([[-0.5, 2.0], [-2.0, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize(("rule", "order"), [("euler", 1), ("midpoint", 2)])
def test_on_a_linear_field_each_rule_has_its_order(rule, order):
    start = torch.tensor([[1.0, -0.7]], dtype=torch.float64)
    exact = start @ torch.linalg.matrix_exp(SPIN).T
    errors = [(integrate(lambda x, t: x @ SPIN.T, start, steps, rule) - exact).norm().item()
              for steps in (40, 80)]
    assert errors[0] > 1e-6
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_a_field_is_asked_at_the_right_times():
    """Its velocity is cos 3t, whatever the point: sin(3) / 3 at the end."""
    start = torch.zeros(2, 1, dtype=torch.float64)
    found = integrate(lambda x, t: (3 * t).cos().to(x), start, 200)
    torch.testing.assert_close(found, torch.full_like(start, math.sin(3) / 3), atol=1e-4, rtol=0)


def test_errors_are_those_of_straight_paths():
    start, end = torch.randn(2, 4_000, 3, generator=generator())
    asked = {}

    def velocity(x, time):
        asked.update(x=x, time=time)
        return end - start + 0.5

    errors = matching_errors(velocity, start, end, generator(1), noise=0.1, at_start=0.25)
    torch.testing.assert_close(errors, torch.full((4_000,), 0.25))
    x, time = asked["x"], asked["time"]
    began = (time == 0).squeeze(-1)
    assert began.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(x[began], start[began])
    off = (x - (1 - time) * start - time * end)[~began]
    assert off.std().item() == pytest.approx(0.1, rel=0.05)
    assert time[~began].mean().item() == pytest.approx(0.5, abs=0.03)


def robots(batch: int, draw: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Wanted actions, those that act so by unknown gains of either sign, and one other step."""
    size = torch.exp(1.4 * torch.rand(batch, 2, generator=draw) - 0.7)
    gain = torch.where(torch.rand(batch, 2, generator=draw) < 0.5, -size, size)
    wanted, other = 2 * torch.rand(2, batch, 2, generator=draw) - 1
    return wanted, wanted / gain, torch.cat((other, gain * other - other), -1)


def learned(noise: float, at_start: float) -> tuple[float, float]:
    """The loss in the end, and the share of the change that is missed where it is integrated."""
    draw, losses, nothing = generator(), [], torch.zeros(256, 0, 2)
    field = VelocityField(2, directions=0, context=4, width=64, generator=draw)

    def loss():
        start, end, context = robots(256, draw)
        errors = matching_errors(field.conditioned(start, nothing, context), start, end, draw,
                                 noise=noise, at_start=at_start)
        losses.append(errors.mean())
        return losses[-1]

    descend(field.parameters(), loss, 600, 3e-3)
    start, end, context = robots(4_000, generator(9))
    with torch.inference_mode():
        found = integrate(field.conditioned(start, torch.zeros(4_000, 0, 2), context), start, 10)
    missed = (found - end).norm(dim=-1).mean() / (end - start).norm(dim=-1).mean()
    return torch.stack(losses[-50:]).mean().item(), missed.item()


def test_a_field_that_is_told_its_start_must_not_read_the_velocity_off():
    """Without noise and without t = 0 the loss is far lower, and the flow far worse."""
    loss, missed = learned(0.1, 0.5)
    lower, worse = learned(0.0, 0.0)
    assert missed < 0.35
    assert lower < loss / 3
    assert worse > 1.5 * missed


def test_a_field_takes_each_row_for_itself():
    field = VelocityField(2, directions=1, context=3, width=8, generator=generator())
    x, start = torch.randn(2, 5, 2, generator=generator(1))
    ways, context = (torch.randn(5, *shape, generator=generator(2)) for shape in ((1, 2), (3,)))
    time = torch.rand(5, 1, generator=generator(3))
    together = field.conditioned(start, ways, context)(x, time)
    for i in range(5):
        rows = slice(i, i + 1)
        torch.testing.assert_close(
            together[rows], field.conditioned(start[rows], ways[rows], context[rows])(x[rows],
                                                                                      time[rows]))


def test_descent_settles_on_noisy_samples():
    """With a rate that stays as it is, the last step is as noisy as the samples let it be."""
    point, draw, target = torch.nn.Parameter(torch.zeros(3)), generator(), torch.tensor([1., 2, 3])

    def loss():
        return (point - target - torch.randn(3, generator=draw)).square().sum()

    descend([point], loss, 1_000, 0.1)
    settled = (point.detach() - target).norm().item()
    assert settled < 0.15
    steady, errors = torch.optim.Adam([point], 0.1), []
    for _ in range(200):
        steady.zero_grad()
        loss().backward()
        steady.step()
        errors.append((point.detach() - target).norm().item())
    assert sum(errors) / len(errors) > 1.5 * settled
