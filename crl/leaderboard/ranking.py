"""The table: what every entry is worth, and which is better than which."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.bootstrap import (
    bootstrap_interval,
    generator_or_default,
    interquartile_mean,
    probability_of_improvement,
)
from crl.leaderboard.entries import Entries, bytes_kept
from crl.leaderboard.references import read_references
from crl.metrics import (
    ForwardTransfer,
    Scores,
    Summary,
    forgetting_per_task,
    forward_transfer,
    min_acc,
    min_acc_null,
    performance_per_task,
)
from crl.report.load import Group

FloatArray = NDArray[np.float64]
THRESHOLDS: FloatArray = np.linspace(0, 1, 51)
NOTHING = Summary(math.nan, math.nan, math.nan, np.array([]))


class Column(NamedTuple):
    """A column of the table. ``better`` is +1 or −1; ``unit``: ``"score"``, ``"s"``, ``"kB"``."""

    key: str
    title: str
    meaning: str
    better: int
    unit: str = "score"


COLUMNS = (
    Column("performance", "Performance", "Score at the end of the stream: mean over all tasks, "
           "over the last five evaluations; entries are ranked by it. The interval draws whole "
           "runs.", 1),
    Column("iqm", "IQM", "Interquartile mean of the same scores over runs and tasks: without the "
           "lowest and the highest quarter. The interval draws the runs of each task on their own, "
           "as rliable does; tasks of a run share a history, so that it is rather too narrow.", 1),
    Column("forgetting", "Forgetting", "How far the score fell from the end of each task's own "
           "training to the end of the stream; mean over all tasks. Negative: it rose.", -1),
    Column("transfer", "Forward transfer", "What learning each task in the stream gained over "
           "learning it alone: (AUC − AUC alone) / (1 − AUC alone), mean over tasks; at most 1. "
           "Alone is crl's own agent for the protocol, the same for all entries.", 1),
    Column("gap", "Stability gap", "How far below what evaluation noise alone explains the lowest "
           "score of each earlier task was, after its training (min-ACC by noise − min-ACC); mean "
           "over those tasks. 0: no task was ever lower than its mean says.", -1),
    Column("cpu_s", "CPU time, s", "Processor time of a run, evaluations included.", -1, "s"),
    Column("kept", "Kept a task, kB", "Networks and what methods hold when a run ends, over its "
           "tasks.", -1, "kB"),
    Column("better", "P(better than next)", "Probability that a run of this entry does better on a "
           "task than one of the next, mean over tasks; the interval draws whole runs.", 1),
)


@dataclass(frozen=True, eq=False)
class Row:
    """One entry.

    Attributes:
        values: By key of :data:`COLUMNS`.
        learned, kept: [runs, tasks] scores at the end of each task's own training, and at the end
            of the stream.
        transfer: [tasks], of each task; NaN where it cannot be said.
        profile, low, high: Of :func:`performance_profile` at :data:`THRESHOLDS`.
    """

    rank: int
    group: Group
    values: dict[str, Summary]
    learned: FloatArray
    kept: FloatArray
    transfer: FloatArray
    profile: FloatArray
    low: FloatArray
    high: FloatArray


def rank(entries: Entries) -> list[Row]:
    """The rows of the table, the best performance first, as the groups of a section are."""
    references = read_references(entries.protocol, entries.section.tasks)
    groups = entries.section.groups
    kept = [_per_task(performance_per_task, group) for group in groups]
    rows = []
    for i, (group, here) in enumerate(zip(groups, kept, strict=True)):
        transfer = forward_transfer(group.scores, references) if references else None
        values = _values(group, here, transfer, success=not entries.protocol.scale)
        values["better"] = NOTHING if i + 1 == len(groups) else Summary(
            *probability_of_improvement(here, kept[i + 1]), per_run=np.array([]))
        rows.append(Row(
            i + 1, group, values, here + _per_task(forgetting_per_task, group), here,
            transfer.per_task if transfer else np.full(here.shape[1], np.nan),
            *performance_profile(here, THRESHOLDS)))
    return rows


def _per_task(metric: Callable[[Scores], FloatArray], group: Group) -> FloatArray:
    return np.array([metric(run) for run in group.scores])


def performance_profile(
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    level: float = 0.9,
    resamples: int = 4000,
    rng: np.random.Generator | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of runs × tasks above each threshold (Agarwal et al. 2021): share, low, high.

    Args:
        scores: [runs, tasks].
        thresholds: [T].

    Returns:
        Three arrays [T]; the interval draws whole runs, and is NaN with one run.
    """
    above = np.asarray(scores, np.float64)[:, :, None] > np.asarray(thresholds, np.float64)
    per_run = above.mean(axis=1)  # [runs, T]
    share: FloatArray = per_run.mean(axis=0)
    runs = len(per_run)
    if runs < 2:
        return share, np.full_like(share, np.nan), np.full_like(share, np.nan)
    # How often each run is drawn stands for the drawn runs themselves.
    counts = generator_or_default(rng).multinomial(runs, [1 / runs] * runs, size=resamples)
    low, high = np.quantile(counts @ per_run / runs, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return share, low, high


def _values(group: Group, matrix: FloatArray, transfer: ForwardTransfer | None, *, success: bool
            ) -> dict[str, Summary]:
    found = group.summaries
    # What noise alone makes of a minimum is known of successes only.
    gaps = [min_acc_null(run) - min_acc(run) if success else math.nan for run in group.scores]
    return {
        "performance": found["performance"],
        "iqm": Summary(float(interquartile_mean(matrix)), *bootstrap_interval(
            matrix, interquartile_mean, stratified=True), interquartile_mean(matrix, axis=1)),
        "forgetting": found["forgetting"],
        "transfer": transfer or NOTHING,
        "gap": _summary(gaps),
        "cpu_s": found["cpu_s"],
        "kept": _summary([bytes_kept(run.run) / matrix.shape[1] / 1e3 for run in group.runs]),
    }


def _summary(values: list[float]) -> Summary:
    return Summary(float(np.mean(values)), *bootstrap_interval(values), np.array(values))
