"""What a person sees while runs train: lines in a file, bars on a terminal."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console
from toy import corners

import crl
from crl import progress as module
from crl.loop import Progress
from crl.progress import Display

NAN = math.nan


def at(phase: str, task: int, step: int, wall_s: float, success: float = NAN,
       evaluated: tuple[float, ...] = ()) -> Progress:
    """A run of three tasks of 1000 steps."""
    return Progress(corners(3, 1000), phase, task, step, task * 1000 + step, wall_s, success,
                    list(evaluated))


STORY = [
    at("evaluating", 0, 0, 0.1),
    at("training", 0, 25, 1.0, 0.0, (0.0, 0.0, 0.0)),
    at("training", 0, 500, 6.0, 0.4, (0.0, 0.0, 0.0)),
    at("consolidating", 0, 1000, 11.0, 0.9, (0.5, 0.0, 0.0)),
    at("evaluating", 0, 1000, 12.0, 0.9, (0.5, 0.0, 0.0)),
    at("training", 1, 25, 13.0, 0.1, (1.0, 0.25, NAN)),
    at("consolidating", 2, 1000, 3700.0, 0.8, (1.0, 0.25, 0.5)),
    at("finished", 3, 0, 3725.0, 0.8, (1.0, 0.25, 0.75)),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, for whoever asks: change ``clock[0]``."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def lines(story: list[Progress], clock: list[float], label: str = "run") -> list[str]:
    text = io.StringIO()
    with Display(Console(file=text, width=40)) as display:
        for progress in story:
            clock[0] = progress.wall_s
            display(label, progress)
    assert "\x1b" not in text.getvalue()
    return text.getvalue().splitlines()


def test_plain_lines(clock: list[float]) -> None:
    """One a change of phase, none broken at the width of a terminal that is not there."""
    assert lines(STORY, clock) == [
        "run: task 1/3 corner-0 evaluating, 0/3,000 steps, ? left",
        "run: task 1/3 corner-0 consolidating, 1,000/3,000 steps, 92 steps/s, evaluated: "
        "corner-0 0.50, corner-1 0.00, corner-2 0.00, 0:21 left",
        "run: task 1/3 corner-0 evaluating, 1,000/3,000 steps, 84 steps/s, 0:23 left",
        "run: task 3/3 corner-2 consolidating, 3,000/3,000 steps, 1 steps/s, evaluated: "
        "corner-0 1.00, corner-1 0.25, corner-2 0.50, 0:00 left",
        "run: finished, 3,000/3,000 steps, 1 steps/s, evaluated: "
        "corner-0 1.00, corner-1 0.25, corner-2 0.75, 1:02:05 in all",
    ]


def test_a_line_now_and_then_while_nothing_changes(clock: list[float]) -> None:
    story = [at("training", 0, 10 * i, float(i), 0.5) for i in range(35)]
    shown = lines(story, clock)
    assert [line.split(", ")[1] for line in shown] == [
        "0/3,000 steps", "100/3,000 steps", "200/3,000 steps", "300/3,000 steps"]
    assert all("success 0.50" in line for line in shown)


def test_the_end_is_said_once(clock: list[float]) -> None:
    assert len(lines([STORY[-1]] * 4, clock)) == 1


def test_two_runs_have_lines_of_their_own(clock: list[float]) -> None:
    text = io.StringIO()
    with Display(Console(file=text)) as display:
        for label in ("fine-tuning", "packnet"):
            for progress in STORY[:4]:
                display(label, progress)
    heads = [line.split(":")[0] for line in text.getvalue().splitlines()]
    assert heads == ["fine-tuning"] * 2 + ["packnet"] * 2


@pytest.mark.parametrize("label", ["[red]run", "run[/]", "runs [1]", "a:b", "日本"])
def test_labels_are_printed_as_they_are(label: str, clock: list[float]) -> None:
    assert lines(STORY[:1], clock, label)[0].startswith(f"{label}: task 1/3")
    assert label in screen(STORY[:1], label)


def screen(story: list[Progress], *labels: str, width: int = 120) -> str:
    """The last picture on a terminal."""
    console = Console(record=True, force_terminal=True, width=width, file=io.StringIO())
    with Display(console) as display:
        for progress in story:
            for label in labels:
                display(label, progress)
        picture = display._draw()
    plain = Console(record=True, width=width, file=io.StringIO())
    plain.print(picture)
    return plain.export_text()


def test_a_live_display() -> None:
    text = screen(STORY[:6], "run")
    head, *rows = text.rstrip().splitlines()
    assert head.startswith("run")
    assert "1,025/3,000" in head
    assert "left" in head
    assert [row.split()[0] for row in rows] == ["corner-0", "corner-1", "corner-2"]
    assert "1.00" in rows[0]
    assert "0.25" in rows[1]
    assert "training, 0.10 of the last episodes" in rows[1]
    assert "–" in rows[2]
    assert "to come" in rows[2]


def test_a_live_display_at_every_moment() -> None:
    """Every phase, position and width can be drawn, and the terminal is given back as it was."""
    for width in (20, 80, 200):
        for progress in STORY:
            console = Console(record=True, force_terminal=True, width=width, height=30,
                              file=io.StringIO())
            with Display(console) as display:
                display("run", progress)
                display("another", progress)
            console.file.flush()
            output = console.file.getvalue()  # type: ignore[attr-defined]
            assert output.count("\x1b[?25l") == output.count("\x1b[?25h") == 1  # the cursor
            assert "run" in console.export_text()


def test_a_display_gives_the_terminal_back_after_an_error() -> None:
    console = Console(record=True, force_terminal=True, file=io.StringIO())
    display = Display(console)

    def interrupted() -> None:
        with display:
            display("run", STORY[2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert console.file.getvalue().endswith("\x1b[?25h")  # type: ignore[attr-defined]


def test_the_finished_run_shows_how_long_it_took() -> None:
    head, *rows = screen(STORY, "run").rstrip().splitlines()
    assert "1:02:05" in head
    assert "3,000/3,000" in head
    assert "left" not in head
    assert "to come" not in "".join(rows)


def test_the_rate_is_that_since_the_display_opened() -> None:
    """A run taken up at step 2000 after two hours is not said to do 0.3 steps a second."""
    text = screen([at("training", 2, 0, 7200.0), at("training", 2, 500, 7210.0)], "run")
    assert "50 steps/s" in text
    assert "0:10 left" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (3599, "59:59"), (3600, "1:00:00"),
     (100 * 3600 + 61, "100:01:01")],
)
def test_times(seconds: float, text: str) -> None:
    assert module._time(seconds) == text


def test_shares() -> None:
    assert [module.share(v) for v in (0.0, 1.0, 1 / 3, NAN)] == ["0.00", "1.00", "0.33", "–"]


def test_a_run_seen_through_both(tmp_path: Path) -> None:
    """What the loop reports can be shown as it comes."""
    plain, live = io.StringIO(), io.StringIO()
    stream = corners(2, 60)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    with Display(Console(file=plain)) as lines_of, \
            Display(Console(file=live, force_terminal=True)) as bars_of:
        def watch(progress: Progress) -> None:
            lines_of("run", progress)
            bars_of("run", progress)

        crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, watch=watch)
    assert "run: finished, 120/120 steps" in plain.getvalue()
    assert "120/120" in live.getvalue()
