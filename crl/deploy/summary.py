"""How driving went, as plain values and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from crl.deploy.drive import Drive
from crl.deploy.faults import Faults
from crl.tables import plain_table

_EDGES_MS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
TIMES = {"lags": "began late", "latencies": "policy and guard", "simulations": "simulation"}


def summary(result: Drive, faults: Faults) -> dict[str, Any]:
    """What ``crl drive --json`` prints."""
    return {
        "schema": "crl-drive/1",
        "stayed_in_limits": not result.wrong(),
        "wrong": result.wrong(),
        "steps": len(result.lags),
        "missed": result.missed,
        "jittery": result.jittery,
        "rate_hz": result.rate_hz,
        "milliseconds": {name: quantiles(getattr(result, name)) for name in TIMES},
        "histogram_ms": {"edges": list(_EDGES_MS), **{
            name: histogram(getattr(result, name)) for name in TIMES}},
        "events": {name: count for name, count in result.events.items() if count},
        "faults": asdict(faults),
        "episodes": result.episodes,
    }


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Of times in seconds, in milliseconds."""
    p50, p99, largest = np.quantile(np.array(seconds) * 1e3, (0.5, 0.99, 1)).round(4).tolist()
    return {"p50": p50, "p99": p99, "max": largest}


def histogram(seconds: Sequence[float]) -> list[int]:
    """How many times are up to each edge, and beyond the last one."""
    places = np.searchsorted(_EDGES_MS, np.array(seconds) * 1e3)
    found: list[int] = np.bincount(places, minlength=len(_EDGES_MS) + 1).tolist()
    return found


def timing_table(result: Drive, newest: int | None = None) -> Table:
    """A row for each of the times, with a histogram; of the newest steps only, if so many."""
    table = plain_table()
    table.add_column("milliseconds")
    for column in ("p50", "p99", "max", *(f"≤{edge:g}" for edge in _EDGES_MS), "more"):
        table.add_column(column, justify="right")
    for name, label in TIMES.items():
        seconds = getattr(result, name)[-newest:] if newest else getattr(result, name)
        if seconds:
            cells = (f"{value:.3g}" for value in quantiles(seconds).values())
            table.add_row(label, *cells, *(str(n or "·") for n in histogram(seconds)))
    return table


def outcome_table(result: Drive) -> Table:
    """What happened, and whether it was in limits."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    episodes, steps = result.episodes, len(result.lags)
    successes = sum(episode["success"] for episode in episodes)
    table.add_row("robots", escape(", ".join(dict.fromkeys(e["robot"] for e in episodes))))
    table.add_row("episodes", f"{len(episodes)}, {successes} of them successful")
    table.add_row("steps", f"{steps} at {result.rate_hz:g} Hz, {result.missed} without a command "
                  f"in time, {result.jittery} later than tolerated")
    for name, count in result.events.items():
        if count:
            table.add_row(name, str(count))
    wrong = result.wrong()
    table.add_row("in limits", f"no: {', '.join(wrong)}" if wrong else "yes")
    return table
