"""Rollouts: advantages against Stable-Baselines3's, and which steps they are of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import RolloutBuffer

from crl.rollouts import RolloutReplay

GAMMA, LAMBDA, SCALE, LENGTH = 0.9, 0.8, 0.5, 4


def record(replay: RolloutReplay, lengths, cut, rng) -> list[dict]:
    """Episodes of these lengths; those in ``cut`` are truncated, the others end for good."""
    steps = []
    for number, length in enumerate(lengths):
        for t in range(length):
            step = {"obs": rng.normal(size=1), "next": rng.normal(size=1), "reward": rng.normal(),
                    "terminated": t == length - 1 and number not in cut, "first": t == 0,
                    "over": t == length - 1, "now": rng.normal(), "then": rng.normal()}
            if t:
                step["now"] = steps[-1]["then"]
            steps.append(step)
            replay.add(step["obs"], np.zeros(1), step["reward"], step["next"],
                       terminated=step["terminated"], first=step["first"], head=0,
                       state=np.zeros(1))
    return steps


def value(replay: RolloutReplay, steps: list[dict]) -> np.ndarray:
    """Hands in the steps' values; returns the pieces."""
    pieces = replay.rollout()
    values, log_probs = (torch.full((len(pieces), n), torch.nan) for n in (LENGTH + 1, LENGTH))
    usable = replay.take(pieces).usable
    for (piece, t), step in zip(usable.nonzero().tolist(), steps, strict=True):
        values[piece, t], values[piece, t + 1] = step["now"], step["then"]
        log_probs[piece, t] = step["reward"] * 10  # something to know it by
    replay.value(values, log_probs, gamma=GAMMA, gae_lambda=LAMBDA, reward_scale=SCALE)
    return pieces


def reference(steps: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Advantages and targets by another library; a cut episode's value goes into its reward."""
    space = Box(-1, 1, (1,))
    buffer = RolloutBuffer(len(steps), space, space, gamma=GAMMA, gae_lambda=LAMBDA)
    for s in steps:
        reward = SCALE * s["reward"]
        if s["over"] and not s["terminated"]:
            reward += GAMMA * s["then"]
        buffer.add(s["obs"], np.zeros(1), np.array([reward]), np.array([s["first"]]),
                   torch.tensor([s["now"]]), torch.zeros(1))
    buffer.compute_returns_and_advantage(torch.zeros(1), np.array([True]))
    return buffer.advantages[:, 0], buffer.returns[:, 0]


@pytest.mark.parametrize(("lengths", "cut"), [
    ((3,), ()), ((3,), (0,)), ((4, 8, 5), (1,)), ((1, 1, 9, 2), (0, 2)), ((12,), (0,))])
@pytest.mark.parametrize("capacity", [100, 37])
def test_advantages_are_those_of_stable_baselines(lengths, cut, capacity):
    rng = np.random.default_rng(0)
    replay = RolloutReplay(capacity, 1, 1, 1, length=LENGTH)
    for _ in range(3):  # the ring goes round
        steps = record(replay, lengths, cut, rng)
        batch = replay.take(value(replay, steps))
        advantage, target = reference(steps)
        row, step = batch.usable.nonzero(as_tuple=True)
        assert np.allclose(batch.advantage[row, step + 1], advantage, atol=1e-5)
        assert np.allclose(batch.target[row, step + 1], target, atol=1e-5)
        assert np.allclose(batch.log_prob[row, step + 1], [10 * s["reward"] for s in steps])


def test_a_rollout_is_what_is_not_valued_yet():
    rng = np.random.default_rng(0)
    replay = RolloutReplay(100, 1, 1, 1, length=LENGTH)
    value(replay, record(replay, (5, 3), (), rng))
    assert len(replay) == 3  # of 4 steps, 2 with the end of an episode between them, 2
    assert len(replay.rollout()) == 0
    steps = record(replay, (9,), (), rng)
    other = RolloutReplay(100, 1, 1, 1, length=LENGTH)
    other.load_state_dict(replay.state_dict())
    assert other.rollout().tolist() == [3, 4, 5]
    value(other, steps)
    replay.clear()
    assert len(replay.rollout()) == 0


def test_every_step_is_learned_from_once():
    rng = np.random.default_rng(0)
    replay = RolloutReplay(500, 1, 1, 1, length=LENGTH)
    count = 0
    for lengths in ((1, 1, 1, 1, 1), (7, 2), (4, 4), (3, 1, 8)):
        steps = record(replay, lengths, (), rng)
        value(replay, steps)
        count += len(steps)
        batch = replay.take(np.arange(len(replay)))
        assert int(batch.usable.sum()) == count
        assert len(batch.log_prob[:, 1:][batch.usable].unique()) == count
    assert len(replay) < count / 2
