"""Evaluation: episodes depend on seed and weights alone; success is read wherever it stands."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from toy import CORNERS, HORIZON, Corner, corners

import crl
from crl.agent import Policy, PolicySpec
from crl.evaluation import read_success
from crl.stream import Task, space_bounds


class Toward(Policy):
    """Walks straight to a corner; turns round after `turn` steps if that is given."""

    def __init__(self, corner: int, turn: int = HORIZON, noise: float = 0.0) -> None:
        env = Corner(corner)
        self.spec = PolicySpec("corner", *space_bounds(env.observation_space),
                               *space_bounds(env.action_space), state_shapes=((1,),))
        self.goal, self.turn, self.noise = np.array(CORNERS[corner]), turn, noise

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)

    def step(self, obs, state, first, deterministic=True):
        count = np.where(first[:, None], 0, state[0]) + 1
        way = np.where(count <= self.turn, self.goal - obs[:, :2], -self.goal)
        if not deterministic:
            way = way + self.noise * self.rng.normal(size=way.shape)
        return np.clip(way, -0.2, 0.2).astype(np.float32), (count,)


TASK = Task("corner-0", partial(Corner, 0), 100, 0)


def test_success_at_any_step_and_at_the_last_are_told_apart():
    stays = crl.evaluate(Toward(0), TASK, episodes=4)
    assert all(e.success_once and e.success_end for e in stays)
    leaves = crl.evaluate(Toward(0, turn=15), TASK, episodes=4)
    assert all(e.success_once and not e.success_end for e in leaves)
    wrong = crl.evaluate(Toward(3), TASK, episodes=4)
    assert not any(e.success_once for e in wrong)
    assert {e.length for e in stays + leaves + wrong} == {HORIZON}


def test_the_same_seed_gives_the_same_episodes_and_another_does_not():
    noisy = Toward(0, noise=1.0)

    def episodes(seed, **settings):
        return crl.evaluate(noisy, TASK, episodes=3, seed=seed, deterministic=False, **settings)

    assert episodes(1) == episodes(1)
    assert episodes(1) != episodes(2)
    assert len({e.reward_sum for e in episodes(1)}) == 3


def test_the_recurrent_state_starts_anew_in_every_episode():
    policy = Toward(0, turn=15)
    policy.seed(0)
    obs = np.zeros((2, 3), np.float32)
    state = policy.initial_state(2)
    for first in ([True, True], [False, False], [False, True]):
        _, state = policy.step(obs, state, np.array(first))
    assert state[0].ravel().tolist() == [3, 1]


def test_policy_and_task_must_fit():
    class Wide(Corner):
        import gymnasium

        observation_space = gymnasium.spaces.Box(-2, 2, (5,), np.float32)

    with pytest.raises(crl.UserError, match=r"shape \(3,\), task 'wide' gives \(5,\)"):
        crl.evaluate(Toward(0), Task("wide", partial(Wide, 0), 100, 0))


@pytest.mark.parametrize(("info", "expected"), [
    ({"success": 1.0}, True), ({"success": 0.0, "is_success": True}, False),
    ({"is_success": True}, True), ({}, False),
])
def test_success_is_read_from_metaworlds_name_or_sb3s(info, expected):
    assert read_success(info) is expected


def test_a_stream_is_not_needed_to_evaluate():
    stream = corners()
    policy = crl.make_agent("sac", stream, hidden=(8,)).policy(stream[0])
    assert len(crl.evaluate(policy, stream[0], episodes=2)) == 2
