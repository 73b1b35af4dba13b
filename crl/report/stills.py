"""The figures as PNG files, for a README or a paper."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from crl.report.curves import Line, View
from crl.report.load import Section
from crl.report.plots import COLOURS, brief, dash
from crl.report.tables import group_title

# Okabe and Ito's palette without black and yellow; the same as in assets/page.css.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A7F87")
INK, MUTED, RULE, SHADE = "#1f2328", "#6a717b", "#c9ced6", "#f0f2f5"
MATPLOTLIB_DASHES = {"solid": "-", "dash": (0, (5, 2.2)), "dashdot": "-.", "dot": (0, (1, 1.6)),
                     "longdash": (0, (9, 2.5))}
MOST_GROUPS = 7      # more lines than that cannot be told apart in a still picture
STYLE = {"font.family": "sans-serif",
         "font.sans-serif": ["Inter", "Helvetica Neue", "Arial", "Liberation Sans",
                             "DejaVu Sans"],
         "font.size": 9.5, "axes.edgecolor": RULE, "axes.labelcolor": MUTED,
         "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
         # A task called "a$b$c" is a name, not a formula.
         "text.parse_math": False}
DPI = 200


def stills(section: Section, views: Sequence[View]) -> dict[str, bytes]:
    """File name → PNG: ``curves.png``, ``returns.png``, ``mean.png`` and ``matrix.png``, of the
    first groups."""
    import matplotlib

    shown = views[:MOST_GROUPS]
    left_out = len(views) - len(shown)
    note = f"the best {len(shown)} of {len(views)} groups" if left_out else ""
    with matplotlib.rc_context(STYLE):
        return {"curves.png": _curves(section, shown, note, [view.tasks for view in shown]),
                "returns.png": _curves(section, shown, note, [view.earned for view in shown],
                                       share=False),
                "mean.png": _means(section, shown, note),
                "matrix.png": _matrices(section, shown, note)}


def _curves(section: Section, views: Sequence[View], note: str, lines: Sequence[Sequence[Line]],
            share: bool = True) -> bytes:
    panels = len(section.tasks)
    height = 1.12 if panels <= 4 else 0.82 if panels <= 12 else 0.68
    figure, axes = _stack(panels, height, views, note, shade="task in training")
    for i, axis in enumerate(axes):
        axis.axvspan(section.starts[i], section.boundaries[i], color=SHADE, lw=0, zorder=0)
        _panel(axis, section, section.tasks[i], i == panels - 1, share)
        for view, own in zip(views, lines, strict=True):
            for line in own:
                _draw(axis, view, line, i)
    return _png(figure)


def _means(section: Section, views: Sequence[View], note: str) -> bytes:
    figure, axes = _stack(2, 1.5, views, note)
    for i, title in enumerate(("All tasks", "Tasks seen so far")):
        _panel(axes[i], section, title, i == 1)
        for view in views:
            for line in view.means:
                _draw(axes[i], view, line, i)
    return _png(figure)


def _matrices(section: Section, views: Sequence[View], note: str) -> bytes:
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list(
        "success", ["#eef2f7", "#7fb2d9", "#0b4a7f"]).with_extremes(bad="#ffffff")
    rows = len(section.tasks)
    figure, axes = _stack(len(views), 0.19 * rows + 0.12, (), note)
    image = None
    for axis, view in zip(axes, views, strict=True):
        image = axis.imshow(view.matrix.T, aspect="auto", interpolation="nearest", cmap=colours,
                            vmin=0, vmax=1)
        axis.set_title(group_title(view.group), loc="left", fontsize=9.5, fontweight="bold", pad=4)
        axis.set_yticks(range(rows), section.tasks, fontsize=8)
        ends = [int(np.flatnonzero(view.train_task == task)[-1])
                for task in np.unique(view.train_task)]
        axis.set_xticks(ends, [brief(view.steps[end]) for end in ends], fontsize=8)
        for end in ends[:-1]:
            axis.axvline(end + 0.5, color="#ffffff", lw=1.6)
        for row in range(1, rows):
            axis.axhline(row - 0.5, color="#ffffff", lw=1.2)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    axes[-1].set_xlabel("evaluations, marked at the end of each task (environment steps)")
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes), shrink=min(1.0, 1.6 / len(views)), pad=0.02,
                              aspect=16)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=8)
        bar.set_label("success", fontsize=8.5, color=MUTED)
    return _png(figure)


def _stack(panels: int, height: float, views: Sequence[View], note: str,
           shade: str = "") -> tuple[Any, list[Any]]:
    """A figure of panels above each other, with the groups named at its top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    names = [group_title(view.group) for view in views] + [shade] * bool(shade)
    columns = max(1, min(len(names), int(105 / (8 + max(map(len, names), default=0)))))
    rows = -(-len(names) // columns)
    top = 0.22 * rows + 0.1 * bool(rows) + (0.2 if note else 0)
    total = panels * (height + 0.3) + top + 0.4
    figure = Figure(figsize=(8, total), facecolor="white", layout=ConstrainedLayoutEngine(
        h_pad=0.05, w_pad=0.06, hspace=0.03, rect=(0, 0, 1, 1 - top / total)))
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(panels, 1, squeeze=False)[:, 0])
    if names:
        handles: list[Any] = [
            Line2D([], [], color=_colour(view), lw=2.4, ls=MATPLOTLIB_DASHES[dash(view)])
            for view in views]
        if shade:
            handles.append(Patch(facecolor=SHADE, edgecolor=RULE, lw=0.8))
        figure.legend(handles, names, loc="upper left", ncols=columns, frameon=False,
                      bbox_to_anchor=(0.016, 0.995), borderaxespad=0.2, handlelength=1.7,
                      columnspacing=1.8, fontsize=10)
    if note:
        figure.text(0.99, 1 - (0.22 * rows + 0.02) / total, note, ha="right", va="top",
                    fontsize=8.5, color=MUTED)
    return figure, axes


def _panel(axis: Any, section: Section, title: str, last: bool, share: bool = True) -> None:
    axis.set_title(title, loc="left", fontsize=10, fontweight="bold", pad=4)
    if share:
        axis.set_ylim(-0.05, 1.05)
        axis.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    else:
        axis.locator_params(axis="y", nbins=3)
    axis.set_xlim(0, section.boundaries[-1] * 1.004)
    axis.grid(axis="y", color="#e7eaee", lw=0.7)
    axis.set_axisbelow(True)
    for step in section.boundaries[:-1]:
        axis.axvline(step, color="#b6bcc5", lw=0.9, zorder=1)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(length=0, labelsize=8.5)
    axis.set_xticks([0, *section.boundaries] if len(section.tasks) <= 12
                    else [0, *section.boundaries[1::2]])
    axis.set_xticklabels([brief(tick) for tick in axis.get_xticks()] if last else [])
    if last:
        axis.set_xlabel("environment steps", fontsize=9)


def _draw(axis: Any, view: View, line: Line, curve: int) -> None:
    colour = _colour(view)
    if line.low is not None and line.high is not None:
        axis.fill_between(line.x, line.low[:, curve], line.high[:, curve], color=colour, alpha=0.16,
                          lw=0, zorder=2)
    axis.plot(line.x, line.y[:, curve], color=colour, lw=1.9, ls=MATPLOTLIB_DASHES[dash(view)],
              solid_capstyle="round", solid_joinstyle="round", zorder=3, clip_on=False)


def _colour(view: View) -> str:
    return PALETTE[view.group.colour % COLOURS]


def _png(figure: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()
