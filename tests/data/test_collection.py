"""Episodes for data: noise is what it is said to be, and an episode depends on its number alone."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from played import CORNER, TimedCorner, Toward, dies_once, same
from toy import HORIZON, corners

import crl
from crl.agents.scripted import scripted_policy
from crl.data import Episodes, collect
from crl.data.collection import CollectConfig, blocks, play
from crl.ray_session import session
from crl.stream import Task
from crl.workers import side_by_side


class Wide(gymnasium.Env):
    """Five hundred steps of nothing; actions of up to a hundred."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
    horizon = 500

    def __init__(self, render_mode=None):
        pass

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = self.horizon
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.zeros(3, np.float32), 0.0, False, self.left == 0, {}


pytestmark = pytest.mark.filterwarnings("ignore:Constant")  # pytest undoes the filter of ours
WIDE = Task("wide", Wide, 1, 0)
STILL = Toward(stride=0.0)


def actions_of(episodes):
    return np.split(episodes.actions, episodes.offsets[1:-1])


def test_an_episode_is_what_the_policy_does_from_its_seed():
    episodes = collect(Toward(), CORNER, episodes=3)
    assert episodes.lengths.tolist() == [HORIZON] * 3
    for i, seed in enumerate(episodes.seeds.tolist()):
        env = TimedCorner(0)
        obs, _ = env.reset(seed=seed)
        for s in range(i * HORIZON, (i + 1) * HORIZON):
            assert np.array_equal(episodes.obs[s + i], obs)
            assert np.array_equal(episodes.actions[s], Toward().step(obs[None], (), None)[0][0])
            obs, reward, terminated, truncated, info = env.step(episodes.actions[s])
            assert np.array_equal(episodes.obs[s + i + 1], obs)
            assert episodes.rewards[s] == np.float32(reward)
            assert (episodes.terminated[s], episodes.truncated[s], episodes.success[s]) == (
                terminated, truncated, info["success"])
    assert episodes.successful.all()


def test_noise_has_the_standard_deviation_that_each_episode_draws():
    episodes = collect(STILL, WIDE, episodes=40, noise=0.5)
    stds = np.array([a.std() for a in actions_of(episodes)])
    means = np.array([a.mean() for a in actions_of(episodes)])
    assert np.abs(means).max() < 5 * 0.5 / 1000**0.5
    # Uniform on [0, 0.5]: mean 0.25, standard deviation 0.144.
    assert stds.max() < 0.52
    assert stds.mean() == pytest.approx(0.25, abs=0.07)
    assert stds.std() == pytest.approx(0.144, abs=0.04)
    # Gaussian: 68 % within one standard deviation; uniform noise would have 58 %.
    inside = np.concatenate([(np.abs(a) < s).ravel()
                             for a, s in zip(actions_of(episodes), stds, strict=True)])
    assert inside.mean() == pytest.approx(0.683, abs=0.01)
    assert not collect(STILL, WIDE, episodes=1).actions.any()  # the control


def test_the_action_kept_is_the_one_taken_and_within_bounds():
    episodes = collect(Toward(), CORNER, episodes=5, noise=2.0, partial=0.5)
    assert np.abs(episodes.actions).max() == np.float32(0.2)
    for i, seed in enumerate(episodes.seeds.tolist()):
        env = TimedCorner(0)
        env.reset(seed=seed)
        for s in range(i * HORIZON, (i + 1) * HORIZON):
            assert np.array_equal(env.step(episodes.actions[s])[0], episodes.obs[s + i + 1])


def test_random_actions_take_over_for_good_at_a_uniform_step():
    episodes = collect(STILL, WIDE, episodes=60, partial=0.5)
    relieved = [np.flatnonzero(a.any(axis=1)) for a in actions_of(episodes)]
    partial_ones = [steps for steps in relieved if len(steps)]
    assert 18 <= len(partial_ones) <= 42
    for steps in partial_ones:
        assert np.array_equal(steps, np.arange(steps[0], 500))
    starts = np.array([steps[0] for steps in partial_ones])
    assert starts.mean() == pytest.approx(250, abs=100)
    assert starts.min() < 125
    assert starts.max() > 375
    actions = np.concatenate([a[s] for a, s in zip(actions_of(episodes), relieved, strict=True)])
    assert np.histogram(actions, 4, (-100, 100))[0] / actions.size == pytest.approx(0.25, abs=0.02)


def test_an_episode_depends_on_its_number_alone():
    settings = {"noise": 0.1, "partial": 0.3}
    many = collect(Toward(), CORNER, episodes=25, **settings)
    assert same(collect(Toward(), CORNER, episodes=4, **settings), many.select(range(4)))
    (block,) = blocks(Toward(), CORNER, CollectConfig(episodes=9, **settings))
    assert same(play(block._replace(numbers=range(17, 20))), many.select(range(17, 20)))
    assert len(set(many.seeds.tolist())) == 25
    for other in ({"seed": 1}, {"noise": 0.2}):
        assert not same(collect(Toward(), CORNER, episodes=25, **{**settings, **other}), many)


def test_tasks_have_draws_of_their_own_and_visits_have_not():
    seeds = {name: collect(Toward(), Task(name, CORNER.make, 1, 0), episodes=1).seeds[0]
             for name in ("corner-0", "corner-0@2", "corner-1")}
    assert seeds["corner-0"] == seeds["corner-0@2"] != seeds["corner-1"]


@pytest.mark.parametrize(
    ("policy", "task", "settings", "hint"),
    [
        (Toward(), CORNER, {"episodes": 0}, "episodes must be above 0"),
        (Toward(), CORNER, {"episodes": 2.5}, "data.episodes must be a whole number"),
        (Toward(), CORNER, {"noise": -0.1}, "noise must not be negative"),
        (Toward(), CORNER, {"noise": float("nan")}, "data.noise must be a finite number"),
        (Toward(), CORNER, {"partial": 1.1}, "partial must be between 0 and 1"),
        (Toward(), CORNER, {"seed": -1}, "seed must not be negative"),
        (Toward(), CORNER, {"workers": -1}, "workers must be a whole number"),
        (Toward(), CORNER, {"nose": 1.0}, "did you mean 'noise'"),
        (scripted_policy("push-v3"), CORNER, {}, r"takes observations of shape \(39,\)"),
        (Toward(), corners(1)[0], {"partial": 0.5}, "leave partial out"),
        (Toward(), Task("rolls", partial(gymnasium.make, "CartPole-v1"), 1, 0), {},
         r"observations of shape \(3,\)"),
    ],
)
def test_errors(policy, task, settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        collect(policy, task, **settings)


def test_choices_are_no_data():
    task = crl.make_stream("CartPole-v1")[0]
    policy = Toward()
    policy.spec = crl.PolicySpec("rolls", np.zeros(4), np.ones(4), np.zeros(2), np.ones(2), True)
    with pytest.raises(crl.UserError, match="bounded continuous actions"):
        collect(policy, task)


# ---- Ray ----


@pytest.fixture(scope="module")
def rays(tmp_path_factory):
    """Ray with two workers; it is gone, folder and all, at the end."""
    before = set(Path("/tmp").glob("crl-ray-*"))
    here = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")  # for its workers
        with session(2) as ray:
            yield ray
    assert not ray.is_initialized()
    assert set(Path("/tmp").glob("crl-ray-*")) <= before


class TestWithRay:
    def test_episodes_are_those_of_one_process_to_the_bit(self, rays):
        stream = crl.make_stream("window-close-v3", horizon=15)
        settings = {"episodes": 23, "noise": 0.3, "partial": 0.3, "seed": 5}
        for policy, task in ((scripted_policy("window-close-v3"), stream[0]), (Toward(), CORNER)):
            here, there = (collect(policy, task, workers=workers, **settings)
                           for workers in (0, 2))
            assert same(here, there)
            assert here.fingerprint() == there.fingerprint()

    def test_a_worker_that_is_killed_loses_nothing(self, rays, tmp_path):
        jobs = [(tmp_path, number) for number in range(8)]
        assert list(side_by_side(dies_once, jobs, 2)) == [n**2 for n in range(8)]
        assert (tmp_path / "died").exists()

    def test_an_error_of_a_worker_is_the_users(self, rays):
        with pytest.raises(crl.UserError, match=r"leave partial out") as caught:
            collect(Toward(), corners(1)[0], partial=0.5, workers=2)
        assert len(str(caught.value).splitlines()) == 1

    def test_the_callers_ray_goes_on(self, rays, tmp_path):
        played = side_by_side(dies_once, ((tmp_path, n) for n in range(10, 60)), 2)
        assert next(played) == 100
        played.close()
        assert rays.is_initialized()


def test_jobs_are_taken_as_they_are_needed():
    taken = []
    results = side_by_side(str, (taken.append(n) or n for n in range(10)), 0)
    assert [next(results), next(results)] == ["0", "1"]
    assert taken == [0, 1]


def test_the_arrays_are_those_that_were_promised():
    episodes = collect(Toward(), CORNER, episodes=2)
    assert isinstance(episodes, Episodes)
    kinds = {name: array.dtype.name for name, array in vars(episodes).items()}
    assert kinds == {"obs": "float32", "actions": "float32", "rewards": "float32",
                     "terminated": "bool", "truncated": "bool", "success": "bool",
                     "offsets": "int64", "seeds": "int64"}
    assert all(array.flags.c_contiguous for array in vars(episodes).values())
