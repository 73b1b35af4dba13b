"""crl.metrics against hand computation, naive loops, simulation, rliable and arch."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from crl import bootstrap, metrics
from crl.metrics import Scores

NAN = math.nan

# Three tasks, two evaluations a window, one before training. Every expected number below that
# uses this run was worked out on paper.
STEPS = [0, 10, 20, 30, 40, 50, 60]
TRAIN = [0, 0, 0, 1, 1, 2, 2]
VALUES = np.array(
    [
        [0.0, 0.5, 1.0, 0.6, 0.8, 0.4, 0.6],
        [0.1, 0.1, 0.2, 0.5, 0.9, 0.7, 0.5],
        [0.0, 0.0, 0.2, 0.1, 0.3, 0.6, 0.8],
    ]
).T


def hand_run() -> Scores:
    return Scores(VALUES, TRAIN, STEPS, 10)


def run_of(values: object, per_task: int, episodes: int = 10) -> Scores:
    """A run without an evaluation at env_step 0 and `per_task` evaluations a task."""
    array = np.array(values, dtype=float)
    rows = np.arange(len(array))
    return Scores(array, rows // per_task, (rows + 1) * 10, episodes)


def reference(curve: list[float]) -> Scores:
    return run_of(np.array(curve)[:, None], per_task=len(curve))


@st.composite
def runs(draw: st.DrawFn, missing: bool = True, min_tasks: int = 1) -> Scores:
    tasks, per_task = draw(st.integers(min_tasks, 4)), draw(st.integers(1, 7))
    before = draw(st.booleans())
    rows = tasks * per_task
    cell = st.integers(0, 10).map(lambda k: k / 10)
    if missing:
        cell = st.one_of(cell, cell, cell, st.just(NAN))
    cells = st.lists(cell, min_size=(rows + before) * tasks, max_size=(rows + before) * tasks)
    values = np.array(draw(cells)).reshape(-1, tasks)
    train = [0] * before + [row // per_task for row in range(rows)]
    return Scores(values, train, np.arange(1 - before, rows + 1) * 5, draw(st.integers(1, 12)))


def mean_or_nan(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else NAN


def naive_window(run: Scores, task: int) -> list[int]:
    return [n for n in range(len(run.values)) if run.train_task[n] == task and run.env_step[n] > 0]


# --- Scores


def test_scores_from_episodes_groups_by_step_and_train_task() -> None:
    # Row order must not matter; the boundary at 100 is evaluated for task 0 and again for task 1.
    rows = [
        (100, 1, 0, 0),
        (0, 0, 0, 0),
        (0, 0, 0, 1),
        (100, 0, 0, 1),
        (100, 0, 0, 1),
        (100, 0, 1, 1),
        (100, 0, 1, 0),
        (100, 1, 0, 0),
    ]
    run = Scores.from_episodes(*zip(*rows, strict=True), tasks=2)
    assert_array_equal(run.env_step, [0, 100, 100])
    assert_array_equal(run.train_task, [0, 0, 1])
    assert_array_equal(run.values, [[0.5, NAN], [1.0, 0.5], [0.0, NAN]])
    assert (run.episodes, run.tasks, run.current) == (2, 2, 1)
    assert run.values.dtype == np.float64
    assert run.train_task.dtype == run.env_step.dtype == np.int64
    # Control: merged by env_step alone, task 0 would score 0.5 after being finished, not 1.
    assert metrics.r_matrix(run)[0, 0] == 1.0


def test_from_episodes_accepts_booleans_and_takes_the_usual_number_of_episodes() -> None:
    step = np.repeat([10, 20, 30, 40], [4, 4, 9, 1])  # a longer one, and one cut short
    run = Scores.from_episodes(step, step * 0, step * 0, step > 10, tasks=1)
    assert run.episodes == 4
    assert_array_equal(run.values[:, 0], [0, 1, 1, 1])


@settings(max_examples=50, deadline=None)
@given(runs(missing=False), st.randoms(use_true_random=False))
def test_from_episodes_round_trip_in_any_row_order(run: Scores, random: object) -> None:
    rows = []
    for n, i in np.ndindex(*run.values.shape):
        successes = round(run.values[n, i] * 10)
        rows += [(run.env_step[n], run.train_task[n], i, e < successes) for e in range(10)]
    random.shuffle(rows)  # type: ignore[attr-defined]
    again = Scores.from_episodes(*zip(*rows, strict=True), tasks=run.tasks)
    assert_array_equal(again.values, run.values)
    assert_array_equal(again.env_step, run.env_step)
    assert_array_equal(again.train_task, run.train_task)
    assert again.episodes == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"env_step": [0]}, "differ in length"),
        ({"eval_task": [0, 2]}, "eval_task 2 is not one of the stream's 2 tasks"),
        ({"train_task": [0, -1]}, "train_task -1 is not one of"),
        ({"train_task": [0.0, 1.0]}, "train_task must be one column of integers"),
        ({"score": [1.0, NAN]}, "score must hold finite numbers"),
        ({"score": [1.0, math.inf]}, "score must hold finite numbers"),
        ({"env_step": [-5, 0]}, "env_step must be at least 0"),
        ({"train_task": [1, 0]}, "ascend"),
        ({"env_step": [], "train_task": [], "eval_task": [], "score": []}, "no evaluation"),
    ],
)
def test_from_episodes_refuses(change: dict[str, list[float]], message: str) -> None:
    columns = {"env_step": [0, 9], "train_task": [0, 1], "eval_task": [0, 1], "score": [1.0, 0.0]}
    Scores.from_episodes(**columns, tasks=2)
    with pytest.raises(ValueError, match=message) as error:
        Scores.from_episodes(**{**columns, **change}, tasks=2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((7, 0))}, "values must be"),
        ({"values": np.zeros(7)}, "values must be"),
        ({"values": np.zeros((6, 3))}, "differ in length"),
        ({"values": np.full((7, 3), math.inf)}, "finite"),
        ({"values": np.zeros((7, 2))}, "train_task 2"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"env_step": [0, 10, 5, 30, 40, 50, 60]}, "ascend"),
        ({"env_step": [0, 10, 10, 30, 40, 50, 60]}, "without repeats"),
        ({"train_task": [0, 1, 0, 1, 1, 2, 2]}, "ascend"),
    ],
)
def test_scores_refuses(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(hand_run(), **change)  # type: ignore[arg-type]


def test_scores_owns_read_only_arrays() -> None:
    values = VALUES.copy()
    run = Scores(values, TRAIN, STEPS, 10)
    values[:] = 0
    assert run.values.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        run.values[0, 0] = 1


def test_window_leaves_out_evaluations_at_a_tasks_start() -> None:
    assert_array_equal(hand_run().window(0), [1, 2])
    assert_array_equal(hand_run().window(2), [5, 6])
    # Step 10 ends task 0, and the schedule evaluates again before task 1 trains.
    run = Scores(np.zeros((4, 2)), [0, 0, 1, 1], [0, 10, 10, 20], 1)
    assert_array_equal(run.window(1), [3])
    assert run.start(1) == 10


# --- performance, forgetting, GEM


def test_hand_computed_continual_world() -> None:
    run = hand_run()
    assert_allclose(metrics.performance_per_task(run), [0.5, 0.6, 0.7])
    assert metrics.performance(run) == pytest.approx(0.6)
    assert_allclose(metrics.performance_per_task(run, last=1), [0.6, 0.5, 0.8])
    assert_allclose(metrics.forgetting_per_task(run), [0.25, 0.1, 0.0])
    assert metrics.forgetting(run) == pytest.approx(0.35 / 3)
    assert_allclose(metrics.auc_per_task(run), [0.75, 0.7, 0.7])


def test_last_five_of_a_long_window() -> None:
    values = np.zeros((20, 2))
    values[5:10, 0] = [0.2, 0.4, 0.6, 0.8, 1.0]
    values[15:, 0] = 0.1
    values[10:, 1] = 1.0
    values[4, 0] = values[14, 0] = 1.0  # the sixth from the end of a window counts nowhere
    run = run_of(values, per_task=10)
    assert_allclose(metrics.performance_per_task(run), [0.1, 1.0])
    assert_allclose(metrics.forgetting_per_task(run), [0.5, 0.0])


def test_a_short_last_window_does_not_reach_into_the_task_before() -> None:
    run = run_of([[1.0, 0.0]] * 4 + [[1.0, 1.0]] * 2, per_task=4)
    assert metrics.performance(run) == 1.0
    assert metrics.forgetting(run) == 0.0


def test_hand_computed_gem() -> None:
    run = hand_run()
    r, b = metrics.r_matrix(run), metrics.initial_scores(run)
    assert_array_equal(r, [[1.0, 0.2, 0.2], [0.8, 0.9, 0.3], [0.6, 0.5, 0.8]])
    assert_array_equal(b, [0.0, 0.1, 0.0])
    assert metrics.backward_transfer(r) == pytest.approx(-0.4)
    assert metrics.gem_forward_transfer(r, b) == pytest.approx(0.2)


@settings(max_examples=50, deadline=None)
@given(runs(missing=False, min_tasks=2))
def test_gem_against_a_loop(run: Scores) -> None:
    r, b, t = metrics.r_matrix(run), metrics.initial_scores(run), run.tasks
    for i, j in itertools.product(range(t), range(t)):
        assert r[i, j] == run.values[naive_window(run, i)[-1], j]
    bwt = sum(r[t - 1, i] - r[i, i] for i in range(t - 1)) / (t - 1)
    fwt = sum(r[i - 1, i] - b[i] for i in range(1, t)) / (t - 1)
    assert metrics.backward_transfer(r) == pytest.approx(bwt)
    assert metrics.gem_forward_transfer(r, b) == pytest.approx(fwt, nan_ok=True)


@settings(max_examples=100, deadline=None)
@given(runs())
def test_continual_world_against_loops(run: Scores) -> None:
    for task in range(run.tasks):
        own = naive_window(run, task)
        end = naive_window(run, run.tasks - 1)[-5:]
        after = mean_or_nan([run.values[n, task] for n in end])
        learned = mean_or_nan([run.values[n, task] for n in own[-5:]])
        auc = mean_or_nan([run.values[n, task] for n in own])
        assert metrics.performance_per_task(run)[task] == pytest.approx(after, nan_ok=True)
        forgotten = metrics.forgetting_per_task(run)[task]
        assert forgotten == pytest.approx(learned - after, nan_ok=True)
        assert metrics.auc_per_task(run)[task] == pytest.approx(auc, nan_ok=True)


@settings(max_examples=50, deadline=None)
@given(runs(missing=False, min_tasks=2), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_constant_run_forgets_nothing(run: Scores, value: float) -> None:
    flat = replace(run, values=np.full(run.values.shape, value))
    assert metrics.performance(flat) == pytest.approx(value)
    assert metrics.min_acc(flat) == pytest.approx(value)
    assert metrics.wc_acc(flat) == pytest.approx(value)
    assert metrics.backward_transfer(metrics.r_matrix(flat)) == 0
    for zero in (metrics.forgetting, metrics.windowed_forgetting, metrics.windowed_plasticity):
        rows = len(run.window(0)) + (run.env_step[0] == 0)
        assert zero(flat) == pytest.approx(0) or (rows == 1 and run.tasks == 1)


@settings(max_examples=100, deadline=None)
@given(runs(missing=False, min_tasks=2))
def test_bounds_and_relations(run: Scores) -> None:
    assert 0 <= metrics.performance(run) <= 1
    assert -1 <= metrics.forgetting(run) <= 1
    assert metrics.forgetting_per_task(run)[-1] == 0
    per_task, null = metrics.min_acc_per_task(run), metrics.min_acc_null_per_task(run)
    assert np.isnan(per_task[-1])
    assert np.isnan(null[-1])
    assert 0 <= metrics.min_acc(run) <= 1
    assert (per_task <= metrics.performance_per_task(run) + 1e-12)[:-1].all()
    for task in range(run.tasks - 1):
        assert null[task] <= run.values[run.train_task > task, task].mean() + 1e-12
    narrow, wide = metrics.windowed_forgetting(run, 2), metrics.windowed_forgetting(run, 5)
    assert 0 <= narrow <= wide <= 1
    flipped = replace(run, values=1 - run.values)
    rise = metrics.windowed_plasticity(flipped, 5)
    assert rise == pytest.approx(wide)


@settings(max_examples=50, deadline=None)
@given(runs(missing=False, min_tasks=2))
def test_better_later_scores_never_hurt(run: Scores) -> None:
    later = run.train_task > 0
    values = run.values.copy()
    values[later, 0] = np.minimum(values[later, 0] + 0.2, 1)
    better = replace(run, values=values)
    assert metrics.min_acc(better) >= metrics.min_acc(run)
    assert metrics.wc_acc(better) >= metrics.wc_acc(run)
    assert metrics.performance(better) >= metrics.performance(run)
    assert metrics.forgetting(better) <= metrics.forgetting(run)


# --- unfinished runs, missing evaluations


def test_an_unfinished_run_says_so() -> None:
    run = Scores(VALUES[:5], TRAIN[:5], STEPS[:5], 10)  # task 2 not trained
    assert metrics.performance(run) == pytest.approx((0.7 + 0.7 + 0.2) / 3)
    assert_allclose(metrics.forgetting_per_task(run), [0.05, 0.0, NAN], atol=1e-15)
    assert math.isnan(metrics.forgetting(run))
    assert math.isnan(metrics.backward_transfer(metrics.r_matrix(run)))
    assert np.isnan(metrics.auc_per_task(run)[2])
    # The stability gap is defined for the tasks so far.
    assert metrics.min_acc(run) == pytest.approx(0.6)
    assert metrics.wc_acc(run) == pytest.approx(0.9 / 2 + 0.6 / 2)
    assert metrics.windowed_forgetting(run) == pytest.approx((0.4 + 0.0) / 2)


def test_before_any_training_all_is_nan() -> None:
    run = Scores(VALUES[:1], [0], [0], 10)
    r = metrics.r_matrix(run)
    assert np.isnan(r).all()
    for name, summary in metrics.summarize([run, run]).items():
        assert math.isnan(summary.mean), name
        assert math.isnan(summary.low), name


def test_one_task() -> None:
    run = reference([0.2, 0.4, 0.9])
    assert metrics.forgetting(run) == 0
    assert math.isnan(metrics.min_acc(run))
    assert math.isnan(metrics.min_acc_null(run))
    assert metrics.wc_acc(run) == 0.9
    assert math.isnan(metrics.backward_transfer(metrics.r_matrix(run)))
    assert math.isnan(metrics.gem_forward_transfer(np.ones((1, 1)), np.ones(1)))


def test_missing_evaluations_are_skipped_not_counted_as_zero() -> None:
    values = VALUES.copy()
    values[5, 0] = NAN
    run = replace(hand_run(), values=values)
    assert metrics.performance_per_task(run)[0] == 0.6
    assert metrics.min_acc_per_task(run)[0] == 0.6
    p = (0.6 + 0.8 + 0.6) / 3
    null = metrics.min_acc_null_per_task(run)[0]
    assert null == pytest.approx(metrics.expected_minimum(p, 10, 3))
    values[6, 0] = NAN
    run = replace(hand_run(), values=values)
    assert math.isnan(metrics.performance(run))
    assert math.isnan(metrics.forgetting(run))


def test_without_an_evaluation_at_step_0_there_is_no_b() -> None:
    run = run_of(VALUES[1:], per_task=2)
    assert np.isnan(metrics.initial_scores(run)).all()
    assert math.isnan(
        metrics.gem_forward_transfer(metrics.r_matrix(run), metrics.initial_scores(run))
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.performance(hand_run(), last=0),
        lambda: metrics.windowed_forgetting(hand_run(), window=1),
        lambda: metrics.backward_transfer(np.ones((2, 3))),
        lambda: metrics.gem_forward_transfer(np.ones((2, 2)), np.ones(3)),
        lambda: metrics.expected_minimum(1.1, 10, 5),
        lambda: metrics.expected_minimum(NAN, 10, 5),
        lambda: metrics.expected_minimum(0.5, 0, 5),
        lambda: metrics.expected_minimum(0.5, 10, 0),
        lambda: bootstrap.bootstrap_interval([]),
        lambda: bootstrap.bootstrap_interval([1.0, 2.0], level=90),
        lambda: bootstrap.bootstrap_interval([1.0, 2.0], resamples=0),
        lambda: bootstrap.bootstrap_interval(np.ones((2, 2, 2))),
        lambda: bootstrap.interquartile_mean([]),
        lambda: bootstrap.probability_of_improvement([1.0], [2.0]),
        lambda: bootstrap.probability_of_improvement([[1.0]], [[2.0, 3.0]]),
        lambda: metrics.summarize([]),
        lambda: metrics.summarize([hand_run(), reference([1.0])]),
    ],
)
def test_bad_arguments_are_value_errors(call: object) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        call()  # type: ignore[operator]


# --- stability gap


def test_hand_computed_stability_gap() -> None:
    run = hand_run()
    assert_array_equal(metrics.min_acc_per_task(run), [0.4, 0.5, NAN])
    assert metrics.min_acc(run) == pytest.approx(0.45)
    assert metrics.wc_acc(run) == pytest.approx(0.8 / 3 + 2 / 3 * 0.45)
    assert metrics.windowed_forgetting(run) == pytest.approx((0.6 + 0.4 + 0) / 3)
    assert metrics.windowed_forgetting(run, window=2) == pytest.approx((0.4 + 0.2 + 0) / 3)
    assert metrics.windowed_plasticity(run) == pytest.approx((1.0 + 0.7 + 0.5) / 3)
    assert metrics.windowed_plasticity(run, window=2) == pytest.approx((0.5 + 0.4 + 0.3) / 3)
    expected = [metrics.expected_minimum(0.6, 10, 4), metrics.expected_minimum(0.6, 10, 2)]
    assert_allclose(metrics.min_acc_null_per_task(run)[:2], expected)
    assert metrics.min_acc_null(run) == pytest.approx(np.mean(expected))


@settings(max_examples=100, deadline=None)
@given(runs(), st.integers(2, 9))
def test_stability_gap_against_loops(run: Scores, window: int) -> None:
    drops, minima = [], []
    for task in range(run.tasks):
        first = max(naive_window(run, task)[0] - 1, 0)
        curve = run.values[first:, task]
        pairs = [
            curve[m] - curve[n]
            for m in range(len(curve))
            for n in range(m + 1, min(m + window, len(curve)))
            if not math.isnan(curve[m] - curve[n])
        ]
        drops.append(max([*pairs, 0.0]) if pairs else NAN)
        later = [run.values[n, task] for n in range(len(run.values)) if run.train_task[n] > task]
        later = [value for value in later if not math.isnan(value)]
        minima.append(min(later) if later else NAN)
    assert_allclose(metrics.min_acc_per_task(run), minima)
    assert metrics.windowed_forgetting(run, window) == pytest.approx(np.mean(drops), nan_ok=True)


def test_expected_minimum_of_a_perfectly_stable_policy_is_far_below_its_score() -> None:
    p = Fraction(9, 10)
    pmf = [math.comb(10, k) * p**k * (1 - p) ** (10 - k) for k in range(11)]
    exact = sum(sum(pmf[k:]) ** 50 for k in range(1, 11)) / 10
    assert round(float(exact), 4) == 0.6465
    assert metrics.expected_minimum(0.9, 10, 50) == pytest.approx(float(exact), abs=1e-12)


def test_expected_minimum_by_enumeration() -> None:
    # Two evaluations of two episodes: all 16 outcomes.
    p = 0.3
    expected = sum(
        np.prod([p if win else 1 - p for win in wins]) * min(sum(wins[:2]), sum(wins[2:])) / 2
        for wins in itertools.product([0, 1], repeat=4)
    )
    assert metrics.expected_minimum(p, 2, 2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "episodes", "evaluations"), [(0.05, 10, 3), (0.5, 1, 4), (0.8, 25, 100), (0.99, 200, 20)]
)
def test_expected_minimum_against_monte_carlo(p: float, episodes: int, evaluations: int) -> None:
    rng = np.random.default_rng(3)
    draws = rng.binomial(episodes, p, size=(20_000, evaluations)).min(axis=1) / episodes
    tolerance = 5 * draws.std() / math.sqrt(len(draws)) + 1e-12
    assert metrics.expected_minimum(p, episodes, evaluations) == pytest.approx(
        draws.mean(), abs=tolerance
    )


@given(st.floats(0, 1), st.integers(1, 60), st.integers(1, 60))
def test_expected_minimum_relations(p: float, episodes: int, evaluations: int) -> None:
    value = metrics.expected_minimum(p, episodes, evaluations)
    assert -1e-12 <= value <= p + 1e-9
    assert metrics.expected_minimum(p, episodes, evaluations + 1) <= value + 1e-12
    assert metrics.expected_minimum(p / 2, episodes, evaluations) <= value + 1e-9
    assert metrics.expected_minimum(p, episodes, 1) == pytest.approx(p, abs=1e-9)
    assert metrics.expected_minimum(1.0, episodes, evaluations) == 1
    assert metrics.expected_minimum(0.0, episodes, evaluations) == 0


def noisy_run(rng: np.random.Generator, gap: bool) -> Scores:
    """Two tasks at p = .9, ten episodes an evaluation; with a gap, 3 evaluations collapse."""
    p = np.full((100, 2), 0.9)
    if gap:
        p[50:53, 0] = 0.1
    return run_of(rng.binomial(10, p) / 10, per_task=50)


def test_the_null_explains_noise_and_does_not_explain_a_gap() -> None:
    rng = np.random.default_rng(7)
    noise = [noisy_run(rng, gap=False) for _ in range(100)]
    mean_min = np.mean([metrics.min_acc(run) for run in noise])
    mean_null = np.mean([metrics.min_acc_null(run) for run in noise])
    assert mean_min < 0.7  # although nothing was ever forgotten
    assert mean_null == pytest.approx(mean_min, abs=0.03)
    gaps = [noisy_run(rng, gap=True) for _ in range(20)]  # control
    assert max(metrics.min_acc(run) - metrics.min_acc_null(run) for run in gaps) < -0.25


def test_the_null_of_returns_is_nan() -> None:
    run = replace(hand_run(), values=VALUES * 500)
    assert math.isnan(metrics.min_acc_null(run))
    assert metrics.min_acc(run) == pytest.approx(225)


# --- intervals

# rliable 1.2.0, arch 7.2.0, scipy 1.17.1, numpy 2.4.6 in a throwaway environment, on these two
# matrices: metrics.aggregate_iqm and probability_of_improvement; library.get_interval_estimates
# of (aggregate_iqm, aggregate_mean) with reps=100000 and confidence_interval_size=.9; and
# arch.bootstrap.IIDBootstrap(X[:, 0]).conf_int(np.mean, reps=200000, size=.9,
# method="percentile"). Two seeds gave the same intervals to all digits.
X = np.array(
    [
        [0.0, 0.5, 1.0, 0.4],
        [0.7, 0.4, 0.1, 0.9],
        [0.3, 0.3, 0.3, 0.3],
        [1.0, 0.2, 0.5, 0.8],
        [0.6, 0.1, 0.7, 0.2],
        [0.2, 0.0, 0.9, 0.7],
    ]
)
Y = np.array(
    [
        [0.0, 0.3, 0.6, 0.9],
        [0.4, 0.9, 0.3, 0.8],
        [0.8, 0.4, 0.0, 0.7],
        [0.1, 1.0, 0.8, 0.6],
        [0.5, 0.5, 0.5, 0.5],
    ]
)
RLIABLE_IQM = (0.43333333333333335, 0.55)
RLIABLE_IQM_INTERVAL = (0.30833333333333335, 0.5666666666666667)
RLIABLE_MEAN_INTERVAL = (0.3708333333333333, 0.5541666666666667)
RLIABLE_IMPROVEMENT = (0.4291666666666667, 0.5708333333333333)
ARCH_INTERVAL = (0.25, 0.7)


def test_agrees_with_rliable_and_arch() -> None:
    assert bootstrap.interquartile_mean(X) == pytest.approx(RLIABLE_IQM[0], abs=1e-15)
    assert bootstrap.interquartile_mean(Y) == pytest.approx(RLIABLE_IQM[1], abs=1e-15)
    assert bootstrap.probability_of_improvement(X, Y)[0] == pytest.approx(RLIABLE_IMPROVEMENT[0])
    assert bootstrap.probability_of_improvement(Y, X)[0] == pytest.approx(RLIABLE_IMPROVEMENT[1])
    iqm = bootstrap.bootstrap_interval(
        X, bootstrap.interquartile_mean, stratified=True, resamples=50_000
    )
    mean = bootstrap.bootstrap_interval(X, stratified=True, resamples=50_000)
    assert_allclose(iqm, RLIABLE_IQM_INTERVAL, atol=0.01)
    assert_allclose(mean, RLIABLE_MEAN_INTERVAL, atol=0.005)
    alone = bootstrap.bootstrap_interval(X[:, 0], resamples=50_000)
    assert_allclose(alone, ARCH_INTERVAL, atol=0.02)
    # Control: these data tell the two ways of resampling apart.
    assert np.abs(np.subtract(bootstrap.bootstrap_interval(X), RLIABLE_MEAN_INTERVAL)).max() > 0.02


def test_interquartile_mean() -> None:
    assert bootstrap.interquartile_mean([100, 1, 2, -50]) == 1.5
    assert bootstrap.interquartile_mean([3.0]) == 3
    assert bootstrap.interquartile_mean([0, 1, 5]) == 2  # too few to trim
    rows = np.array([[100, 1, 2, -50], [4, 4, 4, 4]])
    assert_array_equal(bootstrap.interquartile_mean(rows, axis=1), [1.5, 4])
    assert_array_equal(bootstrap.interquartile_mean(rows.T, axis=0), [1.5, 4])
    # A NaN sorts last, where the trim would drop it.
    assert math.isnan(bootstrap.interquartile_mean([0, 1, 2, NAN]))


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_interquartile_mean_properties(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    iqm = bootstrap.interquartile_mean(values)
    assert iqm == bootstrap.interquartile_mean(shuffled)
    assert min(values) - 1e-9 <= iqm <= max(values) + 1e-9
    moved = bootstrap.interquartile_mean(np.array(values) + 1)
    assert moved == pytest.approx(iqm + 1, abs=1e-9)


def test_one_seed_has_no_interval() -> None:
    assert np.isnan(bootstrap.bootstrap_interval([0.5])).all()
    assert np.isnan(bootstrap.bootstrap_interval([[0.5, 0.6]], stratified=True)).all()
    assert np.isnan(bootstrap.bootstrap_interval([*range(20), NAN], np.nanmean)).all()
    assert np.isnan(bootstrap.probability_of_improvement(X[:1], Y)[1:]).all()
    assert np.isnan(bootstrap.probability_of_improvement(X, [[0.0, 0.0, 0.0, NAN]])).all()
    for summary in metrics.summarize([hand_run()]).values():
        assert math.isnan(summary.low)
        assert math.isnan(summary.high)
        assert not math.isnan(summary.mean)


def test_bootstrap_draws_only_from_the_given_or_the_fixed_generator() -> None:
    values = np.random.default_rng(1).normal(size=10)
    assert bootstrap.bootstrap_interval(values) == bootstrap.bootstrap_interval(values)
    seeded = [
        bootstrap.bootstrap_interval(X[:, :2], rng=np.random.default_rng(s), resamples=50)
        for s in (4, 4, 5)
    ]
    assert seeded[0] == seeded[1] != seeded[2]
    fixed = bootstrap.bootstrap_interval(values, rng=np.random.default_rng(0))
    assert fixed == bootstrap.bootstrap_interval(values)


def test_bootstrap_takes_any_statistic_with_an_axis() -> None:
    low, high = bootstrap.bootstrap_interval([0.0, 0.0, 0.0, 1.0, 1.0], np.median)
    assert (low, high) == (0.0, 1.0)
    narrow = bootstrap.bootstrap_interval(X[:, 0], level=0.5)
    wide = bootstrap.bootstrap_interval(X[:, 0], level=0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def coverage(seeds: int, experiments: int = 400) -> float:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(experiments):
        sample = rng.normal(0.6, 0.2, seeds)
        low, high = bootstrap.bootstrap_interval(sample, resamples=400, rng=rng)
        hits += low <= 0.6 <= high
    return hits / experiments


def test_the_interval_covers() -> None:
    assert 0.84 <= coverage(seeds=20) <= 0.94
    # Control: with three seeds a percentile interval must fall short, as its docstring says.
    assert coverage(seeds=3) < 0.8


def test_resampling_tasks_apart_is_too_narrow_for_runs_with_a_shared_history() -> None:
    rng = np.random.default_rng(5)
    correlated = rng.normal(size=(20, 1)) + 0.1 * rng.normal(size=(20, 10))
    whole = np.diff(bootstrap.bootstrap_interval(correlated))[0]
    apart = np.diff(bootstrap.bootstrap_interval(correlated, stratified=True))[0]
    assert apart < whole / 2
    independent = rng.normal(size=(20, 10))
    whole = np.diff(bootstrap.bootstrap_interval(independent))[0]
    apart = np.diff(bootstrap.bootstrap_interval(independent, stratified=True))[0]
    assert apart == pytest.approx(whole, rel=0.5)


def test_probability_of_improvement() -> None:
    assert bootstrap.probability_of_improvement(X, X)[0] == pytest.approx(0.5)
    assert bootstrap.probability_of_improvement(X + 2, Y) == (1.0, 1.0, 1.0)
    assert bootstrap.probability_of_improvement([[1.0]], [[1.0]])[0] == 0.5
    value, low, high = bootstrap.probability_of_improvement(X, Y)
    assert 0 <= low < value < high <= 1
    assert value == pytest.approx(1 - bootstrap.probability_of_improvement(Y, X)[0])


def test_probability_of_improvement_interval_against_a_loop() -> None:
    rng = np.random.default_rng(2)
    draws = []
    for _ in range(4000):
        x, y = X[rng.integers(6, size=6)], Y[rng.integers(5, size=5)]
        wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
        draws.append(wins.mean())
    expected = np.quantile(draws, [0.05, 0.95])
    assert_allclose(bootstrap.probability_of_improvement(X, Y)[1:], expected, atol=0.015)


# --- forward transfer


def two_task_runs() -> list[Scores]:
    """AUCs [.2, .5] and [.4, .9]: means [.3, .7]."""
    first = run_of([[0.1, 0.0], [0.3, 0.0], [0.0, 0.4], [0.0, 0.6]], per_task=2)
    second = run_of([[0.3, 0.0], [0.5, 0.0], [0.0, 0.8], [0.0, 1.0]], per_task=2)
    return [first, second]


# Mean AUCs .1 and .4.
REFERENCES = [
    [reference([0.0, 0.1]), reference([0.1, 0.2])],
    [reference([0.2, 0.2]), reference([0.5, 0.7])],
]


def test_hand_computed_forward_transfer() -> None:
    result = metrics.forward_transfer(two_task_runs(), REFERENCES)
    assert_allclose(result.per_task, [0.2 / 0.9, 0.3 / 0.6])
    assert result.mean == pytest.approx((0.2 / 0.9 + 0.5) / 2)
    assert result.excluded == ()
    first, second = (0.1 / 0.9 + 0.1 / 0.6) / 2, (0.3 / 0.9 + 0.5 / 0.6) / 2
    assert_allclose(result.per_run, [first, second])
    assert result.low < result.mean < result.high
    # Control: a ratio for every reference, then the mean, is another number.
    base = np.array([0.2, 0.6])
    assert ((0.7 - base) / (1 - base)).mean() != pytest.approx(result.per_task[1], abs=0.01)


def test_forward_transfer_ignores_the_evaluation_before_training() -> None:
    plain = two_task_runs()[0]
    values = np.vstack([[1.0, 1.0], plain.values])
    early = Scores(values, [0, *plain.train_task], [0, *plain.env_step], 10)
    assert_allclose(metrics.auc_per_task(early), metrics.auc_per_task(plain))
    single = Scores([[1.0], [0.0], [0.1]], [0, 0, 0], [0, 10, 20], 10)
    mixed = [[single, REFERENCES[0][1]], REFERENCES[1]]
    assert (
        metrics.forward_transfer([early], mixed).mean
        == metrics.forward_transfer([plain], REFERENCES).mean
    )


def test_forward_transfer_is_zero_for_the_reference_and_one_for_perfection() -> None:
    curve = [0.1, 0.5, 0.6]
    values = np.zeros((6, 2))
    values[:3, 0] = values[3:, 1] = curve
    alike = [[reference(curve)] * 3] * 2
    assert metrics.forward_transfer([run_of(values, 3)] * 2, alike).mean == pytest.approx(0)
    perfect = metrics.forward_transfer([run_of(np.ones((6, 2)), 3)] * 2, alike)
    assert (perfect.mean, perfect.low, perfect.high) == pytest.approx((1, 1, 1))


def test_forward_transfer_reports_the_tasks_it_excludes() -> None:
    easy = [REFERENCES[0], [reference([1.0, 0.92]), reference([1.0, 1.0])]]
    result = metrics.forward_transfer(two_task_runs(), easy)
    assert result.excluded == (1,)
    assert result.mean == pytest.approx(0.2 / 0.9)
    assert_allclose(result.per_task, [0.2 / 0.9, NAN])
    assert not math.isnan(result.low)
    # Control: left in, the easy task alone swamps the mean; its resamples still stay finite.
    all_in = metrics.forward_transfer(two_task_runs(), easy, ceiling=0.999)
    assert all_in.excluded == ()
    assert all_in.mean < -5
    assert math.isfinite(all_in.low)
    assert math.isfinite(all_in.high)
    # Included on average, at 1 in a resample: the denominator stays at .05.
    edge = [REFERENCES[0], [reference([0.8, 0.9]), reference([1.0, 1.0])]]
    result = metrics.forward_transfer(two_task_runs(), edge)
    assert result.excluded == ()
    assert -(1 + 1 / 0.05) / 2 < result.low < result.mean
    none = metrics.forward_transfer(two_task_runs(), [easy[1], easy[1]])
    assert none.excluded == (0, 1)
    assert math.isnan(none.mean)
    assert math.isnan(none.low)


def test_forward_transfer_interval_against_a_loop() -> None:
    rng = np.random.default_rng(8)
    auc = np.array([metrics.auc_per_task(run) for run in two_task_runs()])
    base = np.array([[metrics.auc_per_task(r)[0] for r in row] for row in REFERENCES])
    draws = []
    for _ in range(4000):
        a = auc[rng.integers(2, size=2)].mean(axis=0)
        b = np.array([row[rng.integers(2, size=2)].mean() for row in base])
        draws.append(((a - b) / (1 - b)).mean())
    result = metrics.forward_transfer(two_task_runs(), REFERENCES)
    assert_allclose((result.low, result.high), np.quantile(draws, [0.05, 0.95]), atol=0.03)


def test_forward_transfer_interval_needs_two_runs_and_two_references() -> None:
    for result in (
        metrics.forward_transfer(two_task_runs()[:1], REFERENCES),
        metrics.forward_transfer(two_task_runs(), [REFERENCES[0], REFERENCES[1][:1]]),
    ):
        assert not math.isnan(result.mean)
        assert math.isnan(result.low)
        assert math.isnan(result.high)


def test_a_task_that_comes_back_shares_its_references_draws() -> None:
    rng = np.random.default_rng(9)
    curves = [reference([v, v]) for v in rng.uniform(0, 0.8, 6)]
    others = [replace(c, values=c.values + 1e-9) for c in curves]
    run = run_of(np.full((4, 2), 0.5), per_task=2)
    shared = metrics.forward_transfer([run, run], [curves, curves])
    apart = metrics.forward_transfer([run, run], [curves, others])
    assert shared.mean == pytest.approx(apart.mean)
    assert (shared.high - shared.low) > 1.2 * (apart.high - apart.low)


@pytest.mark.parametrize(
    ("runs_given", "references", "message"),
    [
        ([], REFERENCES, "runs must be some"),
        (two_task_runs(), REFERENCES[:1], "for all 2 tasks"),
        (two_task_runs(), [REFERENCES[0], []], "for all 2 tasks"),
        (two_task_runs(), [REFERENCES[0], two_task_runs()], "references of task 1"),
        (two_task_runs(), [REFERENCES[0], [reference([0.1])]], r"task 1 .* \[20\] .* \[10\]"),
        (two_task_runs(), [[reference([0.1] * 3)], REFERENCES[1]], r"task 0 .* \[20\] .* \[30\]"),
        ([run_of(np.full((4, 2), 7.0), 2)], REFERENCES, r"scores in \[0, 1\]"),
    ],
)
def test_forward_transfer_refuses(
    runs_given: list[Scores], references: list[list[Scores]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.forward_transfer(runs_given, references)


def test_forward_transfer_of_an_unfinished_run_is_nan() -> None:
    whole = two_task_runs()[0]
    for rows in (2, 3):  # before the second task, and in the middle of it
        part = Scores(whole.values[:rows], whole.train_task[:rows], whole.env_step[:rows], 10)
        result = metrics.forward_transfer([whole, part], REFERENCES)
        assert_array_equal(np.isnan(result.per_run), [False, True])
        assert_array_equal(np.isnan(result.per_task), [False, True])
        assert math.isnan(result.mean)
        assert math.isnan(result.low)
    with pytest.raises(ValueError, match="ceiling"):
        metrics.forward_transfer([whole], REFERENCES, ceiling=1)


# --- summarize

KEYS = ["performance", "forgetting", "backward_transfer", "min_acc", "min_acc_null", "wc_acc"]


def test_summarize() -> None:
    other = replace(hand_run(), values=VALUES * 0.5)
    result = metrics.summarize([hand_run(), other])
    assert list(result) == [*KEYS, "wf", "wp"]
    assert_allclose(result["performance"].per_run, [0.6, 0.3])
    assert result["performance"].mean == pytest.approx(0.45)
    assert_allclose(result["backward_transfer"].per_run, [-0.4, -0.2])
    assert_allclose(result["wf"].per_run, [1 / 3, 1 / 6])
    for summary in result.values():
        assert summary.per_run.min() <= summary.low <= summary.mean
        assert summary.mean <= summary.high <= summary.per_run.max()
    short = metrics.summarize([hand_run(), other], last=1, window=2)
    assert short["performance"].per_run[0] == pytest.approx((0.6 + 0.5 + 0.8) / 3)
    assert short["wf"].per_run[0] == pytest.approx(0.2)


def test_summarize_with_references_adds_forward_transfer_only() -> None:
    plain = metrics.summarize(two_task_runs())
    full = metrics.summarize(two_task_runs(), REFERENCES)
    assert set(full) - set(plain) == {"forward_transfer"}
    transfer = full["forward_transfer"]
    assert isinstance(transfer, metrics.ForwardTransfer)
    assert transfer.mean == metrics.forward_transfer(two_task_runs(), REFERENCES).mean
    for name, summary in plain.items():
        assert (summary.low, summary.high) == (full[name].low, full[name].high)


def test_summarize_does_not_hide_a_run_that_died() -> None:
    dead = Scores(VALUES[:4], TRAIN[:4], STEPS[:4], 10)
    result = metrics.summarize([hand_run(), hand_run(), dead])["forgetting"]
    assert math.isnan(result.mean)
    assert math.isnan(result.low)
    assert_array_equal(np.isnan(result.per_run), [False, False, True])


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)))
def test_the_order_of_seeds_does_not_matter(order: list[int]) -> None:
    scaled = [replace(hand_run(), values=VALUES * f) for f in (0.2, 0.9, 0.5, 1.0, 0.3)]
    straight = metrics.summarize(scaled)
    permuted = metrics.summarize([scaled[i] for i in order])
    for name, summary in straight.items():
        assert permuted[name].mean == pytest.approx(summary.mean)
        # Resamples differ, so ends agree to the bootstrap's own noise.
        width = summary.high - summary.low
        ends = (permuted[name].low, permuted[name].high)
        assert ends == pytest.approx((summary.low, summary.high), abs=0.1 * width)
