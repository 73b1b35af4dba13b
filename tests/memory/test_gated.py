"""GRU and LSTM: how long their gates keep what is held, to begin with."""

from __future__ import annotations

import pytest
import torch

import crl
from crl.memory import make_memory


def times(name: str, horizon: int, units: int = 300) -> torch.Tensor:
    """1/(1 − σ(b)) of every unit's bias of keeping, in steps."""
    bias = make_memory(name, 2, units, torch.Generator().manual_seed(0), horizon=horizon
                       ).cell.bias_ih_l0.detach()
    return 1 + bias[units:2 * units].exp()


def kept(name: str, steps: int, units: int = 300, **options) -> torch.Tensor:
    """The share of a state of ones that is there after some steps of nothing, unit by unit.

    Kernels are zero, so that it is what the gates' biases keep.
    """
    memory = make_memory(name, 2, units, torch.Generator().manual_seed(0), **options)
    with torch.no_grad():
        memory.cell.weight_ih_l0.zero_()
        memory.cell.weight_hh_l0.zero_()
        nothing, first = torch.zeros(1, steps, 2), torch.zeros(1, steps, dtype=torch.bool)
        _, one = memory.scan(nothing, torch.ones(1, memory.state_size), first)
        _, zero = memory.scan(nothing, torch.zeros(1, memory.state_size), first)
    return (one - zero)[0, -units:]  # of an LSTM, the cell


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_times_are_uniform_up_to_the_horizon(name):
    found = times(name, 100)
    assert 2 <= found.min() < 5
    assert 96 < found.max() <= 100
    assert float(found.mean()) == pytest.approx(51, abs=5)


def test_of_a_cell_that_keeps_nothing_is_added():
    enter, keep, *_ = make_memory("lstm", 2, 300, torch.Generator().manual_seed(0), horizon=100
                                  ).cell.bias_ih_l0.detach().chunk(4)
    assert torch.equal(enter, -keep)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_state_fades_by_one_part_in_its_time_each_step(name):
    assert float(kept(name, 50).max()) < 1e-3
    expected = (1 - 1 / times(name, 1000)) ** 50
    assert torch.allclose(kept(name, 50, horizon=1000), expected, atol=0.05)


@pytest.mark.parametrize("horizon", [-1, 1, 2])
def test_a_horizon_that_cannot_be(horizon):
    with pytest.raises(crl.UserError, match="horizon must be 0 or above 2"):
        make_memory("gru", 2, 3, torch.Generator(), horizon=horizon)
