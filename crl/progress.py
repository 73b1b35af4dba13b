"""What a person sees while runs train: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich import progress
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from crl.loop import Progress  # which imports torch; 'crl list' does without it

_LINE_EVERY_S = 10.0


class Display:
    """Shows one or more runs while they train.

    Use it as a context manager and call it with a run's label and its newest :class:`Progress`.

    Args:
        console: Where to; default: standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._runs: dict[str, Progress] = {}
        self._clocks: dict[str, _Clock] = {}
        self._last_line: dict[str, tuple[float, tuple[str, int]]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4,
                              get_renderable=self._draw)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, label: str, progress: Progress) -> None:
        """Takes in where the run called ``label`` stands now."""
        self._runs[label] = progress
        self._clocks.setdefault(label, _Clock()).tick(progress)
        if self._live:
            return
        now, key = time.monotonic(), (progress.phase, progress.task)
        last, last_key = self._last_line.get(label, (-math.inf, ("", -1)))
        if key == last_key == ("finished", progress.task):
            return  # said already
        if now - last >= _LINE_EVERY_S or (key != last_key and progress.phase != "training"):
            self._last_line[label] = (now, key)
            self._console.print(f"{label}: {self._sentence(label, progress)}", highlight=False,
                                soft_wrap=True, markup=False, emoji=False)

    def _sentence(self, label: str, p: Progress) -> str:
        clock = self._clocks[label]
        seen = [f"{t.name} {share(s)}" for t, s in zip(p.stream, p.eval_success, strict=False)]
        words = [
            _where(p),
            f"{p.env_step:,}/{p.stream.steps:,} steps",
            f"{clock.rate:.0f} steps/s" if clock.rate else "",
            f"success {share(p.train_success)}" if p.phase == "training" else "",
            f"evaluated: {', '.join(seen)}" if seen and p.phase != "evaluating" else "",
            f"{clock.left(p)} left" if p.phase != "finished" else f"{_time(p.wall_s)} in all",
        ]
        return ", ".join(w for w in words if w)

    def _draw(self) -> RenderableType:
        blocks: list[RenderableType] = []
        for label, p in self._runs.items():
            clock = self._clocks[label]
            head = Table.grid(padding=(0, 2))
            head.add_row(
                Text(label, style="bold"),
                ProgressBar(total=p.stream.steps, completed=p.env_step, width=32),
                Text(f"{p.env_step:,}/{p.stream.steps:,}"),
                Text(f"{clock.rate:.0f} steps/s" if clock.rate else "", style="dim"),
                Text(f"{clock.left(p)} left" if p.phase != "finished" else _time(p.wall_s),
                     style="dim"),
            )
            rows = Table.grid(padding=(0, 2))
            for i, task in enumerate(p.stream):
                success = p.eval_success[i] if i < len(p.eval_success) else math.nan
                bar = ProgressBar(total=1.0, completed=0 if math.isnan(success) else success,
                                  width=16, complete_style="green", finished_style="green")
                note = ""
                if i == p.task and p.phase != "finished":
                    note = (p.phase if p.phase != "training"
                            else f"training, {share(p.train_success)} of the last episodes")
                elif i > p.task:
                    note = "to come"
                rows.add_row(Text(f"  {task.name}"), bar, Text(share(success)),
                             Text(note, style="cyan" if i == p.task else "dim"))
            blocks += [head, rows]
        return Group(*blocks)


def bars(counted: str, console: Console) -> progress.Progress:
    """Bars with what each is of, how far it is and the time left; nothing but on a terminal.

    Args:
        counted: How far it is, as a format of rich's ``task``.
        console: Where to.
    """
    return progress.Progress(
        progress.TextColumn("{task.description}", style="bold"), progress.BarColumn(32),
        progress.TextColumn(counted), progress.TimeRemainingColumn(), console=console,
        disable=not console.is_terminal)


class StepBars:
    """A bar for each task, of steps that are done; nothing where there is no terminal.

    Use it as a context manager and call it with a task, the steps done, and of how many.
    """

    def __init__(self) -> None:
        self._bars = bars("{task.completed:,}/{task.total:,} steps", Console())
        self._rows: dict[str, progress.TaskID] = {}

    def __enter__(self) -> StepBars:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, task: str, done: int, of: int) -> None:
        if task not in self._rows:
            self._rows[task] = self._bars.add_task(task, total=of)
        self._bars.update(self._rows[task], completed=done)


class _Clock:
    """Steps a second and the time left, from what was seen since the display opened."""

    def __init__(self) -> None:
        self._seen: tuple[float, int] | None = None
        self.rate = 0.0

    def tick(self, p: Progress) -> None:
        if self._seen is None:
            self._seen = (p.wall_s, p.env_step)
        wall, step = self._seen
        if p.wall_s - wall > 1 and p.env_step > step:
            self.rate = (p.env_step - step) / (p.wall_s - wall)

    def left(self, p: Progress) -> str:
        return _time((p.stream.steps - p.env_step) / self.rate) if self.rate else "?"


def _where(p: Progress) -> str:
    if p.phase == "finished":
        return "finished"
    return f"task {p.task + 1}/{len(p.stream)} {p.stream[p.task].name} {p.phase}"


def share(value: float) -> str:
    """A success rate as text; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
