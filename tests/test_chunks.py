"""Replay of chunks: every row once, nothing of one task in another's, and which chunks stay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from crl.chunks import ChunkReplay

LENGTH = 8


def recorded(lengths, heads=None, **options) -> ChunkReplay:
    """Observation t of episode e is 1000 e + t, as are the action and the reward that led to it;
    what was remembered before it is minus that."""
    replay = ChunkReplay(options.pop("capacity", 1000), 1, 1, 1, length=LENGTH, **options)
    for e, steps in enumerate(lengths):
        for t in range(steps + 1):
            number = 1000 * e + t
            replay.add(np.full(1, number), np.full(1, number), number, ended=t == steps,
                       first=t == 0, head=heads[e] if heads else 0, state=np.full(1, -number))
    return replay


def everything(replay):
    return replay.take(np.arange(len(replay)))


def test_every_row_is_in_one_chunk_whatever_its_episode():
    lengths = [1, 30, 8, 9, 64, 5]
    chunks = everything(recorded(lengths))
    rows = [1000 * e + t for e, steps in enumerate(lengths) for t in range(steps + 1)]
    whole = len(rows) // LENGTH * LENGTH
    assert chunks.obs.flatten().int().tolist() == rows[:whole]
    number, first = chunks.obs[..., 0], chunks.first
    assert torch.equal(first, number % 1000 == 0)
    for column in (chunks.action[..., 0], chunks.reward):
        assert torch.equal(column, torch.where(first, 0, number))
    assert chunks.ended.sum() == sum(n <= whole for n in np.cumsum([s + 1 for s in lengths]))
    assert torch.equal(chunks.state[:, 0], -number[:, 0])


def test_no_chunk_has_rows_of_two_tasks():
    chunks = everything(recorded([10, 10, 20, 10], heads=[0, 1, 1, 0]))
    of_row = torch.tensor([0, 1, 1, 0])[(chunks.obs[..., 0] // 1000).long()]
    assert (of_row == chunks.heads[:, None]).all()
    assert chunks.heads.tolist() == [0, 1, 1, 1, 1, 0]


def numbers(replay) -> list[int]:
    """Of the chunks held, in the order in which they came."""
    return (everything(replay).obs[:, 0, 0] / LENGTH).int().tolist()


def test_first_in_first_out_keeps_the_newest():
    assert sorted(numbers(recorded([50 * LENGTH - 1], capacity=10 * LENGTH))) == list(range(40, 50))


def test_a_reservoir_keeps_every_chunk_as_often():
    """A released one lets chunks in before the coin is tossed: old ones decay geometrically."""
    kept = Counter()
    for seed in range(400):
        kept.update(numbers(recorded([50 * LENGTH - 1], capacity=10 * LENGTH, keep="reservoir",
                                     seed=seed)))
    counts = np.array([kept[n] for n in range(50)])
    assert counts.sum() == 4000
    # Binomial, 400 draws at 1/5: 80 ± 8; five deviations.
    assert np.abs(counts - 80).max() < 40
    assert abs(counts[:25].sum() - 2000) < 160


def test_half_keeps_both_and_batches_have_as_many_of_either():
    replay = recorded([200 * LENGTH - 1], capacity=20 * LENGTH, keep="half")
    held = numbers(replay)
    assert sorted(held[:10]) == list(range(190, 200))
    assert np.mean(held[10:]) < 180
    batch = replay.sample(40, np.random.default_rng(0))
    newest = (batch.obs[:, 0, 0] / LENGTH).int() >= 190
    assert newest[:20].all()
    assert newest[20:].sum() < 15


@pytest.mark.parametrize("keep", ["fifo", "reservoir", "half"])
def test_a_loaded_replay_goes_on_to_the_bit(keep):
    replay = recorded([30, 30, 9], capacity=6 * LENGTH, keep=keep)
    again = ChunkReplay(6 * LENGTH, 1, 1, 1, length=LENGTH, keep=keep, seed=9)
    again.load_state_dict(replay.state_dict())
    for one in (replay, again):
        for t in range(100):
            one.add(np.full(1, t), np.full(1, t), t, ended=False, first=t == 0, head=0,
                    state=np.full(1, t))
    for a, b in zip(everything(replay).columns().values(), everything(again).columns().values(),
                    strict=True):
        assert torch.equal(a, b)


def test_nothing_is_left_when_it_is_cleared():
    replay = recorded([30])
    replay.clear()
    assert len(replay) == 0
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, np.random.default_rng(0))
