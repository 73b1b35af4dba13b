"""Episodes end to end in arrays say the same as one array an episode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from played import same, some_episodes

from crl.data import Episodes, returns_to_go


def one_by_one(episodes):
    """A dictionary an episode: what a reader who never heard of offsets would keep."""
    row = step = 0
    for i, length in enumerate(episodes.lengths.tolist()):
        yield {
            "obs": episodes.obs[row : row + length + 1],
            **{name: getattr(episodes, name)[step : step + length] for name in
               ("actions", "rewards", "terminated", "truncated", "success")},
            "seeds": episodes.seeds[i],
        }
        row, step = row + length + 1, step + length


def equal(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("seed", range(5))
def test_statistics(seed):
    episodes = some_episodes(seed)
    apart = list(one_by_one(episodes))
    assert len(episodes) == len(apart) == 7
    assert episodes.steps == sum(len(e["rewards"]) for e in apart)
    assert episodes.returns == pytest.approx([e["rewards"].sum() for e in apart], rel=1e-5)
    assert episodes.successful.tolist() == [any(e["success"]) for e in apart]
    assert episodes.successful_at_end.tolist() == [e["success"][-1] for e in apart]


@pytest.mark.parametrize("seed", range(5))
def test_returns_to_go(seed):
    episodes = some_episodes(seed)
    expected = [sum(e["rewards"][t:].tolist()) for e in one_by_one(episodes)
                for t in range(len(e["rewards"]))]
    found = returns_to_go(episodes.rewards, episodes.offsets)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-5)
    # A control: without regard to where episodes end they are others.
    assert np.cumsum(episodes.rewards[::-1])[::-1] != pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("indices", [[3], [6, 0, 0, 2], [], [-1], slice(1, 3),
                                     np.array([True, False] * 3 + [True])])
def test_selections(indices):
    episodes = some_episodes()
    apart = list(one_by_one(episodes))
    chosen = list(one_by_one(episodes.select(indices)))
    expected = [apart[i] for i in np.arange(7)[indices]]
    assert len(chosen) == len(expected)
    assert all(map(equal, chosen, expected))


def test_joining_is_the_inverse_of_selecting():
    episodes = some_episodes()
    parts = [episodes.select(slice(0, 2)), episodes.select([2]), episodes.select(range(3, 7))]
    assert same(Episodes.join(parts), episodes)
    assert not same(Episodes.join(parts[::-1]), episodes)


def test_the_fingerprint_is_of_every_array():
    episodes = some_episodes()
    prints = {episodes.fingerprint(), some_episodes().fingerprint()}
    assert len(prints) == 1
    for name, array in vars(episodes).items():
        changed = array.copy()
        changed.flat[-1] = not changed.flat[-1] if array.dtype == bool else changed.flat[-1] + 1
        prints.add(replace(episodes, **{name: changed}).fingerprint())
    assert len(prints) == 1 + len(vars(episodes))
    # Where one array ends and the next begins counts too.
    assert replace(episodes, actions=episodes.actions.reshape(-1, 1)).fingerprint() not in prints
