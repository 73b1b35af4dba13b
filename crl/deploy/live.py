"""What a person sees while a bundle drives: a live view of the robot, the guard and the clock."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from crl.deploy.drive import Drive
from crl.deploy.summary import timing_table

_ROWS = 14     # terms of an observation that are shown
_NEWEST = 5000  # steps that times are shown of


class LiveView:
    """Draws four times a second in a thread of its own, so that driving does not wait for it.

    Args:
        manifests: By task.
        seconds: How long it will drive.
        console: Where to; nothing is drawn unless it is a terminal.
    """

    def __init__(self, manifests: dict[str, Any], seconds: float, console: Console) -> None:
        self._manifests, self._seconds, self._console = manifests, seconds, console
        self._result: Drive | None = None
        self._live: Live | None = None

    def __enter__(self) -> Callable[[Drive], None]:
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=4,
                              get_renderable=self._draw)
            self._live.start()
        return self._see

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def _see(self, result: Drive) -> None:
        self._result = result

    def _draw(self) -> RenderableType:
        result = self._result
        if result is None or result.observation is None or result.command is None:
            return Text("the robot is being made", style="dim")
        episode = result.episodes[-1]
        manifest = self._manifests[episode["robot"]]
        head = Table.grid(padding=(0, 2))
        head.add_row(Text(episode["robot"], style="bold"), f"episode {len(result.episodes)}",
                     f"step {episode['steps']}", f"return {episode['return']:.1f}",
                     ProgressBar(total=self._seconds, completed=len(result.lags) / result.rate_hz,
                                 width=24), f"{result.rate_hz:g} Hz")
        terms = Table.grid(padding=(0, 2))
        observed = zip(manifest["observation"]["terms"], result.observation, strict=True)
        for term, value in list(observed)[:_ROWS]:
            terms.add_row(Text(f"  {term['name']}", style="dim"), f"{value:.3f}",
                          Text(term["unit"] or "", style="dim"))
        for term, value in zip(manifest["action"]["terms"], result.command, strict=True):
            span = term["high"] - term["low"]
            terms.add_row(Text(f"→ {term['name']}", style="cyan"), f"{value:.3f}",
                          Text(term["unit"] or "", style="dim"),
                          ProgressBar(total=span, completed=float(value) - term["low"], width=24))
        counts = [f"{name} {count}" for name, count in result.events.items() if count]
        counts += [f"missed {result.missed}", f"jittery {result.jittery}"]
        return Group(head, terms, timing_table(result, _NEWEST),
                     Text(", ".join(counts), style="red" if result.stopped else "dim"))
