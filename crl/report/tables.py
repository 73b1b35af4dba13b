"""Numbers as text: the metrics table, the headline, and the tidy CSV files."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from crl.metrics import Summary, forgetting_per_task, performance_per_task
from crl.report.load import Group, Loaded, Section

NONE = "–"
HEADLINE_GROUPS = 3


class Metric(NamedTuple):
    """A column of the metrics table. ``better`` is +1 or −1, or 0 where neither is."""

    key: str
    title: str
    meaning: str
    better: int


METRICS = (
    Metric("performance", "Performance", "Success at the end of the stream: mean over all tasks, "
           "over the last five evaluations.", 1),
    Metric("forgetting", "Forgetting", "How far success fell from the end of each task's own "
           "training to the end of the stream; mean over all tasks. Negative: it rose.", -1),
    Metric("backward_transfer", "Backward transfer", "Success on earlier tasks at the end, minus "
           "success right after learning them (GEM); below 0 is forgetting.", 1),
    Metric("min_acc", "min-ACC", "The lowest success of each earlier task at any evaluation after "
           "its training; mean over those tasks. A low value shows a stability gap.", 1),
    Metric("min_acc_null", "min-ACC by noise alone", "What min-ACC would be if success never "
           "changed and only evaluation noise remained: compare min-ACC with this, not with 1.",
           0),
    Metric("wc_acc", "WC-ACC", "Worst case over the tasks trained so far: the current task now, "
           "the earlier ones at their min-ACC.", 1),
    Metric("wf", "Windowed forgetting", "A task's largest drop within ten evaluations in a row; "
           "inflated by evaluation noise.", -1),
    Metric("wp", "Windowed plasticity", "A task's largest rise within ten evaluations in a row.",
           1),
)
COSTS = (
    Metric("env_steps", "Env steps", "Environment steps trained.", 0),
    Metric("cpu_s", "CPU time, s", "Processor time of a run, evaluations included.", 0),
    Metric("wall_s", "Wall time, s", "Time on the clock of a run, evaluations included.", 0),
)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def score(value: float) -> str:
    """A score to two places, never "−0.00"; a dash where there is none."""
    return NONE if math.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def interval(summary: Summary) -> str:
    """The interval of a score, or nothing with one run."""
    if math.isnan(summary.low):
        return ""
    return f"{score(summary.low)} to {score(summary.high)}"


def amount(summary: Summary) -> str:
    """A mean number of steps or seconds."""
    return f"{summary.mean:,.0f}"


def group_title(group: Group) -> str:
    return group.name if group.finished else f"{group.name} · unfinished"


def learned_and_kept(group: Group) -> list[tuple[float, float]]:
    """For each task, success at the end of its own training and at the end of the run."""
    kept = np.mean([performance_per_task(run) for run in group.scores], axis=0).tolist()
    lost = np.mean([forgetting_per_task(run) for run in group.scores], axis=0).tolist()
    return [(k + f, k) for k, f in zip(kept, lost, strict=True)]


def headline(section: Section) -> tuple[str, str]:
    """Which method kept its tasks, in a sentence, and how far to trust that, in another."""
    ranked = [group for group in section.groups
              if group.finished and not math.isnan(group.performance)]
    tasks = plural(len(section.tasks), "task")
    if not ranked:
        started = [group for group in section.groups if not group.finished]
        if not started:
            return (f"The evaluations of {section.stream} leave out tasks, so no success over "
                    f"all {tasks} can be given.", "Evaluate on all tasks to compare methods.")
        steps = max(run.env_steps for group in started for run in group.runs)
        return (f"No run has finished yet: {plural(len(section.runs), 'run')} on {tasks}, the "
                f"furthest at {steps:,} of {section.boundaries[-1]:,} steps.",
                "Below is what there is so far; to see more, make the page again later.")
    best, *others = ranked
    scope = f"the {tasks}" if len(section.tasks) > 1 else "its task"
    sentence = f"{best.name} keeps {score(best.performance)} of {scope} at the end"
    if others:
        named = others if len(others) <= HEADLINE_GROUPS else others[:HEADLINE_GROUPS - 1]
        sentence += "; " + ", ".join(f"{g.name} {score(g.performance)}" for g in named)
        rest = others[len(named):]
        if rest:
            sentence += (f", {len(rest)} more {score(rest[-1].performance)} to "
                         f"{score(rest[0].performance)}")
    return sentence + ".", _caution(best, others)


def _caution(best: Group, others: Sequence[Group]) -> str:
    meaning = "Kept: success averaged over all tasks, last five evaluations. "
    if any(len(group.runs) == 1 for group in [best, *others[:1]]):
        return meaning + "A single seed can be luck: no interval, no ranking."
    if not others:
        return meaning + f"90% interval over {plural(len(best.runs), 'seed')}: " + interval(
            best.summaries["performance"]) + "."
    first, second = best.summaries["performance"], others[0].summaries["performance"]
    if first.low > second.high:
        return meaning + "The 90% intervals of the first two do not overlap."
    return meaning + "The 90% intervals of the first two overlap: more seeds would tell."


def metrics_csv(sections: Iterable[Section]) -> str:
    """A row per protocol, group and metric."""
    rows: list[list[Any]] = []
    for section in sections:
        for group in section.groups:
            seeds = " ".join(str(run.seed) for run in group.runs)
            for name, summary in group.summaries.items():
                rows.append([section.protocol, group.name, int(group.finished), name,
                             *(_number(v) for v in (summary.mean, summary.low, summary.high)),
                             len(group.runs), seeds])
    return _csv(["protocol", "group", "finished", "metric", "mean", "low", "high", "runs",
                 "seeds"], rows)


def curves_csv(sections: Iterable[Section]) -> str:
    """A row per run, evaluation and task: every evaluation, also those too many to draw."""
    return _csv(["protocol", "group", "run", "seed", "env_step", "train_task", "eval_task",
                 "success", "return"],
                (row for section in sections for group in section.groups for run in group.runs
                 for row in _curve_rows(section, group, run)))


def _curve_rows(section: Section, group: Group, run: Loaded) -> Iterable[list[Any]]:
    if run.scores is None or run.returns is None:
        return
    start = [section.protocol, group.name, str(run.run.folder), run.seed]
    for values, returns, step, train in zip(
            run.scores.values, run.returns.values, run.scores.env_step.tolist(),
            run.scores.train_task.tolist(), strict=True):
        for task, *both in zip(section.tasks, values.tolist(), returns.tolist(), strict=True):
            if not math.isnan(both[0]):
                yield [*start, step, section.tasks[train], task, *map(_number, both)]


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
