"""Two-hot numbers: round trips, and a loss that is least where the distribution is right."""

from __future__ import annotations

import pytest
import torch

from crl.nn.symlog import TwoHot, symexp, symlog

VALUES = torch.tensor([0.0, 1.0, -1.0, 0.3, -7.7, 123.4, -5e4, 1e7])


def test_symexp_is_the_inverse_of_symlog():
    torch.testing.assert_close(symexp(symlog(VALUES)), VALUES, rtol=1e-5, atol=1e-6)
    assert symlog(torch.tensor(-3.0)) == pytest.approx(-torch.tensor(4.0).log().item())


def by_hand(value: float, bins: int = 255) -> torch.Tensor:
    """The distribution on the two bins beside a number."""
    centres = torch.linspace(-20, 20, bins, dtype=torch.float64)
    x = symlog(torch.tensor(value, dtype=torch.float64))
    chances = torch.zeros(bins, dtype=torch.float64)
    above = int((centres < x).sum().clamp(1, bins - 1))
    share = (x - centres[above - 1]) / (centres[above] - centres[above - 1])
    chances[above - 1], chances[above] = 1 - share, share
    return chances


@pytest.mark.parametrize("value", VALUES.tolist())
def test_a_number_is_on_the_bins_beside_it_and_comes_back(value):
    chances = by_hand(value)
    two_hot = TwoHot()
    logits = (chances + 1e-12).log().float()
    assert two_hot.mean(logits).item() == pytest.approx(value, rel=1e-3, abs=1e-3)
    random = torch.randn(255, generator=torch.Generator().manual_seed(0))
    loss = two_hot.loss(random, torch.tensor(value))
    expected = -(chances * random.double().log_softmax(-1)).sum()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


def test_beyond_the_last_bin_is_the_last_bin():
    logits = torch.zeros(2, 255)
    huge = TwoHot().loss(logits, torch.tensor([1e30, -1e30]))
    assert huge.isfinite().all()


def test_descending_the_loss_leads_to_the_mean():
    """Of 1 and 3, half of the time each: 2 is the mean in symlog's sense."""
    logits = torch.zeros(255, requires_grad=True)
    optimizer, two_hot = torch.optim.Adam([logits], 0.1), TwoHot()
    values = torch.tensor([1.0, 3.0])
    for _ in range(600):
        optimizer.zero_grad()
        two_hot.loss(logits.expand(2, -1), values).mean().backward()
        optimizer.step()
    expected = symexp(symlog(values).mean())
    assert two_hot.mean(logits.detach()).item() == pytest.approx(expected.item(), rel=0.02)
