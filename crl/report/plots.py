"""The interactive figures, as plotly.js takes them: {"data": […], "layout": {…}}.

Colours are left out: ``meta`` and ``name`` say what a trace or a shape is, and the page's script
colours it for a light or a dark screen.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from crl.report.curves import FloatArray, Line, View
from crl.report.load import Section
from crl.report.tables import group_title

Figure = dict[str, Any]
MEASURES = {         # of crl.diagnostics, as they are called on the page
    "dormant": "Dormant units", "effective_rank": "Effective rank", "weight_norm": "Weight norm",
    "kl_forward": "KL(at last boundary ‖ now)", "kl_reverse": "KL(now ‖ at last boundary)",
    "drift": "Drift on finished tasks", "drift_alone": "Drift by this part alone",
    "loss": "Loss", "loss_rise": "Rise of the loss on finished tasks",
    "refit": "Undone by refitting the head", "cka": "CKA",
}
DASHES = ("solid", "dash", "dashdot", "longdash")
COLOURS = 7          # of the palette in page.css and stills.py
MARKERS_UP_TO = 16   # evaluations a curve, so that sparse ones are seen to be sparse
TICKS_AT_BOUNDARIES_UP_TO = 5   # tasks; more labels collide on a phone
TOP, BOTTOM, GAP = 26, 44, 26


def success_curves(section: Section, views: Sequence[View]) -> Figure:
    """One panel a task on a shared axis of steps: success of every group over the whole stream."""
    figure = _task_panels(section, views, [view.tasks for view in views])
    _score_axes(figure["layout"], len(section.tasks))
    return figure


def earned_curves(section: Section, views: Sequence[View]) -> Figure:
    """Likewise the return of evaluation episodes."""
    figure = _task_panels(section, views, [view.earned for view in views], digits=".1f")
    for i in range(len(section.tasks)):
        figure["layout"][_axis("yaxis", i)] |= {"nticks": 4, "tickformat": "~s",
                                                "fixedrange": True}
    return figure


def _task_panels(section: Section, views: Sequence[View], lines: Sequence[Sequence[Line]],
                 digits: str = ".2f") -> Figure:
    panels = len(section.tasks)
    height = 150 if panels <= 4 else 112 if panels <= 12 else 92
    figure = _panels(section, [html.escape(task) for task in section.tasks], height)
    layout = figure["layout"]
    for i, (start, end) in enumerate(zip(section.starts, section.boundaries, strict=True)):
        layout["shapes"].append({
            "type": "rect", "name": "trained", "layer": "below", "line": {"width": 0},
            "xref": "x", "x0": start, "x1": end, "yref": f"{_axis('y', i)} domain",
            "y0": 0, "y1": 1})
    for number, (view, own) in enumerate(zip(views, lines, strict=True)):
        for line in own:
            for i in range(panels):
                figure["data"] += _traces(view, number, line, i, i, digits)
    return figure


def mean_curves(section: Section, views: Sequence[View]) -> Figure:
    """Mean success over all tasks, and over the tasks seen so far."""
    figure = _panels(section, ["All tasks", "Tasks seen so far"], 190)
    _score_axes(figure["layout"], 2)
    for number, view in enumerate(views):
        for line in view.means:
            for i in range(2):
                figure["data"] += _traces(view, number, line, i, i)
    return figure


def return_curves(section: Section, views: Sequence[View]) -> Figure:
    """Training return."""
    figure = _panels(section, ["Return of training episodes"], 280)
    figure["layout"]["yaxis"] |= {"rangemode": "tozero", "nticks": 6, "tickformat": "~s"}
    for number, view in enumerate(views):
        for line in view.returns:
            figure["data"] += _traces(view, number, line, 0, 0, digits=".1f")
    return figure


def measure_curves(section: Section, views: Sequence[View]) -> Figure:
    """One panel a measure of the diagnostics and part."""
    kinds = sorted({kind for view in views for kind in view.measures},
                   key=lambda kind: (list(MEASURES).index(kind[0]), kind[1]))
    figure = _panels(section, [f"{MEASURES[measure]} · {html.escape(part)}"
                               for measure, part in kinds], 92)
    for i, (measure, _) in enumerate(kinds):
        axis = figure["layout"][_axis("yaxis", i)]
        axis |= {"rangemode": "tozero", "nticks": 4, "tickformat": ".3~g", "fixedrange": True}
        if measure in ("dormant", "cka"):
            axis |= {"range": [-0.04, 1.04], "tickvals": [0, 0.5, 1], "ticktext": ["0", ".5", "1"]}
    for number, view in enumerate(views):
        for i, kind in enumerate(kinds):
            for line in view.measures.get(kind, []):
                figure["data"] += _traces(view, number, line, 0, i, digits=".3g")
    return figure


def matrix(section: Section, view: View) -> Figure:
    """Task × time: success of every task at every evaluation of a group."""
    names = _column_names(view)
    shapes, ticks = [], {0: "0"}
    for i in range(len(section.tasks)):
        columns = [c for c, task in enumerate(view.train_task)
                   if task == i and (view.steps[c] > 0 or i > 0)]
        if columns:
            shapes.append({"type": "rect", "name": "window", "line": {"width": 1.5},
                           "x0": columns[0] - 0.5, "x1": columns[-1] + 0.5,
                           "y0": i - 0.5, "y1": i + 0.5})
            ticks[columns[-1]] = brief(view.steps[columns[-1]])
    every = -(-len(ticks) // 7)
    shown = sorted(ticks)[::-1][::every][::-1]
    return {
        "data": [{
            "type": "heatmap", "meta": {"role": "matrix"}, "x": names,
            "y": [html.escape(task) for task in section.tasks],
            "z": [_numbers(row) for row in view.matrix.T], "zmin": 0, "zmax": 1, "ygap": 2,
            "showscale": False, "hoverongaps": False,
            "hovertemplate": "<b>%{y}</b><br>%{x} steps<br>success %{z:.2f}<extra></extra>"}],
        "layout": {
            "height": 24 * len(section.tasks) + 40, "showlegend": False, "hovermode": "closest",
            "margin": {"l": 10, "r": 14, "t": 6, "b": 34}, "shapes": shapes,
            "xaxis": {"type": "category", "tickvals": [names[c] for c in shown],
                      "ticktext": [ticks[c] for c in shown], "tickangle": 0, "showgrid": False},
            "yaxis": {"type": "category", "autorange": "reversed", "automargin": True,
                      "showgrid": False, "ticks": ""}},
    }


def _panels(section: Section, titles: Sequence[str], height: int) -> Figure:
    """Panels above each other over the stream's steps, with its boundaries across all of them."""
    total = len(titles) * height + (len(titles) - 1) * GAP
    layout: dict[str, Any] = {
        "height": total + TOP + BOTTOM, "showlegend": False, "hovermode": "x unified",
        "margin": {"l": 38, "r": 18, "t": TOP, "b": BOTTOM},
        "annotations": [], "shapes": [],
        "xaxis": {"range": [0, section.boundaries[-1]], "tickformat": "~s",
                  "unifiedhovertitle": {"text": "%{x:,d} steps"}, "showgrid": False, "nticks": 8,
                  "title": {"text": "environment steps", "standoff": 8},
                  "anchor": _axis("y", len(titles) - 1), "zeroline": False},
    }
    if len(section.tasks) <= TICKS_AT_BOUNDARIES_UP_TO:
        ticks = [0, *section.boundaries]
        layout["xaxis"] |= {"tickvals": ticks, "ticktext": [brief(tick) for tick in ticks]}
    for i, title in enumerate(titles):
        top = 1 - i * (height + GAP) / total
        layout[_axis("yaxis", i)] = {"domain": [max(0.0, top - height / total), top],
                                     "zeroline": False, "showspikes": False, "anchor": "x"}
        layout["annotations"].append({
            "text": f"<b>{title}</b>", "showarrow": False, "xref": "paper", "x": 0,
            "xanchor": "left", "yref": "paper", "y": top, "yanchor": "bottom"})
    layout["shapes"] += [
        {"type": "line", "name": "boundary", "layer": "below", "line": {"width": 1},
         "xref": "x", "x0": step, "x1": step, "yref": "paper", "y0": 0, "y1": 1}
        for step in section.boundaries[:-1]]
    return {"data": [], "layout": layout}


def _score_axes(layout: dict[str, Any], panels: int) -> None:
    for i in range(panels):
        layout[_axis("yaxis", i)] |= {"range": [-0.04, 1.04], "tickvals": [0, 0.5, 1],
                                      "ticktext": ["0", ".5", "1"], "fixedrange": True}


def _traces(view: View, number: int, line: Line, curve: int, panel: int,
            digits: str = ".2f") -> list[Figure]:
    """A curve in a panel: its line, and below it the band where there is one."""
    meta = {"group": number, "colour": view.group.colour % COLOURS}
    y = line.y[:, curve]
    if all(math.isnan(v) for v in y):
        return []
    axis = _axis("y", panel)
    traces: list[Figure] = []
    extra = ""
    mark = {}
    if line.low is not None and line.high is not None:
        low, high = _numbers(line.low[:, curve]), _numbers(line.high[:, curve])
        # A task that is not evaluated before its turn has no band there, and a gap would close
        # the outline in the wrong place.
        there = [i for i, v in enumerate(low) if v is not None]
        steps = _steps(line.x)
        traces.append({
            "type": "scatter", "mode": "lines", "meta": {**meta, "role": "band"}, "yaxis": axis,
            "x": [steps[i] for i in there + there[::-1]],
            "y": [high[i] for i in there] + [low[i] for i in there[::-1]],
            "line": {"width": 0}, "fill": "toself", "hoverinfo": "skip"})
        mark = {"customdata": [f"{a:{digits}} to {b:{digits}}" if a is not None and b is not None
                               else "" for a, b in zip(low, high, strict=True)]}
        extra = " <i>(%{customdata})</i>"
    name = group_title(view.group) + (f" · {line.name}" if line.name else "")
    mode = "lines+markers" if len(y) <= MARKERS_UP_TO else "lines"
    traces.append({
        "type": "scatter", "mode": mode, "meta": {**meta, "role": "line"}, "yaxis": axis,
        "name": html.escape(name), "x": _steps(line.x), "y": _numbers(y),
        "line": {"width": 2, "dash": dash(view)}, "marker": {"size": 5}, **mark,
        "hovertemplate": f"%{{y:{digits}}}{extra}"})
    return traces


def dash(view: View) -> str:
    """Dotted for unfinished runs; otherwise another dash each time the palette is used up."""
    if not view.group.finished:
        return "dot"
    return DASHES[view.group.colour // COLOURS % len(DASHES)]


def _axis(name: str, i: int) -> str:
    return name if i == 0 else f"{name}{i + 1}"


def _column_names(view: View) -> list[str]:
    """The steps as unique texts: with a boundary there may be two evaluations at one step."""
    names: list[str] = []
    for step in view.steps:
        name = f"{step:,.0f}"
        while name in names[-3:]:
            name += "′"
        names.append(name)
    return names


def brief(step: float) -> str:
    """30000 → "30k"."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{step / size:.3g}{letter}"
    return f"{step:.3g}"


def _steps(values: FloatArray) -> list[int]:
    return [round(v) for v in values.tolist()]


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Three places are more than an evaluation has; None where there is no number to draw."""
    return [round(float(v), 3) if math.isfinite(v) else None for v in values]
