"""Rounds: who plays what with which weights, and that an explorer acts as its agent would."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from support import differences, read_state
from toy import HORIZON, corners

import crl
from crl import seeding
from crl.agent import Step, Taken
from crl.methods.composition import Methods
from crl.rounds import Collector, play
from crl.stream import Task, TaskStream, step_env
from crl.workers import Workers

SMALL: dict[str, dict[str, Any]] = {
    "sac": {"hidden": (16,), "batch_size": 8, "start_steps": 30, "update_after": 30,
            "normalize_observations": True},
    "recurrent-sac": {"hidden": (16,), "memory_size": 8, "batch_size": 4, "sequence_length": 10,
                      "start_steps": 30, "update_after": 30, "update_to_data": 0.2,
                      "shared_memory": False, "normalize_observations": True},
    "recurrent-ppo": {"hidden": (16,), "memory_size": 8, "batch_size": 4, "sequence_length": 10,
                      "rollout_steps": 50, "epochs": 2},
    "r2i": {"hidden": (16,), "batch_size": 2, "sequence_length": 12, "horizon": 3,
            "start_steps": 30, "train_ratio": 8.0, "imagined": 16},
    "mpc": {"hidden": (16,), "batch_size": 8, "start_steps": 30, "train_every": 25, "updates": 3,
            "planner_options": {"horizon": 3}},
}


class Ring(gymnasium.Env[Any, Any]):
    """Corner's reward on a ring, for agents that plan as well: an angle to be turned to 0."""

    observation_space = gymnasium.spaces.Box(-4, 4, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 1, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.task_spec = crl.TaskSpec(lambda obs, action, next_obs: -next_obs[..., 0].abs())

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-2, 2, 2), 0
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        speed = np.clip(self.state[1] + 0.3 * float(action[0]), -1, 1)
        self.state = np.clip([self.state[0] + 0.2 * speed, speed], -4, 4)
        self.steps += 1
        distance = abs(float(self.state[0]))
        return (self.state.astype(np.float32), -distance, False, self.steps >= HORIZON,
                {"success": distance < 0.3})


def rings(steps: int = 150, tasks: int = 2) -> TaskStream:
    return TaskStream([Task(f"ring-{i}", Ring, steps, i) for i in range(tasks)], name="rings")


def make(name: str, stream: TaskStream, seed: int = 0, **settings: Any) -> Any:
    return crl.make_agent(name, stream, seed=seed, **{**SMALL[name], **settings})


# ---- explorers ----


@pytest.mark.parametrize("name", SMALL)
def test_an_explorer_acts_as_its_agent_would_had_it_not_learned(name, tmp_path):
    """Both draw from generators in one state, and are told the same."""
    stream = rings()
    agent = make(name, stream)
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, eval_every=1000)
    agent.begin_task(stream[1])
    for rest in (0, 30):  # actions at random, and the policy's
        agent._task_steps = rest
        explorer, env = agent.explorer(), stream[0].make()
        for episode in range(2):
            obs, first, over = env.reset(seed=episode)[0], np.array([True]), False
            while not over:
                action = agent.act(obs[None], first)
                assert (action == explorer.act(obs[None], first)).all()
                for mine, theirs in zip(agent._acting.taken, explorer.taken, strict=True):
                    assert (mine == theirs).all()
                obs, _, _, over, _ = step_env(env, action[0])
                first = np.array([False])


@pytest.mark.parametrize("name", SMALL)
def test_an_explorer_shares_nothing_with_its_agent(name, tmp_path):
    stream = rings()
    agent = make(name, stream)
    agent.attach([])
    agent.begin_task(stream[0])
    agent._task_steps = 40
    explorer, env = agent.explorer(), stream[0].make()
    before = play(explorer, env, "ring", 3)
    for part in agent.parts.values():
        for parameter in part.module.parameters():
            parameter.data.add_(0.5)
    agent._rng.random(), agent._generator.manual_seed(9)
    if name == "sac":
        agent._scaling.see(np.ones(2, np.float32), 0)
    after = play(explorer, env, "ring", 3)
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert not (before.action == play(explorer, env, "ring", 4).action).all()


def test_a_fragment_gives_the_steps_that_were_made():
    """Those of an agent's own loop, written out here."""
    stream = rings()
    agent = make("recurrent-sac", stream)
    agent.attach([])
    agent.begin_task(stream[0])
    agent._task_steps = 40
    env, explorer, seen = stream[0].make(), agent.explorer(), []
    explorer.seed(5)
    obs, first, over = env.reset(seed=5)[0], np.array([True]), False
    while not over:
        action = explorer.act(obs[None], first)
        following, reward, terminated, over, info = env.step(action[0])
        seen.append(Step(obs[None], action, np.array([reward], np.float32), following[None],
                         np.array([terminated]), np.array([over]), first, [info],
                         Taken(*(part.copy() for part in explorer.taken))))
        obs, first = following, np.array([False])
    played = list(play(agent.explorer(), env, "ring", 5).steps())
    assert len(played) == len(seen) == HORIZON
    for a, b in zip(seen, played, strict=True):
        assert a.info == b.info
        for mine, theirs in zip((*a[:7], *a.taken), (*b[:7], *b.taken), strict=True):
            assert mine.shape == theirs.shape
            assert mine.dtype == theirs.dtype
            assert (mine == theirs).all()


def test_an_end_for_good_is_told_from_one_that_is_cut_off():
    class Falls(Ring):
        def step(self, action):
            obs, reward, _, _, info = super().step(action)
            return obs, reward, self.steps >= 4, False, info

    stream = rings()
    agent = make("sac", stream)
    *others, last = play(agent.explorer(), Falls(), "falls", 0).steps()
    assert len(others) == 3
    assert not any(step.terminated[0] or step.truncated[0] for step in others)
    assert last.terminated[0]
    assert not last.truncated[0]


# ---- rounds ----


class Counted:
    """An agent whose actions say how often it had learned; notes what it is told."""

    name, on_policy, parts, replay = "counted", False, {}, ()

    def __init__(self) -> None:
        self.config = SimpleNamespace()
        self.methods, self.gradient_steps, self.calls = Methods(), 0, []

    def attach(self, methods): ...
    def check_explorers(self): ...
    def end_task(self, task): ...

    def begin_task(self, task):
        self.calls.append(task.name)

    def observe(self, step):
        version = round(float(step.action[0, 0]) * 100)
        self.calls.append((version, bool(step.first[0]), bool(step.truncated[0])))

    def update(self):
        self.gradient_steps += 1
        self.calls.append("update")
        return {}

    def explorer(self):
        return Says(self.gradient_steps)

    def state_dict(self):
        return {}


class Says:
    def __init__(self, number: int) -> None:
        self.number = number

    def seed(self, seed):
        self.draws = np.random.default_rng(seed)

    def act(self, obs, first):
        return np.full((1, 1), self.number / 100, np.float32)

    @property
    def taken(self):
        return Taken(np.zeros(1, np.float32), np.zeros(0, np.float32))


class Loop:
    """What the trainer is, as far as rounds are concerned."""

    def __init__(self, agent, size, ahead):
        self.agent, self.seeds = agent, []
        self.collector = Collector(Workers(0), size, ahead, partial(seeding.integer, 0, "train"), 9)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_weights_of_a_round_are_as_old_as_rounds_are_ahead(ahead):
    """With K rounds ahead, round n is played by the weights after max(0, n − K) updates."""
    agent, stream = Counted(), rings()
    loop = Loop(agent, 2, ahead)
    loop.collector.begin(7)
    for number in range(6):
        played = loop.collector.next_round(agent, stream[0], stream[0].make())
        versions = {round(float(a) * 100) for f in played for a in f.action[:, 0]}
        assert versions == {max(0, number - ahead)}
        agent.update()


def test_a_round_is_learned_from_once_it_is_over_and_the_budget_is_kept(tmp_path):
    """2 episodes of 25 steps a round, a budget of 130: 2 + 2 + 1 and one cut at 5."""
    agent, stream = make("sac", rings(130)), rings(130)
    calls: list[Any] = []
    observe, update = agent.observe, agent.update

    def noted(step):
        calls.append((bool(step.first[0]), bool(step.truncated[0])))
        observe(step)

    agent.observe = noted
    agent.update = lambda: calls.append("update") or update()
    run = crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, round_episodes=2)
    episode = [(True, False), *[(False, False)] * 23, (False, True)]
    cut = [(True, False), *[(False, False)] * 3, (False, True)]
    task = [*episode, *episode, "update", *episode, *episode, "update", *episode, *cut, "update"]
    assert calls == [*task, *task]
    rows = run.train()
    assert rows["length"].tolist() == [25] * 5 + [5] + [25] * 5 + [5]
    assert rows["seed"].tolist() == [seeding.integer(0, "train", e) for e in range(12)]
    assert rows["env_step"].tolist()[-1] == 260


def test_what_was_played_ahead_of_a_tasks_end_is_played_again_for_the_next(tmp_path):
    """Seeds go on where those that were learned from end, and so do tasks."""
    stream = corners(2, 60)
    agent = crl.make_agent("sac", stream, **SMALL["sac"])
    run = crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, round_episodes=1,
                    rounds_ahead=2)
    rows = run.train()
    assert rows["train_task"].tolist() == [0, 0, 0, 1, 1, 1]
    assert rows["seed"].tolist() == [seeding.integer(0, "train", e) for e in range(6)]
    env = stream[1].make()
    obs, _ = env.reset(seed=int(rows["seed"][3]))
    kept = agent.replay._columns["obs"]
    assert any((row == obs).all() for row in kept[:25])  # a new task, a new replay


class StopError(Exception):
    pass


@pytest.mark.parametrize("name", SMALL)
def test_a_run_that_was_stopped_with_rounds_ahead_ends_as_if_it_had_not_been(name, tmp_path):
    stream = rings(150)
    settings = {"eval_episodes": 1, "eval_every": 1000, "checkpoint_every": 50,
                "round_episodes": 2, "rounds_ahead": 0 if name == "recurrent-ppo" else 1}

    def train(out, watch=None):
        return crl.train(make(name, stream), stream, ["ewc"] if name != "mpc" else [], 3, out,
                         watch=watch, **settings)

    def stop(progress):
        if progress.env_step >= 250:
            raise StopError

    whole = train(tmp_path / "whole")
    with pytest.raises(StopError):
        train(tmp_path / "stopped", stop)
    again = crl.resume(tmp_path / "stopped", stream)
    assert differences(read_state(whole.folder), read_state(again.folder)) == []


def test_rounds_are_learned_from_as_well_as_steps(tmp_path):
    """A corner is found either way; and not without learning."""
    found = {}
    for name, settings in {"steps": {}, "rounds": {"round_episodes": 2, "rounds_ahead": 1},
                           "none": {"round_episodes": 2}}.items():
        stream = corners(1, 1500)
        agent = crl.make_agent("sac", stream, seed=1, hidden=(32,), batch_size=32, start_steps=200,
                               update_after=10_000 if name == "none" else 100,
                               update_to_data=0.5, learning_rate=3e-3, gamma=0.9)
        run = crl.train(agent, stream, out=tmp_path / name, eval_episodes=10, eval_every=10_000,
                        **settings)
        found[name] = run.evals()["success_once"][-10:].mean()
    assert found["steps"] >= 0.9
    assert found["rounds"] >= 0.9
    assert found["none"] <= 0.5


def test_proximal_policies_in_rounds_have_rollouts_of_whole_rounds(tmp_path):
    """50 steps of a rollout are two episodes: the steps learned from are the policy's own."""
    stream = rings(200, tasks=1)
    agent = make("recurrent-ppo", stream)
    sizes, value = [], agent._value_rollout

    def valued():
        pieces = value()
        sizes.append(int(agent.replay.take(pieces).usable.sum()) if len(pieces) else 0)
        return pieces

    agent._value_rollout = valued
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, round_episodes=4)
    assert [size for size in sizes if size] == [100, 100]


# ---- what cannot be ----


def test_what_cannot_play_rounds_is_told_so(tmp_path):
    stream = corners(2, 60)

    def message(agent, stream=stream, **settings):
        with pytest.raises(crl.UserError) as caught:
            crl.train(agent, stream, out=tmp_path / "run", **settings)
        assert not (tmp_path / "run").exists()
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    best = crl.make_agent("sac", stream, explore="best_return")
    assert "set agent.explore=previous" in message(best, round_episodes=2)
    assert "no explorers" in message(crl.make_agent("sb3:SAC", stream), round_episodes=2)
    ppo = make("recurrent-ppo", stream)
    assert "newest policy alone" in message(ppo, round_episodes=2, rounds_ahead=1)
    ugv = crl.make_stream("ugv-gains", steps_per_task=100)
    assert "'afm' corrects" in message(crl.make_agent("afm", ugv), ugv, round_episodes=2)
    sac = make("sac", stream)
    assert "set train.round_episodes too" in message(sac, rounds_ahead=1)
    assert "must not be negative" in message(sac, round_episodes=-1)


def test_numbers_that_are_not_finite_stop_a_round(tmp_path):
    class Breaks(Ring):
        def step(self, action):
            obs, reward, *rest = super().step(action)
            return obs, float("nan") if self.steps == 3 else reward, *rest

    stream = TaskStream([Task("breaks", lambda render_mode=None: Breaks(), 100, 0)])
    seed = seeding.integer(0, "train", 0)
    where = f"not finite at step 2 of the episode with seed {seed}$"
    with pytest.raises(crl.UserError, match=where):
        crl.train(make("sac", stream), stream, out=tmp_path / "run", round_episodes=2,
                  eval_episodes=1)


def test_seeds_of_episodes_do_not_repeat():
    seeds = [seeding.integer(0, "train", e) for e in range(50)]
    assert all(a != b for a, b in pairwise(sorted(seeds)))
