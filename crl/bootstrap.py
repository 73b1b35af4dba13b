"""Bootstrap intervals, the interquartile mean and the probability of improvement: NumPy only.

Intervals are percentile intervals over runs (seeds). One run has none: (NaN, NaN). They draw from
`rng`, or from `numpy.random.default_rng(0)` where none is given.

Source: rliable (Agarwal et al. 2021, arXiv:2108.13264).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    stratified: bool = False,
    level: float = 0.9,
    resamples: int = 4000,
    rng: np.random.Generator | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval over seeds: (low, high).

    Args:
        values: [seeds], or [seeds, tasks]; the entries of a resample are pooled.
        statistic: called once as statistic(resampled [resamples, entries], axis=1).
        stratified: resample the seeds of each task on their own, as rliable does. That takes a
            run's scores on different tasks as independent; in a continual run they share a
            history and the interval comes out too narrow. The default draws whole runs.

    (NaN, NaN) with one seed or any NaN. With a handful of seeds a percentile interval covers less
    than `level`. Raises ValueError for no values, a level outside (0, 1) or no resamples.
    """
    array = np.asarray(values, dtype=np.float64)
    check_bootstrap(level, resamples)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"values must be [seeds] or [seeds, tasks]: got {list(array.shape)}")
    array = array.reshape(len(array), -1)
    seeds, tasks = array.shape
    if seeds < 2 or np.isnan(array).any():
        return math.nan, math.nan
    shape = (resamples, seeds, tasks if stratified else 1)
    resampled = array[generator_or_default(rng).integers(seeds, size=shape), np.arange(tasks)]
    return percentiles(statistic(resampled.reshape(resamples, -1), axis=1), level)


def interquartile_mean(values: ArrayLike, axis: int | None = None) -> Any:
    """IQM: the mean without the lowest and the highest quarter (⌊n/4⌋ each), over runs × tasks.

    rliable's choice between the mean's and the median's faults. A float, or an array without
    `axis`; NaN if there is a NaN. Raises ValueError if empty.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("values must not be empty")
    ordered = np.moveaxis(np.sort(array, axis=axis), axis or 0, 0)
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut].mean(axis=0)
    # Sorting puts NaN last, where the trim would hide it.
    return np.where(np.isnan(ordered[-1]), np.nan, middle)[()]


def probability_of_improvement(
    x: ArrayLike,
    y: ArrayLike,
    *,
    level: float = 0.9,
    resamples: int = 4000,
    rng: np.random.Generator | None = None,
) -> tuple[float, float, float]:
    """P(X > Y) + ½ P(X = Y) for a random run of each, averaged over tasks (rliable), in [0, 1].

    Args:
        x, y: [runs, tasks] scores of two methods; the numbers of runs may differ.

    Returns:
        The probability and its interval: value, low, high. Whole runs of x and of y are resampled
        independently, see `bootstrap_interval`. All NaN if any score is; no interval if either
        side has one run.

    Raises:
        ValueError: not matrices, empty, unequal task counts, a bad level or no resamples.
    """
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    check_bootstrap(level, resamples)
    if not (left.ndim == right.ndim == 2 and left.size and right.size):
        raise ValueError("x and y must be [runs, tasks], not empty")
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"x has {left.shape[1]} tasks, y has {right.shape[1]}")
    if np.isnan(left).any() or np.isnan(right).any():
        return math.nan, math.nan, math.nan
    wins = ((np.sign(left[:, None] - right) + 1) / 2).mean(axis=2)
    if min(wins.shape) < 2:
        return float(wins.mean()), math.nan, math.nan
    generator = generator_or_default(rng)
    # How often each run is drawn stands for the drawn runs themselves.
    of_x, of_y = (generator.multinomial(n, [1 / n] * n, size=resamples) for n in wins.shape)
    drawn = ((of_x @ wins) * of_y).sum(axis=1) / wins.size
    return float(wins.mean()), *percentiles(drawn, level)


def generator_or_default(rng: np.random.Generator | None) -> np.random.Generator:
    """`rng`, or the fixed default of this file."""
    return np.random.default_rng(0) if rng is None else rng


def percentiles(draws: FloatArray, level: float) -> tuple[float, float]:
    """The middle `level` of bootstrap draws [resamples]: (low, high)."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_means(
    samples: Sequence[FloatArray], resamples: int, generator: np.random.Generator
) -> FloatArray:
    """[resamples, len(samples)] means of bootstrap resamples; equal samples share theirs."""
    drawn: dict[bytes, FloatArray] = {}
    for sample in samples:
        if sample.tobytes() not in drawn:
            chosen = generator.integers(len(sample), size=(resamples, len(sample)))
            drawn[sample.tobytes()] = sample[chosen].mean(axis=1)
    return np.stack([drawn[sample.tobytes()] for sample in samples], axis=1)


def check_bootstrap(level: float, resamples: int) -> None:
    """ValueError for a level outside (0, 1) or no resamples."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1: got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1: got {resamples}")
