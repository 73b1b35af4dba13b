"""Rows of a benchmark, and competitors that take turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

Row = dict[str, Any]


def row(bench: str, case: str, unit: str, ours: float, peer: tuple[str, float],
        floor: float | None = None) -> Row:
    """One row: what was measured of us and of a peer (its name first), and the floor if known."""
    name, value = peer
    return {
        "bench": bench, "case": case, "unit": unit, "ours": ours, "peers": {name: value},
        "floor": floor, "ours/peer": ours / value,
        "ours/floor": None if floor is None else ours / floor,
    }


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def take_turns(*competitors: Callable[[], object], turns: int, calls: int) -> list[float]:
    """Median seconds per call of each competitor.

    Each does ``calls`` calls, then it is the next one's turn, so that a change of the machine's
    speed meets all of them. A first turn that is not counted warms up.
    """
    seconds: list[list[float]] = [[] for _ in competitors]
    for turn in range(turns + 1):
        for of_this, competitor in zip(seconds, competitors, strict=True):
            start = time.perf_counter()
            for _ in range(calls):
                competitor()
            if turn > 0:
                of_this.append((time.perf_counter() - start) / calls)
    return [median(s) for s in seconds]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within it torch computes on so many threads; behind it on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def differentiate(module: nn.Module, out: Tensor) -> None:
    """The backward pass from a module's output to its parameters."""
    torch.autograd.grad(out.sum(), list(module.parameters()), allow_unused=True)
