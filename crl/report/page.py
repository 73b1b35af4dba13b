"""The HTML page: one file that needs nothing else and asks nothing of a network."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from crl.report import plots
from crl.report.curves import View
from crl.report.details import configuration, runs_table
from crl.report.load import Group, Loaded, Section
from crl.report.tables import (
    COSTS,
    METRICS,
    NONE,
    amount,
    group_title,
    headline,
    interval,
    learned_and_kept,
    plural,
    score,
)

MOST_CARDS = 6
LONG_SENTENCE = 90   # characters: set smaller and wider
SHOWN_AT_FIRST = 7   # as many as the palette has colours
# Whatever a label smuggled in: the page may run its own scripts and load nothing.
POLICY = ("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
          "img-src data: blob:; base-uri 'none'; form-action 'none'")


def page(drawn: Sequence[tuple[Section, Sequence[View]]], loaded: Sequence[Loaded],
         command: str, made: str) -> str:
    """The whole page.

    Args:
        drawn: The sections with what is drawn of their groups.
        loaded: All runs, also those without evaluations.
        command: What to type to make the page again.
        made: When it was made, and by which version.
    """
    from plotly.offline import get_plotlyjs

    figures: dict[str, Any] = {}
    several = len(drawn) > 1
    body = [_section(number, section, views, figures, several)
            for number, (section, views) in enumerate(drawn)]
    main = drawn[0][0]
    sentence, caution = headline(main)
    notice = ""
    if several:
        links = ", ".join(f'<a href="#section-{i}">{escape(section.protocol)}'
                          f"</a> ({plural(len(section.runs), 'run')})"
                          for i, (section, _) in enumerate(drawn))
        notice = ('<p class="notice" role="note"><strong>These runs follow '
                  f"{len(drawn)} different protocols.</strong> Scores may only be compared within "
                  f"one, so each has a section of its own: {links}. "
                  "The sentence above is about the first.</p>")
    waiting = [run for run in loaded if run.scores is None]
    if waiting:
        notice += (f'<p class="notice" role="note">{plural(len(waiting), "run")} without any '
                   "evaluation yet: listed under <a href=\"#runs\">Runs</a>, in no figure.</p>")
    asset = files("crl.report") / "assets"
    # "<" would end the script element early; JSON can spell it otherwise.
    data = json.dumps(figures, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    title = f"{main.stream}: {plural(len(loaded), 'run')}"
    style = (asset / "page.css").read_text(encoding="utf-8")
    return f"""{opening(title, "report", style, "Skip to the results")}
<p class="lede{" long" if len(sentence) > LONG_SENTENCE else ""}">{escape(sentence)}</p>
<p class="muted">{escape(caution)}</p>
{notice}
</header>
<main id="main">
{"".join(body)}
{origin(loaded, command)}
</main>
<footer><p class="muted">{escape(made)} The same numbers as tables:
<a href="metrics.csv">metrics.csv</a>, <a href="curves.csv">curves.csv</a>; as pictures:
{_pictures(len(drawn))}.</p>
<noscript><p class="notice">The figures need JavaScript; the pictures above do not.</p></noscript>
</footer>
<script type="application/json" id="figures">{data}</script>
<script>{get_plotlyjs()}</script>
<script>
{(asset / "page.js").read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def opening(title: str, kind: str, style: str, skip: str) -> str:
    """From the first line to the title, within the header."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} – crl {kind}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<a class="skip" href="#main">{skip}</a>
<header>
<h1>{escape(title)}</h1>"""


def origin(runs: Sequence[Loaded], command: str) -> str:
    """What the page was made of, and how to make it again."""
    return f"""<h2 id="configuration">Configuration</h2>
{configuration(runs)}
<h2 id="runs">Runs</h2>
{runs_table(runs)}
<h2 id="again">Make this page again</h2>
<pre tabindex="0" aria-label="Command that makes this page"><code>{escape(command)}</code></pre>"""


def _pictures(sections: int) -> str:
    names = [f"{stem}{'' if i == 0 else f'-{i + 1}'}.png"
             for i in range(sections) for stem in ("curves", "mean", "matrix")]
    return ", ".join(f'<a href="{name}">{name}</a>' for name in names)


def _section(number: int, section: Section, views: Sequence[View], figures: dict[str, Any],
             several: bool) -> str:
    """One protocol: cards, figures and metrics. Adds its figures to ``figures`` by element id."""
    level = "h3" if several else "h2"

    def figure(kind: str, title: str, caption: str, content: plots.Figure, label: str) -> str:
        name = f"{kind}-{number}"
        figures[name] = content
        return (f'<{level} id="{name}-title">{title}</{level}>\n<figure>'
                f"<figcaption>{caption}</figcaption>"
                f'<div class="plot" id="{name}" data-section="{number}" role="img" '
                f'aria-label="{escape(label)}"></div></figure>\n')

    tasks = plural(len(section.tasks), "task")
    where = f"{tasks} of {section.stream}, {plural(len(section.groups), 'group')} of runs"
    many = any(len(group.runs) > 1 and group.finished for group in section.groups)
    bands = " Line: mean over seeds; band: 90% bootstrap interval of that mean." if many else ""
    every = max(view.every for view in views)
    thinned = (f" One evaluation in {every} is drawn; curves.csv has them all."
               if every > 1 else "")
    parts = [f'<section id="section-{number}" aria-label="{escape(section.stream)}">']
    if several:
        parts.append(f"<h2>{escape(section.stream)}</h2>\n"
                     f'<p class="muted">Protocol <code>{escape(section.protocol)}</code></p>')
    if number > 0:  # the first section's sentence is the page's
        sentence, caution = headline(section)
        parts.append(f'<p>{escape(sentence)} <span class="muted">{escape(caution)}</span></p>')
    parts += [
        _cards(section), _notices(section), _chips(number, section, views),
        figure("curves", "Success on every task, all the time",
               f"Share of evaluation episodes that succeed.{bands}{thinned} Vertical lines: the "
               "task changes.", plots.success_curves(section, views),
               f"Success curves: {where}. The same numbers are in curves.csv."),
        f'<{level} id="matrix-{number}-title">Task by time</{level}>\n'
        '<p class="muted">Success of each task (row) at each evaluation (column), 0 '
        '<span class="ramp" role="img" aria-label="light to dark"></span> 1. Framed: the task in '
        "training.</p>\n" + _matrices(number, section, views, figures),
        figure("mean", "Mean success", f"Over all tasks, and over those begun so far.{bands}",
               plots.mean_curves(section, views), f"Mean success over time: {where}."),
    ]
    parts.append(figure(
        "earned", "Return on every task", f"Mean return of evaluation episodes.{bands}{thinned}",
        plots.earned_curves(section, views), f"Return curves: {where}."))
    if any(view.returns for view in views):
        parts.append(figure(
            "returns", "Training return", "Mean return of the training episodes that end in a span "
            f"of steps, whatever the task in training.{bands}",
            plots.return_curves(section, views), f"Training return over time: {where}."))
    if any(view.measures for view in views):
        parts.append(figure(
            "inside", "Inside the networks", "Measures of <code>--diagnose</code> at every "
            "evaluation; KL, drift, refit and CKA compare with the last task's end."
            f"{bands}", plots.measure_curves(section, views),
            f"Diagnostics over time: {where}. The same numbers are in each run's "
            "diagnostics.csv."))
    parts.append(f'<{level} id="metrics-{number}-title">Metrics</{level}>\n'
                 + _metrics(section) + "</section>\n")
    return "\n".join(parts)


def _swatch(group: Group) -> str:
    broken = not group.finished or group.colour >= plots.COLOURS
    kind = (" dotted" if not group.finished else " broken") if broken else ""
    return (f'<span class="swatch{kind}" style="--c:var(--c{group.colour % plots.COLOURS})" '
            'aria-hidden="true"></span>')


def _cards(section: Section) -> str:
    """The first groups at a glance: what each task was worth when learned, and at the end."""
    cards = []
    for group in section.groups[:MOST_CARDS]:
        bars = []
        for task, (learned, kept) in zip(section.tasks, learned_and_kept(group), strict=True):
            mark = "" if math.isnan(learned) else f'<b style="left:{_percent(learned)}"></b>'
            bars.append(
                f'<dt title="{escape(task)}">{escape(task)}</dt><dd><div class="bar" role="img" '
                f'aria-label="{score(learned)} when learned, {score(kept)} at the end">'
                f'<i style="width:{_percent(kept)}"></i>{mark}</div></dd><dd>{score(kept)}</dd>')
        about = plural(len(group.runs), "seed")
        if interval(group.summaries["performance"]):
            about += f" · {interval(group.summaries['performance'])}"
        if not group.finished:
            about += " · unfinished"
        cards.append(
            f'<li class="card" style="--c:var(--c{group.colour % plots.COLOURS})">'
            f'<div class="name">{_swatch(group)}<span>{escape(group.name)}</span></div>'
            f'<span class="big">{score(group.performance)}</span><span class="muted">{about}</span>'
            f'<dl class="bars">{"".join(bars)}</dl></li>')
    more = len(section.groups) - len(cards)
    rest = f" The other {more} are in the table of metrics." if more > 0 else ""
    return (f'<ul class="cards">{"".join(cards)}</ul>\n<p class="muted" style="margin-top:8px">'
            "Bar: success at the end. Upright mark: success when its own training ended."
            f"{rest}</p>")


def _percent(value: float) -> str:
    return f"{100 * min(1.0, max(0.0, 0.0 if math.isnan(value) else value)):.1f}%"


def _notices(section: Section) -> str:
    notices = []
    for group in section.groups:
        name = f"<strong>{escape(group_title(group))}</strong>"
        if group.repeated_seeds:
            seeds = ", ".join(map(str, group.repeated_seeds))
            notices.append(f"{name} has more than one run with seed {seeds}: they are not "
                           "independent, and its intervals are too narrow.")
        versions = {run.facts.get("commit", "") + run.facts.get("versions.crl", "")
                    for run in group.runs}
        if len(versions) > 1:
            notices.append(f"{name} mixes {len(versions)} versions of the code: see "
                           '<a href="#runs">Runs</a>.')
        if not group.finished:
            steps = [run.env_steps for run in group.runs]
            span = f"{min(steps):,}" + (f" to {max(steps):,}" if len(set(steps)) > 1 else "")
            notices.append(f"{name}: {plural(len(group.runs), 'run')}, at {span} of "
                           f"{section.boundaries[-1]:,} steps. Drawn dotted, run by run; its "
                           "metrics are of what there is and not comparable with finished runs.")
    if all((np.nan_to_num(run.values) == 0).all() for g in section.groups for run in g.scores):
        notices.append("No evaluation episode succeeded: success says nothing here, look at the "
                       "return.")
    return "".join(f'<p class="notice" role="note">{text}</p>' for text in notices)


def _chips(number: int, section: Section, views: Sequence[View]) -> str:
    """The legend of all figures of a section; each entry shows or hides its group."""
    chips = "".join(
        f'<button type="button" data-section="{number}" data-group="{i}" '
        f'aria-pressed="{"true" if i < SHOWN_AT_FIRST else "false"}">{_swatch(view.group)}'
        f'<span class="name">{escape(group_title(view.group))}</span></button>'
        for i, view in enumerate(views))
    if len(views) > SHOWN_AT_FIRST:
        chips = "".join(f'<button type="button" data-section="{number}" data-all="{value}">'
                        f"{text}</button>"
                        for value, text in (("true", "Show all"), ("false", "Hide all"))) + chips
    return (f'<div class="groups" role="group" aria-label="Groups shown in the figures">{chips}'
            '<span class="key"><i aria-hidden="true"></i>task in training</span></div>')


def _matrices(number: int, section: Section, views: Sequence[View],
              figures: dict[str, Any]) -> str:
    boxes = []
    for i, view in enumerate(views):
        name = f"matrix-{number}-{i}"
        figures[name] = plots.matrix(section, view)
        title = escape(group_title(view.group))
        boxes.append(
            f'<figure data-section="{number}" data-group="{i}"'
            f'{"" if i < SHOWN_AT_FIRST else " hidden"}><h4>{_swatch(view.group)}{title}</h4>'
            f'<div class="plot" id="{name}" data-section="{number}" data-group="{i}" role="img" '
            f'aria-label="Success by task and time: {title}"></div></figure>')
    return f'<div class="matrices">{"".join(boxes)}</div>\n'


def _metrics(section: Section) -> str:
    columns = (*METRICS, *COSTS)
    arrow = {1: " ↑", -1: " ↓", 0: ""}
    head = "".join(f'<th scope="col" class="number">{metric.title}{arrow[metric.better]}</th>'
                   for metric in columns)
    rows = []
    for group in section.groups:
        cells = []
        for metric in columns:
            summary = group.summaries[metric.key]
            if metric in COSTS:
                cells.append(f'<td class="number">{amount(summary)}</td>')
            else:
                low_high = interval(summary)
                cells.append(f'<td class="number">{score(summary.mean)}'
                             + (f"<small>{low_high}</small>" if low_high else "") + "</td>")
        rows.append(f'<tr><th scope="row">{escape(group_title(group))}</th>'
                    f'<td class="number">{len(group.runs)}</td>{"".join(cells)}</tr>')
    meanings = "".join(f"<dt>{m.title}</dt><dd>{m.meaning}</dd>" for m in columns)
    return (f'<div class="scroll tall metrics" tabindex="0" role="region" aria-label="Metrics">'
            f'<table><thead><tr><th scope="col">Group</th><th scope="col" class="number">Seeds</th>'
            f'{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>\n'
            '<p class="muted">Mean over seeds; below it the 90% percentile bootstrap interval, '
            f"which one seed does not have. {NONE}: cannot be said from these evaluations. "
            "↑ more is better, ↓ less is better.</p>\n"
            f'<details><summary>What the metrics mean</summary><dl class="meanings">{meanings}'
            "</dl></details>\n")
