"""The leaderboard as one HTML file that needs nothing else and asks nothing of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from crl.leaderboard import drawing
from crl.leaderboard.entries import Entries
from crl.leaderboard.protocols import TOLD, Protocol
from crl.leaderboard.ranking import COLUMNS, Column, Row
from crl.leaderboard.tables import between, number
from crl.report.curves import View, views
from crl.report.page import opening, origin
from crl.report.tables import plural, score

SHOWN_AT_FIRST = 5  # whose bands can still be told apart


def page(entries: Entries, rows: Sequence[Row], command: str, made: str) -> str:
    """The whole page.

    Args:
        entries: What the rows are of.
        rows: The table.
        command: What to type to make the page again.
        made: When it was made, and by which version.
    """
    protocol, section = entries.protocol, entries.section
    style = "".join((files(package) / "assets" / name).read_text(encoding="utf-8")
                    for package, name in (("crl.report", "page.css"),
                                          ("crl.leaderboard", "leaderboard.css")))
    script = (files("crl.leaderboard") / "assets" / "leaderboard.js").read_text(encoding="utf-8")
    title = f"{protocol.title}: {_entries(len(rows))}"
    first, caution = headline(protocol, rows)
    return f"""{opening(title, "leaderboard", style, "Skip to the table")}
<p class="lede">{escape(first)}</p>
<p class="muted">{escape(caution)}</p>
{_notice(entries)}</header>
<main id="main">
<div class="tools"><label for="filter">Show entries with</label>
<input id="filter" type="search" autocomplete="off" spellcheck="false"
placeholder="such as packnet"><output id="count" for="filter"></output></div>
{_table(entries, rows)}
<p class="muted">Means over seeds; below them 90% bootstrap intervals. ↑ more is better, ↓ less is
better. A heading sorts, a name opens its tasks.</p>
<details><summary>What the columns mean</summary><dl class="meanings">
{"".join(f"<dt>{c.title}</dt><dd>{c.meaning}</dd>" for c in COLUMNS)}</dl></details>
<h2 id="profiles">Performance profiles</h2>
<p class="muted">Share of runs and tasks (upwards) that end with more than a score (to the right):
who is above is better there. Band: 90% bootstrap interval.</p>
{_chips(rows)}
{drawing.profiles(rows, SHOWN_AT_FIRST)}
<h2 id="protocol">Protocol</h2>
{_protocol(protocol, section.tasks, section.boundaries)}
{origin(section.runs, command)}
</main>
<footer><p class="muted">{escape(made)} The same numbers as tables:
<a href="leaderboard.csv">leaderboard.csv</a>, <a href="tasks.csv">tasks.csv</a>,
<a href="leaderboard.md">leaderboard.md</a>.</p></footer>
<script>
{script}</script>
</body>
</html>
"""


def headline(protocol: Protocol, rows: Sequence[Row]) -> tuple[str, str]:
    """Who leads, and how far to trust that."""
    best = rows[0]
    sentence = f"{best.group.name} leads {protocol.name} with {score(_mean(best, 'performance'))}."
    if len(rows) == 1:
        return sentence, f"The only entry, {plural(len(best.group.runs), 'seed')}."
    better, following = best.values["better"], rows[1].group.name
    caution = (f"A run of it does better on a task than one of {following} with probability "
               f"{score(better.mean)}")
    if math.isnan(better.low):
        return sentence, f"{caution}; a single seed can be luck."
    equal = better.low <= 0.5 <= better.high
    return sentence, (f"{caution} (90% interval {between(COLUMNS[-1], better)}): with these seeds "
                      + ("the two cannot be told apart." if equal else "that is no chance."))


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count:,} entries"


def _mean(row: Row, key: str) -> float:
    return row.values[key].mean


def _notice(entries: Entries) -> str:
    if not entries.unchecked:
        return ""
    count = len(entries.unchecked)
    return (f'<p class="notice" role="note">{plural(count, "run")} of '
            f"{len(entries.section.runs)} recorded no SHA-256 of their files: their rows are those "
            "of their seeds, but whether a score was edited cannot be said.</p>\n")


def _table(entries: Entries, rows: Sequence[Row]) -> str:
    head = ['<th scope="col" class="number">#</th>',
            '<th scope="col" class="name">Entry</th>', '<th scope="col" class="number">Seeds</th>']
    for column in COLUMNS:
        arrow = "↑" if column.better > 0 else "↓"
        order = ' aria-sort="descending"' if column is COLUMNS[0] else ""
        head.append(f'<th scope="col" class="number"{order}><button type="button" '
                    f'data-better="{column.better}">{column.title}&nbsp;{arrow}</button></th>')
    drawn = views(entries.section)
    body = "".join(_row(row) + _detail(entries, row, view)
                   for row, view in zip(rows, drawn, strict=True))
    return ('<div class="scroll board" tabindex="0" role="region" aria-label="Leaderboard">'
            f'<table><thead><tr>{"".join(head)}</tr></thead><tbody>{body}</tbody></table></div>')


def _row(row: Row) -> str:
    number_of = row.rank - 1
    cells = "".join(_cell(column, row) for column in COLUMNS)
    label, bracket, settings = row.group.name.partition(" (")
    small = f"<small>{escape(bracket.strip() + settings)}</small>" if settings else ""
    return (f'<tr data-entry="{number_of}"><td class="number">{row.rank}</td>'
            f'<th scope="row" class="name"><button type="button" aria-expanded="false" '
            f'aria-controls="tasks-{number_of}">{drawing.swatch(number_of)}'
            f"<span>{escape(label)}{small}</span></button></th>"
            f'<td class="number">{len(row.group.runs)}</td>{cells}</tr>')


def _cell(column: Column, row: Row) -> str:
    summary = row.values[column.key]
    value = "" if math.isnan(summary.mean) else f"{summary.mean:.6g}"
    low_high = between(column, summary)
    bar = drawing.spread(summary) if column.key in ("performance", "iqm") else ""
    return (f'<td class="number" data-value="{value}">{number(column, summary.mean)}'
            + (f"<small>{low_high}</small>" if low_high else "") + bar + "</td>")


def _detail(entries: Entries, row: Row, view: View) -> str:
    """What an entry makes of each task; opened by its name."""
    section, number_of = entries.section, row.rank - 1
    boxes = []
    for task, name in enumerate(section.tasks):
        facts = [("learned", row.learned[:, task].mean()), ("at the end", row.kept[:, task].mean()),
                 ("transfer", row.transfer[task])]
        pairs = "".join(f"<div><dt>{label}</dt> <dd>{score(float(value))}</dd></div>"
                        for label, value in facts if not math.isnan(value))
        boxes.append(f"<li><strong>{escape(name)}</strong><dl>{pairs}</dl>"
                     f"{drawing.task_chart(section, view, task, number_of)}</li>")
    return (f'<tr class="detail" id="tasks-{number_of}" hidden><td colspan="{3 + len(COLUMNS)}">'
            f'<ul class="tasks" aria-label="Tasks of {escape(row.group.name)}">{"".join(boxes)}'
            "</ul></td></tr>")


def _chips(rows: Sequence[Row]) -> str:
    chips = "".join(
        f'<button type="button" data-entry="{i}" '
        f'aria-pressed="{"true" if i < SHOWN_AT_FIRST else "false"}">{drawing.swatch(i)}'
        f'<span class="name">{escape(row.group.name)}</span></button>'
        for i, row in enumerate(rows))
    return ('<div class="groups" role="group" aria-label="Entries shown in the figure">'
            f"{chips}</div>")


def _protocol(protocol: Protocol, tasks: Sequence[str], boundaries: Sequence[int]) -> str:
    train = protocol.train
    policies = "modes of policies" if train["eval_deterministic"] else "samples of policies"
    of = {"all": "of every task", "seen": "of every task so far"}[train["eval_tasks"]]
    facts = {
        "Tasks": ", ".join(tasks),
        "Steps": f"{boundaries[0]:,} a task, {boundaries[-1]:,} in all",
        "Evaluations": f"every {train['eval_every']:,} steps, {train['eval_episodes']} episodes "
                       f"{of}, {policies}",
        "Score": protocol.score,
        "Seeds": f"0, 1, 2 … without a gap, at least {protocol.seeds}",
        "An agent is told": TOLD[protocol.told],
        "Stream": protocol.fixed,
    }
    pairs = "".join(f'<tr><th scope="row">{key}</th><td>{escape(value)}</td></tr>'
                    for key, value in facts.items())
    return (f"<p>{escape(protocol.about)}</p>"
            '<div class="scroll" tabindex="0" role="region" aria-label="Protocol">'
            f'<table class="facts"><tbody>{pairs}</tbody></table></div>\n'
            "<p>To add an entry, train its seeds, put the run folders into one folder (run.json "
            "and evals.csv are enough) and have it checked:</p>"
            '<pre tabindex="0" aria-label="Commands that make an entry"><code>'
            f"crl train --protocol {protocol.name} --agent sac --method ewc --seed 0 "
            "--out entry/0\ncrl leaderboard --check entry</code></pre>")
