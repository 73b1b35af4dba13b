"""Random streams by name are reproducible and independent."""

from __future__ import annotations

import numpy as np

from crl import seeding


def test_streams_depend_on_seed_and_name_alone():
    def draws(seed, *name):
        return seeding.generator(seed, *name).random(5).tolist()

    assert draws(1, "a") == draws(1, "a")
    values = [draws(*key) for key in ((1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1, "a", 1),
                                      (1, 0, "a"))]
    assert len({tuple(v) for v in values}) == len(values)


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    draws = np.array([seeding.generator(s, "x").normal(size=2000) for s in range(10)])
    correlations = np.corrcoef(draws)[np.triu_indices(10, 1)]
    assert np.abs(correlations).max() < 0.1  # four standard deviations of 1/√2000 are 0.09


def test_integers_fit_environments_and_do_not_repeat():
    values = [seeding.integer(0, "train", i) for i in range(5000)]
    assert min(values) >= 0
    assert max(values) < 2**31
    assert len(set(values)) > 4990


def test_a_generator_goes_on_where_its_state_was_taken():
    one, two = seeding.generator(3, "a"), seeding.generator(4, "b")
    one.random(7)
    seeding.restore_generator(two, seeding.generator_state(one))
    assert one.integers(2**40, size=9).tolist() == two.integers(2**40, size=9).tolist()
