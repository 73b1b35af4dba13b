"""Every memory beside torch's GRU of the same width: a step of acting, and a training pass."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn

from crl import registry
from crl.bench.rows import Row, differentiate, row, take_turns, threads
from crl.memory import make_memory

WIDTH = 64
_BATCH, _LENGTH = 16, 64  # of a training pass
_RESETS = 0.01            # share of its steps that begin an episode
_TURNS = 10


def bench_memory() -> Iterator[Row]:
    """Options as they are by default, float32, one thread.

    A step is of one environment, by a frozen copy as a policy has it; the GRU's is ``nn.GRUCell``.
    A training pass is forward and backward over 16 sequences of 64 steps, a hundredth of which
    begin an episode; the GRU's is ``nn.GRU``, which cannot begin an episode inside a sequence and
    does not.
    """
    with threads(1):
        for name in registry.memories.names():
            yield from _rows(name)


def _rows(name: str) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    memory = make_memory(name, WIDTH, WIDTH, generator)
    frozen = copy.deepcopy(memory).requires_grad_(False)
    cell, gru = nn.GRUCell(WIDTH, WIDTH), nn.GRU(WIDTH, WIDTH, batch_first=True)
    x = torch.randn(_BATCH, _LENGTH, WIDTH, generator=generator)
    first = torch.rand(_BATCH, _LENGTH, generator=generator) < _RESETS
    states = memory.initial_state(_BATCH)
    one, hidden = x[:1, 0], torch.zeros(1, WIDTH)
    state, begins = memory.initial_state(1), torch.tensor([False])

    def without_gradients(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode():
                call()
        return run

    ours, theirs = take_turns(
        without_gradients(lambda: frozen.step(one, state, begins)),
        without_gradients(lambda: cell(one, hidden)), turns=_TURNS, calls=50)
    yield row("memory", f"{name} step", "s/step", ours, ("nn.GRUCell", theirs))
    ours, theirs = take_turns(
        lambda: differentiate(memory, memory.scan(x, states, first)[0]),
        lambda: differentiate(gru, gru(x)[0]), turns=_TURNS, calls=2)
    yield row("memory", f"{name} training pass", "s", ours, ("nn.GRU", theirs))
