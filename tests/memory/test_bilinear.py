"""The bilinear network: its recurrence by hand, and a parity, which asks for its kind."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from crl.memory import make_memory


def make(size_in=3, **options):
    return make_memory("bilinear", size_in, 6, torch.Generator().manual_seed(0),
                       **{"traces": 4, **options})


def test_a_step_is_the_recurrence():
    memory = make().double()
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = torch.randn(2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    keep, turn, real, imag, past, gate = (x @ memory.pre.kernel + memory.pre.bias).split(
        (4, 4, 4, 4, 6, 6), -1)
    rho, theta = torch.sigmoid(keep), math.pi * torch.tanh(turn)
    before = torch.complex(*state.chunk(2, -1))
    after = (rho * torch.exp(1j * theta) * before
             + torch.sqrt(1 - rho**2) * torch.complex(real, imag))
    out, found = memory.step(x, state, torch.zeros(2, dtype=torch.bool))
    torch.testing.assert_close(torch.complex(*found.chunk(2, -1)), after)
    read = F.layer_norm(torch.cat((after.real, after.imag), -1) @ memory.mix.kernel
                        + memory.mix.bias, (6,))
    torch.testing.assert_close(out, read * gate.sigmoid() + past * (1 - gate.sigmoid()))


def test_traces_begin_to_last_between_two_steps_and_the_longest():
    memory = make(traces=32, longest=500)
    kept = memory.pre.bias[:32].sigmoid()
    lasts = 1 / (1 - kept)
    assert lasts.min().item() == pytest.approx(2, rel=1e-3)
    assert lasts.max().item() == pytest.approx(500, rel=1e-2)


@pytest.mark.parametrize("bias", [-200.0, 200.0])
def test_gradients_are_finite_where_a_trace_keeps_all_or_nothing(bias):
    memory = make()
    with torch.no_grad():
        memory.pre.bias[:4] = bias
    x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    out, _ = memory.scan(x, memory.initial_state(2), torch.zeros(2, 9, dtype=torch.bool))
    gradients = torch.autograd.grad(out.square().sum(), list(memory.parameters()))
    assert all(g.isfinite().all() for g in gradients)


def parity(name: str, **options) -> float:
    """Accuracy at the last of 16 bits, after lengths of 2 to 16 have been learned in turn."""
    g = torch.Generator().manual_seed(0)
    memory = make_memory(name, 8, 32, g, **options)
    enter, read = torch.nn.Linear(2, 8), torch.nn.Linear(32, 2)
    for layer in (enter, read):
        for parameter in layer.parameters():
            torch.nn.init.uniform_(parameter, -1, 1, generator=g)
    optimizer = torch.optim.Adam(
        [*memory.parameters(), *enter.parameters(), *read.parameters()], 1e-2)

    def run(length: int):
        bits = torch.randint(2, (64, length), generator=g)
        first = torch.zeros(64, length, dtype=torch.bool)
        x = enter(F.one_hot(bits, 2).float())
        return read(memory.scan(x, memory.initial_state(64), first)[0]), bits.cumsum(1) % 2

    for step in range(400):
        logits, target = run(2 + step * 15 // 400)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), target.flatten()).backward()
        optimizer.step()
    with torch.no_grad():
        logits, target = run(16)
    return (logits.argmax(-1) == target)[:, -1].float().mean().item()


def test_it_tells_a_parity_which_fixed_transitions_do_not():
    assert parity("bilinear", traces=16) > 0.98
    assert parity("s5", modes=16) < 0.75
