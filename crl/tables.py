"""The tables that the command line prints."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from crl import registry
from crl.envs.arm_tasks import ARM_TASKS, HIDDEN_ARM_TASKS
from crl.envs.catalog import make_stream
from crl.envs.dynamic_tasks import DYNAMIC_TASKS
from crl.envs.hcrl_tasks import HCRL_TASKS
from crl.envs.memory_names import LENGTH_EXAMPLES, REPEAT_PREVIOUS
from crl.envs.metaworld_tasks import TASKS
from crl.envs.popgym_tasks import POPGYM_TASKS
from crl.evaluation import Episode
from crl.leaderboard.protocols import PROTOCOLS
from crl.memory_evaluation import MemoryRow
from crl.progress import share


def names_table(kind: str) -> Table:
    """What ``crl list`` prints: ``"streams"``, ``"agents"``, ``"methods"``, ``"memories"``,
    ``"planners"``, ``"tasks"`` or ``"protocols"``."""
    table = plain_table()
    columns, rows = {"streams": _streams, "agents": _agents, "methods": _methods,
                     "memories": _memories, "planners": _planners, "tasks": _tasks,
                     "protocols": _protocols}[kind]()
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(escape, row))  # a formula's [x] is no markup
    return table


def success_table(names: Mapping[str, list[float]], tasks: list[str]) -> Table:
    """A table of success per task (rows) and run (columns)."""
    table = plain_table()
    table.add_column("task")
    for name in names:
        table.add_column(name, justify="right")
    for i, task in enumerate(tasks):
        table.add_row(task, *(share(values[i]) for values in names.values()))
    means = [share(sum(v) / len(v)) for v in names.values()]
    table.add_row("[bold]mean", *(f"[bold]{m}" for m in means))
    return table


def evaluation_table(results: Mapping[str, Sequence[Episode]]) -> Table:
    """A row a task: the means over its evaluation episodes."""
    table = plain_table()
    for column in ("task", "episodes", "success", "success at end", "return", "length"):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for task, episodes in results.items():
        count = len(episodes)
        table.add_row(
            task, str(count),
            share(sum(e.success_once for e in episodes) / count),
            share(sum(e.success_end for e in episodes) / count),
            f"{sum(e.reward_sum for e in episodes) / count:.1f}",
            f"{sum(e.length for e in episodes) / count:.0f}",
        )
    return table


def memory_table(rows: Sequence[MemoryRow]) -> Table:
    """A row a task and correlation horizon: success with its standard error, beside the control."""
    table = plain_table()
    for column in ("task", "ξ", "a test of", "success", "without memory", "chance"):
        table.add_column(column, justify="left" if column in ("task", "a test of") else "right",
                         no_wrap=True)
    for row in rows:
        both = (f"{p:.2f} ± {(p * (1 - p) / len(row.success)) ** 0.5:.2f}"
                for p in (row.success.mean(), row.control.mean()))
        table.add_row(row.task, str(row.horizon), f"{row.kind} memory", *both, f"{row.chance:.2g}")
    return table


def print_benchmarks(rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints benchmark rows (see ``crl.bench``) as they come, in one table."""
    table = plain_table()
    for column in ("benchmark", "case", "unit", "ours", "peer", "floor", "ours/peer", "ours/floor"):
        table.add_column(column, justify="left" if column in ("benchmark", "case") else "right")
    with Live(table, console=console(), auto_refresh=False) as live:
        for row in rows:
            peers = ", ".join(f"{name} {_number(v)}" for name, v in row["peers"].items())
            table.add_row(row["bench"], row["case"], row["unit"], _number(row["ours"]), peers,
                          *(_number(row[c]) for c in ("floor", "ours/peer", "ours/floor")))
            live.refresh()


def console() -> Console:
    """Standard output; wide where it is not a terminal, so that a line stays a line for grep."""
    out = Console()
    return out if out.is_terminal else Console(width=200)


def plain_table() -> Table:
    """An empty table of the command line's: no lines, bold headings."""
    return Table(box=None, padding=(0, 2, 0, 0), header_style="bold")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def _streams() -> Rows:
    rows: list[tuple[str, ...]] = []
    for name in registry.streams.names():
        stream = make_stream(name)
        tasks = ", ".join(t.name for t in stream)
        rows.append((name, f"{stream[0].steps:,}", tasks))
    return ("stream", "steps a task", "tasks"), rows


def _agents() -> Rows:
    rows: list[tuple[str, ...]] = [
        (name, _first_line(registry.agents.load(name))) for name in registry.agents.names()
    ]
    return ("agent", "what it is"), rows


def _methods() -> Rows:
    rows: list[tuple[str, ...]] = []
    for name in registry.methods.names():
        method = registry.methods.load(name)
        # A file with one subject says in words what its class says in a formula.
        what = _first_line(sys.modules[method.__module__]) or _first_line(method)
        rows.append((name, what, method.paper, ", ".join(method.needs) or "–"))
    return ("method", "what it does", "paper", "needs"), rows


def _memories() -> Rows:
    import torch

    from crl.memory import make_memory

    rows: list[tuple[str, ...]] = []
    for name in registry.memories.names():
        memory = make_memory(name, 64, 64, torch.Generator())
        parameters = sum(p.numel() for p in memory.parameters())
        rows.append((name, _first_line(memory), f"{parameters:,}", f"{4 * memory.state_size:,}"))
    return ("memory", "what it is", "parameters 64 wide", "bytes of state"), rows


def _planners() -> Rows:
    from crl.planners import make_planner

    rows: list[tuple[str, ...]] = []
    for name in registry.planners.names():
        planner = make_planner(name, 1)
        what = _first_line(sys.modules[type(planner).__module__])
        rows.append((name, what, f"{planner.evaluations:,}"))
    return ("planner", "what it is", "steps of a model an action"), rows


def _tasks() -> Rows:
    rows: list[tuple[str, ...]] = [(name, "two-link arm") for name in ARM_TASKS]
    rows += [(name, "two-link arm whose dynamics are hidden and change")
             for name in HIDDEN_ARM_TASKS]
    rows += [(name, "told all about, to be planned for") for name in HCRL_TASKS]
    rows += [(name, "a robot whose dynamics change" if task.changes else "a vehicle on a map")
             for name, task in DYNAMIC_TASKS.items()]
    rows += [(name, "memory, any length") for name in LENGTH_EXAMPLES]
    rows += [(f"repeat-previous-{size}", "memory") for size in REPEAT_PREVIOUS]
    rows += [(name, "memory, POPGym's") for name in POPGYM_TASKS]
    rows += [(name, "Meta-World v3") for name in TASKS]
    rows.append(("any Gymnasium id", "flat Box observations, flat Box or Discrete actions"))
    return ("task", "from"), rows


def _protocols() -> Rows:
    rows: list[tuple[str, ...]] = [
        (p.name, str(p.version), p.told, str(p.seeds), p.score, p.about)
        for p in PROTOCOLS.values()]
    return ("protocol", "version", "incremental", "seeds", "score", "what for"), rows


def _first_line(thing: object) -> str:
    return (thing.__doc__ or "").strip().partition("\n")[0]
