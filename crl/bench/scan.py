"""A linear scan beside the loop over time, and an S5 layer beside a GRU; forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from crl.bench.rows import Row, differentiate, row, take_turns, threads
from crl.memory import make_memory
from crl.nn.scan import linear_scan

# Batch, length, complex modes. The longest is a world model's batch, the shortest a policy's.
_SHAPES = ((16, 64, 64), (4, 256, 64), (4, 1024, 128))
_WIDTH = 128
_RESETS = 0.01  # share of steps that begin an episode


def bench_scan() -> Iterator[Row]:
    """Complex64, resets on, the same factors at all times, one thread.

    The floor of a scan is the passes over memory that no way around it can save, at the rate of a
    copy: forward reads b and writes x, backward reads x and what comes from it and writes what goes
    to b. The S5 layer has as many floats of state as the GRU.
    """
    with threads(1):
        for shape in _SHAPES:
            yield _scan(*shape)
        for batch, length, _ in _SHAPES:
            yield _layer(batch, length)


def _scan(batch: int, length: int, modes: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    angle = 2 * torch.pi * torch.rand(modes, generator=generator)
    a = torch.polar(torch.full((modes,), 0.99), angle).requires_grad_()
    b = torch.randn(batch, length, modes, dtype=torch.complex64, generator=generator)
    b.requires_grad_()
    initial = torch.zeros(batch, modes, dtype=torch.complex64)
    first = torch.rand(batch, length, generator=generator) < _RESETS

    def both_ways(scan: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
        torch.autograd.grad(scan(a, b, initial, first).real.sum(), (a, b))

    ours, loop, copy = take_turns(
        lambda: both_ways(linear_scan), lambda: both_ways(_loop), lambda: b.detach().clone(),
        turns=5, calls=2)
    return row("scan", f"linear scan {batch}x{length}x{modes}", "s", ours, ("autograd loop", loop),
               copy * 5 / 2)


def _loop(a: Tensor, b: Tensor, initial: Tensor, first: Tensor) -> Tensor:
    x, xs = initial, []
    for t in range(b.shape[1]):
        x = torch.where(first[:, t, None], 0, x) * a + b[:, t]
        xs.append(x)
    return torch.stack(xs, 1)


def _layer(batch: int, length: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    s5 = make_memory("s5", _WIDTH, _WIDTH, generator, layers=1, modes=_WIDTH // 2)
    gru = nn.GRU(_WIDTH, _WIDTH, batch_first=True)
    x = torch.randn(batch, length, _WIDTH, generator=generator)
    state = s5.initial_state(batch)
    first = torch.zeros(batch, length, dtype=torch.bool)

    ours, theirs = take_turns(
        lambda: differentiate(s5, s5.scan(x, state, first)[0]),
        lambda: differentiate(gru, gru(x)[0]), turns=5, calls=2)
    return row("scan", f"S5 layer {_WIDTH} wide, {batch}x{length}", "s", ours, ("nn.GRU", theirs))
