"""The reservoir: whatever was seen is equally likely to be kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from crl.methods.reservoir import Reservoir
from crl.replay import Batch

PIECES = (7, 40, 1, 12)  # a stream of 60 transitions, in batches of different sizes
SEEN, CAPACITY, TRIALS = sum(PIECES), 10, 3000


def numbered(first: int, count: int, head: int = 0) -> Batch:
    """Transitions whose every column tells their number."""
    number = torch.arange(first, first + count, dtype=torch.float32)
    wide = number[:, None].expand(count, 2)
    return Batch(wide, wide, number, wide, number, head)


def algorithm_r(rng: np.random.Generator) -> np.ndarray:
    reservoir, first = Reservoir(CAPACITY), 0
    for count in PIECES:
        reservoir.extend(numbered(first, count), rng)
        first += count
    assert len(reservoir) == CAPACITY
    assert reservoir.seen == SEEN
    return reservoir.sample(1, rng).reward.numpy()


def keep_last(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(SEEN - CAPACITY, SEEN, size=1)


def accept_half(rng: np.random.Generator) -> np.ndarray:
    """Each new transition replaces one of those kept with the same probability."""
    kept = np.arange(CAPACITY)
    for number in range(CAPACITY, SEEN):
        if rng.random() < 0.5:
            kept[rng.integers(CAPACITY)] = number
    return rng.choice(kept, 1)


def p_value(sampler) -> float:
    """Of the hypothesis that each number is drawn alike."""
    rng = np.random.default_rng(0)
    draws = np.concatenate([sampler(rng) for _ in range(TRIALS)]).astype(int)
    return chisquare(np.bincount(draws, minlength=SEEN)).pvalue


def test_every_transition_is_equally_likely_to_be_kept():
    assert p_value(algorithm_r) > 0.01


@pytest.mark.parametrize("naive", [keep_last, accept_half])
def test_naive_samplers_fail_the_same_check(naive):
    assert p_value(naive) < 1e-6


def test_what_is_kept_is_whole_different_and_has_its_head():
    reservoir, rng = Reservoir(20), np.random.default_rng(1)
    reservoir.extend(numbered(0, 15, head=0), rng)
    assert len(reservoir) == 15  # all, while there is room
    assert set(reservoir.sample(400, rng).reward.tolist()) == set(range(15))
    reservoir.extend(numbered(100, 100, head=3), rng)
    kept = reservoir.sample(2000, rng)
    assert len(set(kept.reward.tolist())) == 20
    for column in (kept.obs[:, 0], kept.obs[:, 1], kept.action[:, 1], kept.next_obs[:, 0],
                   kept.discount):
        assert torch.equal(column, kept.reward)
    assert torch.equal(kept.head == 3, kept.reward >= 100)


def test_a_loaded_reservoir_goes_on_the_same():
    first, again = Reservoir(20), Reservoir(20)
    for reservoir in (first, again):
        rng = np.random.default_rng(2)
        reservoir.extend(numbered(0, 12), rng)
        if reservoir is again:
            again = Reservoir(20)
            again.load_state_dict(reservoir.state_dict())
            reservoir = again
        reservoir.extend(numbered(12, 50), rng)
    for a, b in zip(*(r.sample(64, np.random.default_rng(3)).columns().values()
                      for r in (first, again)), strict=True):
        assert torch.equal(a, b)
