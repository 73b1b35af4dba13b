"""Replay of sequences: what a piece holds, which of its steps may be learned from, and returns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from crl.sequences import SequenceReplay, Sequences

GAMMA = 0.9


class Recorded:
    """Episodes whose every number tells where it is from, and the replay that they went into.

    Observation t of episode e is 1000 e + t; the action and the reward that led to it are that
    number too, and the memory's state before it is minus that number.
    """

    def __init__(self, lengths, *, capacity=1000, length=8, burn_in=0, ends=(), heads=None) -> None:
        self.replay = SequenceReplay(capacity, 1, 1, 1, length=length, burn_in=burn_in)
        for e, steps in enumerate(lengths):
            self.episode(e, steps, e in ends, heads[e] if heads else 0)

    def episode(self, e, steps, terminated=False, head=0) -> None:
        for t in range(steps):
            now, then = 1000 * e + t, 1000 * e + t + 1
            self.replay.add(np.full(1, now), np.full(1, then), then, np.full(1, then),
                            terminated=terminated and t == steps - 1, first=t == 0, head=head,
                            state=np.full(1, -now))

    def all(self) -> Sequences:
        return self.replay.take(np.arange(len(self.replay)))


def learned(pieces: Sequences) -> Counter:
    """How often each step occurs as one to learn from, by where it leads."""
    return Counter(pieces.obs[:, 1:, 0][pieces.usable].int().tolist())


@pytest.mark.parametrize("burn_in", [0, 2, 3])
def test_every_step_is_learned_from_once_in_a_piece_of_its_own_episode(burn_in):
    lengths = [1, 30, 8, 9, 64]
    pieces = Recorded(lengths, burn_in=burn_in).all()
    own = pieces.obs[:, 1:, 0] // 1000 == pieces.obs[:, :1, 0] // 1000
    only = Sequences(**{**pieces.columns(), "usable": pieces.usable & own})
    expected = {1000 * e + t for e, n in enumerate(lengths) for t in range(1, n + 1)}
    assert learned(only) == Counter(expected)
    assert bool(only.usable.any(1).all()), "a piece without anything to learn from"


def test_steps_of_short_episodes_are_learned_from_as_often_as_those_of_long_ones():
    """But near the ends of what is held, which fewer pieces reach."""
    replay = Recorded([*[2] * 200, *[48] * 10, *[2] * 200], capacity=2000).replay
    rng, often = np.random.default_rng(0), Counter()
    for _ in range(100):
        often += learned(replay.sample(500, rng))
    early, long, late = (
        np.mean([often[1000 * e + t] for e in episodes for t in range(1, steps + 1)])
        for episodes, steps in ((range(20, 200), 2), (range(200, 210), 48), (range(210, 400), 2)))
    assert early == pytest.approx(long, rel=0.1)
    assert late == pytest.approx(long, rel=0.1)


def test_rows_are_what_led_to_them_and_the_state_is_that_before_the_first():
    pieces = Recorded([5, 30, 3], ends=(1,)).all()
    number = pieces.obs[..., 0]
    begins = number % 1000 == 0
    recorded = torch.ones_like(begins)
    recorded[:, 1:] = pieces.usable | begins[:, 1:]
    assert torch.equal(pieces.first[recorded], begins[recorded])
    for column in (pieces.action[..., 0], pieces.reward):
        assert torch.equal(column[recorded], torch.where(begins, 0, number)[recorded])
    assert torch.equal(pieces.ended[recorded], (number == 1030)[recorded])
    assert torch.equal(pieces.state[:, 0], -number[:, 0])


def test_a_piece_is_burnt_in_only_where_it_begins_inside_an_episode():
    pieces = Recorded([30], burn_in=3).all()
    assert pieces.usable[0].all()
    for usable in pieces.usable[1:]:
        assert usable.tolist()[:4] == [False, False, False, True]


def test_nothing_is_learned_across_episodes_tasks_or_the_newest_row():
    pieces = Recorded([3, 2, 4], heads=[0, 0, 1]).all()
    steps = pieces.obs[:, 1:, 0] - pieces.obs[:, :-1, 0]
    assert (steps[pieces.usable] == 1).all()
    task = pieces.obs[:, 1:, 0] // 2000
    assert (task == pieces.heads[:, None])[pieces.usable].all()
    assert pieces.heads.tolist() == [0, 0, 1]


@pytest.mark.parametrize("n_step", [1, 3, 20])
def test_returns_are_those_of_their_definition(n_step):
    pieces = Recorded([5, 11, 3, 30], ends=(0, 2)).all()
    reward, end, discount = pieces.returns(n_step, GAMMA)
    for b, t in pieces.usable.nonzero().tolist():
        total, k = 0.0, 0
        while k < n_step and t + k < pieces.usable.shape[1] and pieces.usable[b, t + k]:
            total += GAMMA**k * float(pieces.reward[b, t + k + 1])
            k += 1
        assert float(reward[b, t]) == pytest.approx(total, rel=1e-5)
        assert int(end[b, t]) == t + k
        over = float(pieces.obs[b, t + k, 0]) in (5, 2003)
        assert float(discount[b, t]) == pytest.approx(0 if over else GAMMA**k)


def test_what_is_overwritten_is_gone_with_all_its_pieces():
    recorded = Recorded([30, 30], capacity=40)
    pieces = recorded.all()
    oldest = 62 - 40  # rows ever written, less those that are kept
    assert float(pieces.obs[0, 0, 0]) >= oldest
    assert (pieces.obs[:, 1:, 0] - pieces.obs[:, :-1, 0])[pieces.usable].eq(1).all()
    recorded.episode(2, 39)
    assert set((recorded.all().obs[:, 0, 0] // 1000).tolist()) == {2}


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_pieces_of_a_full_replay(length):
    recorded = Recorded([1, 30, 2, 60], capacity=50, length=length)
    found = learned(recorded.all())
    expected = {3000 + t for t in range(61 - 50 + 1, 61)}
    assert expected - {3000 + t for t in range(12, 11 + length)} <= set(found) <= expected
    assert set(found.values()) == {1}


def test_what_is_saved_goes_on_the_same():
    one, two = (Recorded([20, 7, 30], capacity=45, burn_in=3) for _ in range(2))
    two.replay = SequenceReplay(45, 1, 1, 1, length=8, burn_in=3)
    two.replay.load_state_dict(one.replay.state_dict())
    for recorded in (one, two):
        recorded.episode(3, 13)
    a, b = (r.replay.sample(64, np.random.default_rng(0)).columns() for r in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_an_empty_one_says_so():
    recorded = Recorded([3])
    recorded.replay.clear()
    assert len(recorded.replay) == 0
    with pytest.raises(ValueError, match="empty"):
        recorded.replay.sample(1, np.random.default_rng(0))
