"""Replay: first in first out, uniform, and n-step returns against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crl.replay import Replay

GAMMA = 0.9


def add(replay: Replay, number: int, reward: float = 0.0, terminated=False, truncated=False,
        head: int = 0) -> None:
    """A transition from obs [number] to obs [number + 0.5]."""
    obs, following = np.array([[number]], np.float32), np.array([[number + 0.5]], np.float32)
    replay.add(obs[0], np.array([number]), reward, following[0], terminated=terminated,
               truncated=truncated, head=head)


def by_loop(rewards, terminated, truncated, start, n):
    """Return, index of the last transition used, and discount, by the definition."""
    total, end = 0.0, start
    for k in range(n):
        end = start + k
        total += GAMMA**k * rewards[end]
        if terminated[end] or truncated[end] or end + 1 == len(rewards):
            break
    steps = end - start + 1
    return total, end, 0.0 if terminated[end] else GAMMA**steps


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_n_step_returns_equal_the_definition(n, length, seed):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(size=length)
    terminated = rng.random(length) < 0.15
    truncated = ~terminated & (rng.random(length) < 0.15)
    replay = Replay(100, 1, 1, n_step=n, gamma=GAMMA)
    for i in range(length):
        add(replay, i, rewards[i], terminated[i], truncated[i])
    batch = replay.sample(64, rng)
    for row in range(64):
        start = int(batch.obs[row, 0])
        total, end, discount = by_loop(rewards, terminated, truncated, start, n)
        assert batch.reward[row].item() == pytest.approx(total, abs=1e-5)
        assert batch.next_obs[row, 0].item() == end + 0.5
        assert batch.discount[row].item() == pytest.approx(discount, abs=1e-6)


def test_returns_do_not_cross_from_the_newest_transition_to_the_oldest():
    replay = Replay(4, 1, 1, n_step=3, gamma=GAMMA)
    for i in range(6):  # 0 and 1 are overwritten; 5 is the newest, 2 stands after it in storage
        add(replay, i, reward=1.0)
    batch = replay.sample(200, np.random.default_rng(0))
    assert set(batch.obs[:, 0].tolist()) == {2, 3, 4, 5}
    for start, expected in ((2, 1 + 0.9 + 0.81), (3, 1 + 0.9 + 0.81), (4, 1.9), (5, 1.0)):
        rows = batch.obs[:, 0] == start
        assert batch.reward[rows].tolist() == pytest.approx([expected] * int(rows.sum()))


def test_sampling_is_uniform():
    replay = Replay(50, 1, 1)
    for i in range(80):
        add(replay, i)
    rows = replay.sample(100_000, np.random.default_rng(0)).obs[:, 0].numpy()
    counts = np.bincount(rows.astype(int), minlength=80)
    assert (counts[:30] == 0).all()
    chi_squared = ((counts[30:] - 2000) ** 2 / 2000).sum()
    assert chi_squared < 85.4  # 49 degrees of freedom, p = 0.001


def test_heads_are_one_int_or_one_per_row():
    replay = Replay(10, 1, 1)
    add(replay, 0, head=3)
    assert replay.sample(4, np.random.default_rng(0)).head == 3
    add(replay, 1, head=1)
    batch = replay.sample(64, np.random.default_rng(0))
    assert batch.head.tolist() == [3 if o == 0 else 1 for o in batch.obs[:, 0]]


@pytest.mark.parametrize("count", [3, 10, 17])
def test_state_survives_and_goes_on_equally(count):
    one, two = (Replay(10, 1, 1, n_step=2, gamma=GAMMA) for _ in range(2))
    for i in range(count):
        add(one, i, reward=i)
    two.load_state_dict(one.state_dict())
    for replay in (one, two):
        for i in range(count, count + 4):
            add(replay, i, reward=i)
    a, b = (r.sample(50, np.random.default_rng(1)) for r in (one, two))
    assert all(torch.equal(x, b.columns()[name]) for name, x in a.columns().items())


def test_an_empty_replay_says_so():
    replay = Replay(10, 1, 1)
    add(replay, 0)
    replay.clear()
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, np.random.default_rng(0))


def test_batches_lie_in_aligned_memory():
    """Products of equal numbers must not depend on where NumPy happened to put them."""
    replay = Replay(10, 3, 2)
    for i in range(5):
        replay.add(np.zeros(3), np.zeros(2), 0.0, np.zeros(3), terminated=False, truncated=False,
                   head=i % 2)
    for _ in range(20):
        batch = replay.sample(7, np.random.default_rng(0))
        assert all(column.data_ptr() % 64 == 0 for column in batch.columns().values())
