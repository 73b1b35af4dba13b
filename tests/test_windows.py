"""Windows of recorded episodes: what they hold, by hand."""

from __future__ import annotations

import numpy as np
import torch

from crl.windows import WindowReplay


def filled(window: int = 3) -> WindowReplay:
    """Episodes of 3 and 2 steps of head 0 and of 4 steps of head 1; everything counts up."""
    replay = WindowReplay(window)
    for head, lengths in ((0, [3, 2]), (1, [4])):
        n = sum(lengths)
        count = 10 * head + np.arange(n, dtype=np.float32)
        replay.put(count[:, None] * [1.0, -1.0], count[:, None] / 100, 1 + count, lengths, head)
    return replay


def test_a_window_ends_where_it_was_drawn_and_begins_with_its_episode() -> None:
    batch = filled().take(np.array([2, 3, 4]))
    assert batch.obs[..., 0].tolist() == [[0, 1, 2], [0, 0, 3], [0, 3, 4]]
    assert batch.obs[..., 1].tolist() == [[0, -1, -2], [0, 0, -3], [0, -3, -4]]
    assert batch.valid.tolist() == [[True] * 3, [False, False, True], [False, True, True]]
    torch.testing.assert_close(batch.action[..., 0], batch.obs[..., 0] / 100)


def test_rewards_are_of_the_step_before_and_returns_of_what_comes() -> None:
    batch = filled().take(np.array([2, 4]))
    # Rewards of the first episode: 1, 2, 3; of the second: 4, 5.
    assert batch.reward.tolist() == [[0, 1, 2], [0, 0, 4]]
    assert batch.to_go.tolist() == [[6, 5, 3], [0, 9, 5]]


def test_heads_are_those_of_the_episodes() -> None:
    replay = filled()
    assert len(replay) == 9
    assert replay.take(np.array([0, 4])).head == 0
    assert replay.take(np.array([0, 8])).heads.tolist() == [0, 1]


def test_all_steps_are_drawn_alike() -> None:
    batch = filled(1).sample(9_000, np.random.default_rng(0))
    counts = np.unique(batch.obs[:, 0, 0].numpy(), return_counts=True)[1]
    assert len(counts) == 9
    assert (np.abs(counts - 1_000) < 4 * np.sqrt(1_000)).all()


def test_a_cleared_replay_is_empty_and_may_be_filled_again() -> None:
    replay = filled()
    replay.clear()
    assert len(replay) == 0
    replay.put(np.zeros((2, 2), np.float32), np.zeros((2, 1), np.float32), np.ones(2), [2], 0)
    assert len(replay) == 2
