"""What modulators of a decision transformer cost: nothing once they are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from crl.agents.l2m import modulators
from crl.agents.l2m_config import SIZES, L2MConfig
from crl.agents.l2m_model import DecisionTransformer
from crl.bench.rows import Row, row, take_turns, threads
from crl.memory.modulation import ModulationPool
from crl.nn.adam import Adam

_OBS, _ACT = 39, 4  # Meta-World's
_SLOTS = 10
_BATCH = 64
_TURNS, _STEPS = 7, 20


def bench_modulation() -> Iterator[Row]:
    """L2M of size nano with LoRA, one thread.

    A step of acting is a forward pass of one window. An update is forward, backward and optimiser
    on 64 windows. Mixed: each window of the batch has one of ten slots; the peer goes through them
    slot by slot.
    """
    settings = L2MConfig()
    draw = torch.Generator().manual_seed(0)
    size = SIZES[settings.size]

    def model() -> DecisionTransformer:
        return DecisionTransformer(
            _OBS, _ACT, width=size.width, layers=size.layers, heads=size.heads,
            window=settings.window, bins=settings.bins, returns=False, generator=draw)

    plain, frozen = model(), model()
    pool = ModulationPool(frozen.requires_grad_(False), modulators(settings), draw)
    for _ in range(_SLOTS):
        pool.grow()
    merged = pool.merged(1)
    one, many = _inputs(1, settings.window, draw), _inputs(_BATCH, settings.window, draw)
    action = torch.rand(_BATCH, settings.window, _ACT, generator=draw) * 2 - 1
    mixed = torch.arange(_BATCH) % _SLOTS + 1
    with threads(1):
        pool.use(1)
        with torch.inference_mode():
            alone, at_once, beside = take_turns(
                lambda: plain(*one), lambda: merged(*one), lambda: pool(*one),
                turns=_TURNS, calls=_STEPS)
        yield row("modulation", "acting, merged", "s/step", at_once, ("no slot", alone))
        yield row("modulation", "acting, a slot", "s/step", beside, ("no slot", alone))
        full, slot = take_turns(_update(plain, plain, many, action),
                                _update(pool, frozen, many, action), turns=_TURNS, calls=1)
        yield row("modulation", "update, a slot", "s/update", slot, ("all weights", full))

        def together() -> None:
            pool.use(mixed)
            _update(pool, frozen, many, action)()

        def one_by_one() -> None:
            for number in range(1, _SLOTS + 1):
                rows = mixed == number
                pool.use(number)
                _update(pool, frozen, tuple(x[rows] for x in many), action[rows])()

        ours, theirs = take_turns(together, one_by_one, turns=_TURNS, calls=1)
        yield row("modulation", "update, mixed", "s/update", ours, ("slot by slot", theirs))


def _inputs(batch: int, window: int, draw: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(batch, window, _OBS, generator=draw), torch.zeros(batch, window),
            torch.zeros(batch, window), torch.ones(batch, window, dtype=torch.bool))


def _update(module: torch.nn.Module, model: DecisionTransformer, inputs: tuple[Tensor, ...],
            action: Tensor) -> Callable[[], None]:
    optimizer = Adam(module.parameters())

    def run() -> None:
        optimizer.zero_grad()
        model.loss(module(*inputs), action, inputs[-1]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return run
