"""What a person sees while data sets are made, and when they are."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.table import Table

from crl.data.folder import Made
from crl.data.making import Progress
from crl.progress import bars, share
from crl.tables import plain_table


class DataDisplay:
    """A bar on a terminal; elsewhere a line for each set that is finished.

    Use it as a context manager and call it with the newest :class:`Progress`.

    Args:
        console: Where to; default: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._bar = bars("{task.completed:,}/{task.total:,} episodes, {task.fields[steps]:,} "
                         "transitions", self._console)
        self._row = self._bar.add_task("", start=False, total=0, steps=0)

    def __enter__(self) -> DataDisplay:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, now: Progress) -> None:
        """Takes in how far the sets are."""
        self._bar.start_task(self._row)
        self._bar.update(self._row, description=now.task, completed=now.episodes,
                         total=now.of_episodes, steps=now.steps)
        if now.made and not self._console.is_terminal:
            self._console.print(
                f"{now.made.folder}: {now.made.episodes:,} episodes, {now.made.steps:,} "
                f"transitions, success {share(now.made.success)}; {now.episodes:,}/"
                f"{now.of_episodes:,} episodes in all", highlight=False, soft_wrap=True,
                markup=False, emoji=False)


def data_table(sets: Sequence[Made]) -> Table:
    """A row a set, and what there is in all."""
    table = plain_table()
    for column in ("task", "episodes", "transitions", "success", "mean return", "MB", "seconds"):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for made in sets:
        table.add_row(made.task, f"{made.episodes:,}", f"{made.steps:,}", share(made.success),
                      f"{made.mean_return:.1f}", f"{made.megabytes:.1f}",
                      "was there" if made.seconds is None else f"{made.seconds:.1f}")
    if len(sets) > 1:
        episodes = sum(made.episodes for made in sets)
        success, mean_return = (
            sum(getattr(made, name) * made.episodes for made in sets) / episodes
            for name in ("success", "mean_return"))
        table.add_row("all", f"{episodes:,}", f"{sum(made.steps for made in sets):,}",
                      share(success), f"{mean_return:.1f}",
                      f"{sum(made.megabytes for made in sets):.1f}",
                      f"{sum(made.seconds or 0 for made in sets):.1f}", style="bold")
    return table
