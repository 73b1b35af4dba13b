"""What is drawn of a group: seeds aligned, averaged and thinned out to what a page can carry."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl.metrics import Scores
from crl.report.load import Group, Section

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LEVEL = 0.9
RESAMPLES = 500
# Points (evaluation × task × group) in the page: about 100 bytes each with their bands.
POINT_BUDGET = 40_000
TRAIN_BINS = 150
EPISODES_PER_BIN = 3


@dataclass(frozen=True, eq=False)
class Line:
    """Curves over the same steps: x [points], y [points, curves], and their band or None.

    ``name`` tells a run's line from the others of its group, where there are several.
    """

    x: FloatArray
    y: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class View:
    """A group as it is drawn.

    Attributes:
        tasks: Success of each task: one line for the seeds together, or a line a run where they
            cannot be averaged (unfinished, or evaluated at other times).
        earned: Return of each task, in the same way.
        means: Success, in the same way, over all tasks and over those seen so far.
        returns: Training return, smoothed; one curve a line.
        measures: (measure, part) of the diagnostics → one curve a line.
        matrix: [evaluations, tasks], mean over the runs that have the evaluation.
        steps, train_task: [evaluations] of ``matrix``.
        every: One in so many evaluations is drawn.
    """

    group: Group
    tasks: list[Line]
    earned: list[Line]
    means: list[Line]
    returns: list[Line]
    measures: dict[tuple[str, str], list[Line]]
    matrix: FloatArray
    steps: FloatArray
    train_task: IntArray
    every: int


def views(section: Section, budget: int = POINT_BUDGET) -> list[View]:
    """The groups of a section, thinned out to about ``budget`` points in all."""
    per_curve = max(2 * len(section.tasks), budget // (len(section.tasks) * len(section.groups)))
    return [_view(section, group, per_curve) for group in section.groups]


def band(stack: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean over the first axis and its percentile bootstrap interval, element by element.

    The interval of ``crl.metrics.bootstrap_interval``, with the same resamples for all elements.
    """
    runs = len(stack)
    drawn = np.random.default_rng(0).multinomial(runs, [1 / runs] * runs, size=RESAMPLES) / runs
    flat = stack.reshape(runs, -1)
    interval = np.empty((2, flat.shape[1]))
    chunk = 4000  # bounds the memory of the resamples
    for start in range(0, flat.shape[1], chunk):
        draws = drawn @ flat[:, start:start + chunk]
        interval[:, start:start + chunk] = np.quantile(
            draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return (stack.mean(axis=0), interval[0].reshape(stack.shape[1:]),
            interval[1].reshape(stack.shape[1:]))


def _view(section: Section, group: Group, points: int) -> View:
    scores = group.scores
    aligned = group.finished and _aligned(scores)
    stack, steps, train_task = _stack(scores)
    every = -(-len(train_task) // points)
    rows = _thinned(train_task, every)
    stack, steps, train_task = stack[:, rows], steps[:, rows], train_task[rows]
    earned = _stack(group.returns)[0][:, rows]
    seen = np.arange(len(section.tasks)) <= train_task[:, None]
    means = np.stack([stack.mean(axis=2), np.where(seen, stack, 0).sum(axis=2) / seen.sum(axis=1)],
                     axis=2)
    tasks, each_return, mean = (_lines(group, drawn, steps, aligned)
                                for drawn in (stack, earned, means))
    return View(group, tasks, each_return, mean,
                _return_lines(section, group), _measure_lines(group), _mean_of_present(stack),
                _mean_of_present(steps), train_task, every)


def _aligned(scores: Sequence[Scores]) -> bool:
    """Whether all runs evaluated equally often in each task, so that they can be averaged.

    Evaluations wait for the end of an episode: their steps may differ a little between seeds.
    """
    counts = [np.bincount(run.train_task, minlength=run.tasks) for run in scores]
    return all((count == counts[0]).all() for count in counts)


def _stack(scores: Sequence[Scores]) -> tuple[FloatArray, FloatArray, IntArray]:
    """[runs, keys, tasks] scores, [runs, keys] steps and [keys] tasks trained.

    A key is the k-th evaluation while a task is trained; NaN where a run has no such.
    """
    tasks = scores[0].tasks
    counts = np.max([np.bincount(run.train_task, minlength=tasks) for run in scores], axis=0)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    stack = np.full((len(scores), counts.sum(), tasks), np.nan)
    steps = np.full(stack.shape[:2], np.nan)
    for r, run in enumerate(scores):
        begins = np.searchsorted(run.train_task, run.train_task)  # train_task never falls
        keys = first[run.train_task] + np.arange(len(run.train_task)) - begins
        stack[r, keys], steps[r, keys] = run.values, run.env_step
    return stack, steps, np.repeat(np.arange(tasks), counts)


def _thinned(train_task: IntArray, every: int) -> IntArray:
    """Every ``every``-th evaluation, with the first and the last of each task."""
    changes = np.flatnonzero(np.diff(train_task))
    last = np.array([len(train_task) - 1])
    kept = [np.arange(0, len(train_task), every), changes, changes + 1, last]
    return np.unique(np.concatenate(kept)).astype(np.int64)


def _lines(group: Group, stack: FloatArray, steps: FloatArray, together: bool) -> list[Line]:
    """[runs, points, curves] as one line with its band, or as a line a run."""
    if together and len(stack) > 1:
        return [Line(steps.mean(axis=0), *band(stack))]
    names = [f"seed {run.seed}" if len(stack) > 1 else "" for run in group.runs]
    return [Line(x[~np.isnan(x)], y[~np.isnan(x)], name=name)
            for x, y, name in zip(steps, stack, names, strict=True)]


def _return_lines(section: Section, group: Group) -> list[Line]:
    """Mean training return in spans of steps that never cross a boundary."""
    episodes = min((len(run.train["env_step"]) for run in group.runs), default=0)
    spans = min(TRAIN_BINS, episodes // EPISODES_PER_BIN)
    if not spans:
        return []
    total = section.boundaries[-1]
    edges = np.unique(np.concatenate([
        np.linspace(start, end, max(2, round(spans * (end - start) / total) + 1))
        for start, end in zip(section.starts, section.boundaries, strict=True)]))
    binned = np.full((len(group.runs), len(edges) - 1), np.nan)
    for r, run in enumerate(group.runs):
        # A row is written when its episode ends, so an episode belongs to the span it ends in.
        span = np.clip(np.searchsorted(edges, run.train["env_step"]) - 1, 0, len(edges) - 2)
        count = np.bincount(span, minlength=len(edges) - 1)
        total_return = np.bincount(span, run.train["return"], minlength=len(edges) - 1)
        np.divide(total_return, count, out=binned[r], where=count > 0)
    middle = np.broadcast_to((edges[1:] + edges[:-1]) / 2, binned.shape).copy()
    whole = ~np.isnan(binned).any(axis=0)
    if group.finished:
        return _lines(group, binned[:, whole, None], middle[:, whole], True)
    middle[np.isnan(binned)] = np.nan
    return _lines(group, binned[..., None], middle, False)


def _measure_lines(group: Group) -> dict[tuple[str, str], list[Line]]:
    """Each measure over the runs that have it: together if all took it equally often."""
    lines: dict[tuple[str, str], list[Line]] = {}
    for kind in dict.fromkeys(kind for run in group.runs for kind in run.measures):
        runs = [run for run in group.runs if kind in run.measures]
        taken = [run.measures[kind] for run in runs]
        if group.finished and len(runs) > 1 and len({len(steps) for steps, _ in taken}) == 1:
            steps, values = (np.stack(arrays) for arrays in zip(*taken, strict=True))
            lines[kind] = [Line(steps.mean(axis=0), *band(values[..., None].astype(np.float64)))]
        else:
            lines[kind] = [Line(steps, values[:, None],
                                name=f"seed {run.seed}" if len(runs) > 1 else "")
                           for run, (steps, values) in zip(runs, taken, strict=True)]
    return lines


def _mean_of_present(stack: FloatArray) -> FloatArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a task nobody evaluated stays NaN
        return np.asarray(np.nanmean(stack, axis=0))
