"""Continual-learning metrics over the evaluations of runs: NumPy only.

`Scores` is one run: A(n, i), the score of task i at evaluation n. Tasks are positions in the
stream, from 0; a score is the fraction of successful episodes unless a metric says otherwise.

Conventions, everywhere in this file:

- NaN means "this run cannot say": a task was not trained yet, or not evaluated where the metric
  looks. A mean over tasks or runs that meets a NaN is NaN; nothing is averaged over what happens
  to be there, because runs that died or tasks that were skipped are rarely the average ones.
- Inside one task's window, evaluations that left the task out are skipped, and a window with
  fewer than `last` evaluations uses those it has.
- Intervals are those of `crl.bootstrap`, over runs (seeds).

Sources: Continual World (Wołczyk et al. 2021, arXiv:2105.10919); GEM (Lopez-Paz and Ranzato 2017,
arXiv:1706.08840); the stability gap (De Lange et al. 2023, arXiv:2205.13452).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl.bootstrap import (
    bootstrap_interval,
    check_bootstrap,
    generator_or_default,
    percentiles,
    resampled_means,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Scores:
    """A(n, i): the score of task i at evaluation n of one run.

    Attributes:
        values: [evaluations, tasks], the mean over the evaluation's episodes; NaN where the
            task was not evaluated.
        train_task: [evaluations], position in the stream of the task being trained.
        env_step: [evaluations], environment steps trained before the evaluation.
        episodes: episodes per evaluation and task.

    Rows ascend by (env_step, train_task) without repeats, and train_task never falls. The
    evaluation at env_step 0 precedes all training; that at a task's boundary, with the finished
    task as its train_task, follows the task's consolidation.

    Raises:
        ValueError: shapes, order, ranges or values that do not fit the above.
    """

    values: FloatArray
    train_task: IntArray
    env_step: IntArray
    episodes: int

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        train_task = _integers("train_task", self.train_task)
        env_step = _integers("env_step", self.env_step)
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"values must be [evaluations, tasks], not empty: got {values.shape}")
        _check_lengths(values=values, train_task=train_task, env_step=env_step)
        _check_tasks("train_task", train_task, values.shape[1])
        _check_at_least("episodes", self.episodes, 1)
        _check_at_least("env_step", int(env_step.min()), 0)
        if np.isinf(values).any():
            raise ValueError("values must be finite, or NaN where a task was not evaluated")
        steps, tasks = np.diff(env_step), np.diff(train_task)
        if ((steps < 0) | (tasks < 0) | (steps + tasks == 0)).any():
            raise ValueError("evaluations must ascend by (env_step, train_task) without repeats")
        for name, array in (("values", values), ("train_task", train_task), ("env_step", env_step)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def from_episodes(
        cls,
        env_step: ArrayLike,
        train_task: ArrayLike,
        eval_task: ArrayLike,
        score: ArrayLike,
        *,
        tasks: int,
    ) -> Scores:
        """Group the columns of a run folder's evals.csv: one entry an evaluation episode.

        An evaluation is a distinct (env_step, train_task), so that the one at the end of a task
        and the first of the next, at the same env_step, stay apart. `episodes` becomes the most
        frequent number of episodes per evaluation and task: one cut short by a kill has fewer.

        Args:
            env_step, train_task, eval_task: [episodes] integers, tasks as positions in the stream.
            score: [episodes] finite, for instance success_once.
            tasks: tasks in the stream, N.

        Raises:
            ValueError: no rows, columns of unequal length, a task outside 0…N−1, a score that is
                not a finite number, or evaluations that `Scores` refuses.
        """
        steps, train = _integers("env_step", env_step), _integers("train_task", train_task)
        task = _integers("eval_task", eval_task)
        scores = np.asarray(score, dtype=np.float64).reshape(-1)
        _check_lengths(env_step=steps, train_task=train, eval_task=task, score=scores)
        _check_tasks("eval_task", task, tasks)
        if not np.isfinite(scores).all():
            raise ValueError("score must hold finite numbers: leave out episodes without one")
        keys, row = np.unique(np.stack([steps, train], axis=1), axis=0, return_inverse=True)
        cell = row.reshape(-1) * tasks + task
        count = np.bincount(cell, minlength=len(keys) * tasks)
        total = np.bincount(cell, weights=scores, minlength=len(keys) * tasks)
        values = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
        episodes = int(np.bincount(count[count > 0]).argmax())
        return cls(values.reshape(-1, tasks), keys[:, 1], keys[:, 0], episodes)

    @property
    def tasks(self) -> int:
        """Tasks in the stream, N."""
        return int(self.values.shape[1])

    @property
    def current(self) -> int:
        """The task trained last, k: N−1 once the run is finished."""
        return int(self.train_task[-1])

    def start(self, task: int) -> int:
        """The env_step at which training of `task` starts: the last evaluation of earlier tasks."""
        return int(self.env_step[self.train_task < task].max(initial=0))

    def window(self, task: int) -> IntArray:
        """Rows evaluated while `task` was trained, its end-of-task evaluation included.

        An evaluation at the task's start, such as that at env_step 0, is in no window: it measures
        no training of the task.
        """
        return np.flatnonzero((self.train_task == task) & (self.env_step > self.start(task)))


def performance_per_task(scores: Scores, last: int = 5) -> FloatArray:
    """[N] mean score of each task over the last `last` evaluations of the run (Continual World).

    Only evaluations of the last trained task's window count: in a shorter window, older ones
    would mix in scores from before that task was learned. Otherwise as published.
    """
    _check_at_least("last", last, 1)
    rows = scores.window(scores.current)[-last:]
    return np.array([_mean(scores.values[rows, task]) for task in range(scores.tasks)])


def performance(scores: Scores, last: int = 5) -> float:
    """Mean over all N tasks of `performance_per_task`, in [0, 1] for success."""
    return float(performance_per_task(scores, last).mean())


def forgetting_per_task(scores: Scores, last: int = 5) -> FloatArray:
    """[N] mean of the last `last` evaluations in each task's window minus that at the run's end.

    Continual World's definition; in [−1, 1] for success, negative where later tasks helped. The
    task trained last has 0 by construction, both windows being one. NaN for untrained tasks.
    """
    return _window_means(scores, last) - performance_per_task(scores, last)


def forgetting(scores: Scores, last: int = 5) -> float:
    """Mean over all N tasks of `forgetting_per_task`, the last task's 0 included as published."""
    return float(forgetting_per_task(scores, last).mean())


def auc_per_task(scores: Scores) -> FloatArray:
    """[N] area under each task's training curve: the plain mean over the task's window."""
    return _window_means(scores, len(scores.values))


def r_matrix(scores: Scores) -> FloatArray:
    """GEM's R, [N, N]: R[i, j] is the score on task j after finishing task i.

    From the last evaluation with train_task i, that is after consolidation; NaN rows if untrained.
    """
    windows = [scores.window(task) for task in range(scores.tasks)]
    untrained = np.full(scores.tasks, np.nan)
    return np.stack([scores.values[w[-1]] if len(w) else untrained for w in windows])


def initial_scores(scores: Scores) -> FloatArray:
    """GEM's b, [N]: the scores at env_step 0, before any training; NaN if not evaluated there."""
    return np.where(scores.env_step[0] == 0, scores.values[0], np.nan)


def backward_transfer(r: FloatArray) -> float:
    """GEM: BWT = 1/(T−1) Σ_{i<T} (R[T, i] − R[i, i]), in [−1, 1] for success; forgetting is < 0.

    `r` is [T, T], from `r_matrix`. NaN with one task or an unfinished run. Raises ValueError
    unless square.
    """
    _check_square(r)
    return float((r[-1, :-1] - np.diag(r)[:-1]).mean()) if len(r) > 1 else math.nan


def gem_forward_transfer(r: FloatArray, b: FloatArray) -> float:
    """GEM: FWT = 1/(T−1) Σ_{i>1} (R[i−1, i] − b[i]), in [−1, 1] for success: the zero-shot gain.

    `r` is [T, T], from `r_matrix`; `b` is [T], from `initial_scores`. NaN with one task or a
    missing score. Raises ValueError for other shapes. `forward_transfer` is another quantity: it
    compares whole learning curves.
    """
    _check_square(r)
    if b.shape != (len(r),):
        raise ValueError(f"b must be [{len(r)}], one score a task: got {list(b.shape)}")
    return float((np.diag(r, 1) - b[1:]).mean()) if len(r) > 1 else math.nan


def min_acc_per_task(scores: Scores) -> FloatArray:
    """[N] the lowest score of each task at any evaluation after its own training ended.

    NaN for the task trained last and later ones, and for tasks not evaluated again.
    """
    return np.array([np.fmin.reduce(c, initial=np.nan) for c in _curves_after(scores)])


def min_acc(scores: Scores) -> float:
    """De Lange et al.: min-ACC_k = mean_{i<k} min_{t_i<n≤t} A(i, n), k the task trained last.

    In [0, 1] for success; NaN while the first task is trained. The minimum over noisy evaluations
    is biased downwards: print `min_acc_null` beside it.
    """
    return _mean_of_earlier(scores, min_acc_per_task(scores))


def min_acc_null_per_task(scores: Scores) -> FloatArray:
    """[N] what evaluation noise alone would make of `min_acc_per_task`: see `expected_minimum`.

    Each task's success probability is taken as constant after its training, and as its mean over
    the very evaluations that min-ACC takes the minimum of. NaN where that is NaN, and where the
    mean is no probability: the null is for success, not for returns.
    """
    null = np.full(scores.tasks, np.nan)
    for task, curve in enumerate(_curves_after(scores)):
        p = _mean(curve)
        if 0 <= p <= 1:
            null[task] = expected_minimum(p, scores.episodes, len(curve))
    return null


def min_acc_null(scores: Scores) -> float:
    """Mean over the earlier tasks of `min_acc_null_per_task`; min-ACC far below it is a gap."""
    return _mean_of_earlier(scores, min_acc_null_per_task(scores))


def expected_minimum(p: float, episodes: int, evaluations: int) -> float:
    """E[min of `evaluations` independent Binomial(episodes, p) / episodes], exact, in [0, p].

    Σ_{k≥1} P(X ≥ k)^evaluations / episodes, the mean of a count as the sum of its survival
    function. Raises ValueError if p is not in [0, 1] or a count is below 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability: got {p}")
    _check_at_least("episodes", episodes, 1)
    _check_at_least("evaluations", evaluations, 1)
    if p in (0, 1):
        return float(p)
    k = np.arange(episodes + 1)
    log_factorial = np.array([math.lgamma(i + 1) for i in range(episodes + 1)])
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    pmf = np.exp(log_choose + k * math.log(p) + (episodes - k) * math.log1p(-p))
    survival = pmf[::-1].cumsum()[::-1][1:]
    return float((survival**evaluations).sum() / episodes)


def wc_acc(scores: Scores) -> float:
    """De Lange et al.: WC-ACC_t = A(k, t)/k + (1 − 1/k)·min-ACC_k, t the run's last evaluation.

    The worst case over the k tasks trained so far, in [0, 1] for success; min-ACC's bias is in it.
    """
    k = scores.current + 1
    now = float(performance_per_task(scores, last=1)[scores.current])
    return now / k + (1 - 1 / k) * min_acc(scores) if k > 1 else now


def windowed_forgetting(scores: Scores, window: int = 10) -> float:
    """WF^w (De Lange et al.): a task's largest drop within `window` evaluations in a row.

    From the evaluation before the task's training to the end of the run, averaged over the tasks
    trained so far; in [0, 1] for success, 0 if nothing dropped. NaN if one of them has fewer than
    two evaluations. Like a minimum, inflated by evaluation noise.
    """
    return _mean_largest_drop(scores, window, sign=1)


def windowed_plasticity(scores: Scores, window: int = 10) -> float:
    """WP^w (De Lange et al.): the largest rise, otherwise as `windowed_forgetting`."""
    return _mean_largest_drop(scores, window, sign=-1)


@dataclass(frozen=True, eq=False)
class Summary:
    """One metric over runs: mean, bootstrap interval (NaN with one run), and per_run [runs]."""

    mean: float
    low: float
    high: float
    per_run: FloatArray


@dataclass(frozen=True, eq=False)
class ForwardTransfer(Summary):
    """`forward_transfer`'s summary, with per_task [N] (NaN where excluded) and those excluded."""

    per_task: FloatArray
    excluded: tuple[int, ...]


def forward_transfer(
    runs: Sequence[Scores],
    references: Sequence[Sequence[Scores]],
    *,
    ceiling: float = 0.95,
    level: float = 0.9,
    resamples: int = 4000,
    rng: np.random.Generator | None = None,
) -> ForwardTransfer:
    """Continual World: FT_i = (AUC_i − AUC_i^b) / (1 − AUC_i^b), averaged over tasks; at most 1.

    AUCs are averaged over seeds before the ratio; `per_run` holds each run against the mean
    references. The ratio blows up as AUC^b → 1: a task whose mean reference AUC reaches `ceiling`
    is left out of the mean and listed as excluded. The published numbers leave out none.

    The interval resamples runs and references independently, excludes the same tasks in every
    resample, and keeps 1 − AUC^b at no less than 1 − ceiling in them. Tasks with the very same
    reference AUCs, as on a stream's second pass, share a draw.

    Args:
        runs: runs of one stream of N tasks, scores in [0, 1].
        references: for each of the N tasks, single-task runs from scratch (`tasks` = 1), evaluated
            on the same schedule.

    NaN: all of it, if a run has not finished some task that counts, or none counts; the interval,
    with one run or with one reference of a task that counts.

    Raises:
        ValueError: no runs or references, unequal task counts, a task trained for another number
            of steps in a reference than in a run, scores outside [0, 1], a ceiling not in (0, 1).
    """
    check_bootstrap(level, resamples)
    if not 0 < ceiling < 1:
        raise ValueError(f"ceiling must be between 0 and 1: got {ceiling}")
    _check_comparable(runs, references)
    auc = np.stack([_finished_aucs(run, references) for run in runs])
    base = [np.array([auc_per_task(one)[0] for one in reference]) for reference in references]
    mean_base = np.array([b.mean() for b in base])
    excluded = mean_base >= ceiling
    counted = np.flatnonzero(~excluded)
    ratio = (auc - mean_base) / np.where(excluded, np.nan, 1 - mean_base)
    per_run = ratio[:, counted].sum(axis=1) / (len(counted) or math.nan)
    low, high = math.nan, math.nan
    if not np.isnan(per_run).any() and min(len(runs), *(len(base[i]) for i in counted)) > 1:
        generator = generator_or_default(rng)
        drawn_runs = auc[generator.integers(len(runs), size=(resamples, len(runs)))].mean(axis=1)
        drawn_base = resampled_means([base[i] for i in counted], resamples, generator)
        slack = np.maximum(1 - drawn_base, 1 - ceiling)
        drawn = (drawn_runs[:, counted] - drawn_base) / slack
        low, high = percentiles(drawn.mean(axis=1), level)
    left_out = tuple(np.flatnonzero(excluded).tolist())
    return ForwardTransfer(float(per_run.mean()), low, high, per_run, ratio.mean(axis=0), left_out)


def summarize(
    runs: Sequence[Scores],
    references: Sequence[Sequence[Scores]] | None = None,
    *,
    last: int = 5,
    window: int = 10,
    level: float = 0.9,
    resamples: int = 4000,
    rng: np.random.Generator | None = None,
) -> dict[str, Summary]:
    """Every metric of a set of runs (seeds of one method on one stream), for a page or a table.

    Keys: performance, forgetting, backward_transfer, min_acc, min_acc_null, wc_acc, wf, wp, and,
    with `references` (see `forward_transfer`), forward_transfer: a `ForwardTransfer`. A mean is
    NaN if a run's value is. Raises ValueError for no runs, or runs of unequal task counts.
    """
    _check_runs(runs)
    generator = generator_or_default(rng)
    metrics: dict[str, Callable[[Scores], float]] = {
        "performance": lambda run: performance(run, last),
        "forgetting": lambda run: forgetting(run, last),
        "backward_transfer": lambda run: backward_transfer(r_matrix(run)),
        "min_acc": min_acc,
        "min_acc_null": min_acc_null,
        "wc_acc": wc_acc,
        "wf": lambda run: windowed_forgetting(run, window),
        "wp": lambda run: windowed_plasticity(run, window),
    }
    summaries: dict[str, Summary] = {}
    for name, metric in metrics.items():
        per_run = np.array([metric(run) for run in runs])
        low, high = bootstrap_interval(per_run, level=level, resamples=resamples, rng=generator)
        summaries[name] = Summary(float(per_run.mean()), low, high, per_run)
    if references is not None:
        summaries["forward_transfer"] = forward_transfer(
            runs, references, level=level, resamples=resamples, rng=generator
        )
    return summaries


def _mean(curve: FloatArray) -> float:
    """Mean of the evaluated entries, NaN (without NumPy's warning) if there are none."""
    evaluated = curve[~np.isnan(curve)]
    return float(evaluated.mean()) if len(evaluated) else math.nan


def _window_means(scores: Scores, last: int) -> FloatArray:
    windows = [scores.window(task)[-last:] for task in range(scores.tasks)]
    return np.array([_mean(scores.values[rows, task]) for task, rows in enumerate(windows)])


def _curves_after(scores: Scores) -> list[FloatArray]:
    """Each task's evaluated scores after its own training: [evaluations of that task]."""
    curves = [scores.values[scores.train_task > task, task] for task in range(scores.tasks)]
    return [curve[~np.isnan(curve)] for curve in curves]


def _mean_of_earlier(scores: Scores, per_task: FloatArray) -> float:
    return float(per_task[: scores.current].mean()) if scores.current else math.nan


def _mean_largest_drop(scores: Scores, window: int, sign: int) -> float:
    _check_at_least("window", window, 2)
    drops = np.full(scores.current + 1, np.nan)
    for task in range(scores.current + 1):
        rows = scores.window(task)
        if len(rows):
            curve = sign * scores.values[max(rows[0] - 1, 0) :, task]
            lags = range(1, min(window, len(curve)))
            pairs = [np.fmax.reduce(curve[:-lag] - curve[lag:]) for lag in lags]
            drops[task] = np.maximum(np.fmax.reduce(pairs, initial=np.nan), 0)
    return float(drops.mean())


def _steps_trained(scores: Scores, task: int) -> int:
    """Steps from the task's start to the last evaluation of its window; 0 if untrained."""
    rows = scores.window(task)
    return int(scores.env_step[rows[-1]]) - scores.start(task) if len(rows) else 0


def _finished_aucs(run: Scores, references: Sequence[Sequence[Scores]]) -> FloatArray:
    """[N] `auc_per_task`, NaN for a task still short of its references' steps."""
    steps = [_steps_trained(run, task) for task in range(run.tasks)]
    wanted = [_steps_trained(reference[0], 0) for reference in references]
    return np.where(np.less(steps, wanted), np.nan, auc_per_task(run))


def _integers(name: str, column: ArrayLike) -> IntArray:
    array = np.asarray(column)
    if array.size == 0:
        raise ValueError(f"{name} is empty: there is no evaluation")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be one column of integers: got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def _check_lengths(**columns: FloatArray | IntArray) -> None:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")


def _check_tasks(name: str, column: IntArray, tasks: int) -> None:
    wrong = column[(column < 0) | (column >= tasks)]
    if len(wrong):
        raise ValueError(f"{name} {wrong[0]} is not one of the stream's {tasks} tasks, from 0")


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}: got {value}")


def _check_square(r: FloatArray) -> None:
    if r.ndim != 2 or r.shape[0] != r.shape[1] or not r.size:
        raise ValueError(f"r must be [tasks, tasks]: got {list(r.shape)}")


def _check_runs(runs: Sequence[Scores]) -> None:
    counts = sorted({run.tasks for run in runs})
    if len(counts) != 1:
        raise ValueError(f"runs must be some, all of one stream: their task counts are {counts}")


def _check_comparable(runs: Sequence[Scores], references: Sequence[Sequence[Scores]]) -> None:
    _check_runs(runs)
    if len(references) != runs[0].tasks or not all(references):
        raise ValueError(f"references must hold single-task runs for all {runs[0].tasks} tasks")
    for task, reference in enumerate(references):
        if any(one.tasks != 1 for one in reference):
            raise ValueError(f"the references of task {task} must be single-task runs")
        wanted = {_steps_trained(one, 0) for one in reference}
        # The task trained last may be unfinished.
        found = {_steps_trained(run, task) for run in runs if run.current > task}
        found |= {max(_steps_trained(run, task), *wanted) for run in runs if run.current == task}
        if len(wanted | found) > 1:
            raise ValueError(
                f"task {task} was trained for {sorted(found)} steps in the runs "
                f"but {sorted(wanted)} in its references"
            )
    every = [*runs, *(one for reference in references for one in reference)]
    if any((run.values < 0).any() or (run.values > 1).any() for run in every):
        raise ValueError("forward transfer needs scores in [0, 1]")
