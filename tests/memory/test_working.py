"""Working memory: its equations, and that it keeps what is written where nothing else is."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import crl
from crl.memory import make_memory


def make(size_in: int = 3, **options: int):
    generator = torch.Generator().manual_seed(0)
    return make_memory("dt-mem", size_in, 5, generator, **options).double()


def dense(layer, x: np.ndarray) -> np.ndarray:
    return x @ layer.kernel.detach().numpy() + layer.bias.detach().numpy()


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum()


def test_it_is_its_equations():
    memory, slots = make(slots=4, width=6), np.eye(4, 6)
    x = torch.randn(1, 9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        out = memory.scan(x, memory.initial_state(1), torch.zeros(1, 9, dtype=torch.bool))[0][0]
    for row, given in zip(x[0].numpy(), out.numpy(), strict=True):
        where = softmax(dense(memory.write_key, slots) @ dense(memory.write_query, row)
                        / math.sqrt(6))
        erase = 1 / (1 + np.exp(-dense(memory.erase, row)))
        slots = (slots * (1 - np.outer(where, erase))
                 + np.outer(where, np.tanh(dense(memory.add, row))))
        read = softmax(dense(memory.read_key, slots) @ dense(memory.read_query, row)
                       / math.sqrt(6)) @ slots
        assert np.allclose(dense(memory.leave, read), given, atol=1e-12)


def by_hand(sharp: float):
    """Two slots; input 0 writes into the first one, 1 into the second; input 2 reads the first.

    A slot's first number is what is kept, the others say which slot it is.
    """
    memory = make(size_in=4, slots=2, width=4)
    start = torch.tensor([[0, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.float64)
    with torch.no_grad():
        for layer in memory.children():
            layer.kernel.zero_()
            layer.bias.zero_()
        memory.start.copy_(start)
        for key in (memory.write_key, memory.read_key):
            key.kernel[1, 1] = key.kernel[2, 2] = 1          # told by which slot it is
        memory.write_query.kernel[0, 1] = memory.write_query.kernel[1, 2] = sharp
        memory.write_query.kernel[2, 2] = sharp              # reading writes into the second slot
        memory.read_query.kernel[2, 1] = sharp
        memory.erase.bias[:] = -50.0
        memory.erase.kernel[0, 0] = 100.0                    # what is kept is replaced at once
        memory.add.kernel[3, 0] = 1.0                        # input 3: the value
        memory.leave.kernel[0, 0] = 1.0
    return memory


@pytest.mark.parametrize(("sharp", "keeps"), [(200.0, True), (0.0, False)])
def test_what_is_written_stays_where_nothing_else_is_written(sharp, keeps):
    """The control: an address that is everywhere mixes what came later in."""
    memory, state = by_hand(sharp), torch.zeros(1, 8, dtype=torch.float64)
    inputs = [[1, 0, 0, 0.7]] + [[0, 1, 0, -0.4]] * 30 + [[0, 0, 1, 0.0]]
    for number, row in enumerate(inputs):
        x = torch.tensor([row], dtype=torch.float64)
        out, state = memory.step(x, state, torch.tensor([number == 0]))
    found = float(out[0, 0].detach())
    assert (abs(found - math.tanh(0.7)) < 1e-6) == keeps


def test_slots_differ():
    """The control: from a start of zeros all slots stay equal for ever."""
    def spread(memory) -> float:
        x = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        state = memory.initial_state(1)
        for row in x:
            _, state = memory.step(row, state, torch.tensor([False]))
        slots = state.view(4, 6) + memory.start
        return float((slots[0] - slots[1]).abs().max().detach())

    memory = make(slots=4, width=6)
    assert spread(memory) > 0.1
    memory.start.zero_()
    assert spread(memory) < 1e-12


def test_options_are_checked():
    with pytest.raises(crl.UserError, match="slots must be above 0"):
        make(slots=0)
