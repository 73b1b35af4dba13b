"""The loop: budgets, schedules, seeds, boundaries, and what it leaves behind."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from toy import HORIZON, Corner, corners

import crl
from crl import metrics
from crl.methods.base import Method
from crl.stream import Task, TaskStream

SMALL: dict[str, Any] = {"hidden": (16,), "batch_size": 8, "start_steps": 20, "update_after": 20,
                         "update_to_data": 1.0}


def train(tmp_path, stream=None, methods=(), seed=0, name="run", **settings) -> crl.Run:
    stream = stream or corners(2, 100)
    agent = crl.make_agent("sac", stream, seed=seed, **SMALL)
    settings = {"eval_episodes": 2, "eval_every": 50, **settings}
    return crl.train(agent, stream, methods, seed, tmp_path / name, **settings)


def test_every_task_gets_its_budget_to_the_step(tmp_path):
    """110 steps are four episodes of 25 and one cut at 10."""
    run = train(tmp_path, corners(2, 110))
    rows = run.train()
    assert rows["length"].tolist() == [25, 25, 25, 25, 10] * 2
    assert rows["train_task"].tolist() == [0] * 5 + [1] * 5
    assert rows["env_step"].tolist() == np.cumsum([25, 25, 25, 25, 10] * 2).tolist()
    assert run.boundaries == [110, 220]


def test_evaluations_come_first_on_schedule_and_at_each_tasks_end(tmp_path):
    rows = train(tmp_path).evals()
    when = sorted(set(zip(rows["env_step"].tolist(), rows["train_task"].tolist(), strict=True)))
    assert when == [(0, 0), (50, 0), (100, 0), (150, 1), (200, 1)]
    for step, task in when:
        at = (rows["env_step"] == step) & (rows["train_task"] == task)
        assert rows["eval_task"][at].tolist() == [0, 0, 1, 1]
        assert rows["episode"][at].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize(("which", "expected"), [
    ("all", [[0, 1]] * 5), ("seen", [[0], [0], [0], [0, 1], [0, 1]]),
    ("current", [[0, 1], [0], [0], [1], [0, 1]]),  # what all metrics need, and no more
])
def test_which_tasks_are_evaluated(tmp_path, which, expected):
    run = train(tmp_path, eval_tasks=which)
    rows = run.evals()
    assert [sorted(set(rows["eval_task"][rows["env_step"] == step].tolist()))
            for step in (0, 50, 100, 150, 200)] == expected
    scores = run.scores("return")
    if which == "current":
        r = metrics.r_matrix(scores)
        assert np.isfinite([*metrics.initial_scores(scores), *r.diagonal(), *r[-1],
                            metrics.forgetting(scores, last=1)]).all()


def test_a_row_can_be_replayed_from_its_seed(tmp_path):
    """The seed column sets an evaluation episode up again: same policy, same return."""
    run = train(tmp_path)
    rows = run.evals()
    stream = run.stream
    last = len(rows["seed"]) - 1
    policy, env = run.policy("corner-1"), stream[1].make()
    policy.seed(int(rows["seed"][last]))
    obs, _ = env.reset(seed=int(rows["seed"][last]))
    total, done = 0.0, False
    while not done:
        obs, reward, _, done, _ = env.step(policy.predict(obs)[0])
        total += reward
    assert total == pytest.approx(rows["return"][last], rel=1e-5)


def test_seeds_of_episodes_differ_and_follow_the_runs_seed(tmp_path):
    one, again, other = (train(tmp_path, seed=s, name=n) for s, n in ((1, "a"), (1, "b"), (2, "c")))
    for rows, same, different in ((r.train(), a.train(), o.train()) for r, a, o in
                                  [(one, again, other)]):
        assert len(set(rows["seed"].tolist())) == len(rows["seed"])
        assert rows["seed"].tolist() == same["seed"].tolist()
        assert not set(rows["seed"].tolist()) & set(different["seed"].tolist())
        assert rows["return"].tolist() == same["return"].tolist()
    evals = one.evals()
    assert len(set(evals["seed"].tolist())) == len(evals["seed"])


class Recorder(Method):
    """Notes the order of its hooks and what it saw."""

    name = "recorder"
    paper = "a test"

    def __init__(self) -> None:
        super().__init__(self.Config(), 0)
        self.calls: list[str] = []

    def begin_task(self, task):
        self.calls.append(f"begin {task.name}")

    def gradients(self):
        actor = self.learner.parts["actor"]
        assert all(p.grad is not None for p in actor.shared_parameters().values())
        self.calls.append("gradients")

    def updated(self, batch):
        assert len(batch.obs) == 8
        self.calls.append("updated")

    def end_task(self, task):
        assert len(self.learner.replay) == 100  # still full
        self.calls.append(f"end {task.name}")


def collapse(calls: list[str]) -> list[str]:
    """Without repetitions of the pair gradients, updated."""
    seen: list[str] = []
    for call in calls:
        if call in ("gradients", "updated") and call in seen[-2:]:
            continue
        seen.append(call)
    return seen


def test_hooks_come_in_order(tmp_path):
    recorder = Recorder()
    train(tmp_path, methods=[recorder])
    pair = ["gradients", "updated"]
    assert collapse(recorder.calls) == ["begin corner-0", *pair, "end corner-0",
                                        "begin corner-1", *pair, "end corner-1"]
    assert recorder.calls.count("gradients") == recorder.calls.count("updated") == 2 * 80


def test_hidden_boundaries_are_hidden_from_agent_and_methods(tmp_path):
    recorder = Recorder()
    run = train(tmp_path, corners(2, 100, boundaries="hidden"), [recorder])
    assert collapse(recorder.calls) == ["begin corner-0", "gradients", "updated"]
    assert run.train()["train_task"].tolist() == [0] * 4 + [1] * 4
    assert run.status == "finished"


class Broken(Corner):
    """Gives a NaN at the 30th step."""

    count = 0

    def step(self, action):
        self.count += 1
        obs, reward, *rest = super().step(action)
        return obs, (float("nan") if self.count == 30 else reward), *rest


def test_a_reward_that_is_not_finite_stops_the_run_with_its_whereabouts(tmp_path):
    stream = TaskStream([Task("broken", partial(Broken, 0), 100, 0)])
    with pytest.raises(crl.UserError, match=r"'broken' gave .* not finite .* seed \d+"):
        train(tmp_path, stream, eval_every=1000, eval_episodes=1, eval_tasks="current")
    assert crl.Run(tmp_path / "run").status == "failed"


def test_threads_are_put_back(tmp_path):
    before = torch.get_num_threads()
    train(tmp_path, threads=2 if before == 1 else 1)
    assert torch.get_num_threads() == before


def test_a_watcher_sees_the_run_go_by(tmp_path):
    seen = []
    stream = corners(2, 100)
    agent = crl.make_agent("sac", stream, **SMALL)
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1,
              watch=lambda p: seen.append((p.phase, p.task, p.env_step)))
    assert [s for s in seen if s[0] == "training"] == [
        ("training", i // 100, i + HORIZON) for i in range(0, 200, HORIZON)]
    assert seen[0][0] == "evaluating"
    assert seen[-1] == ("finished", 2, 200)


def test_policies_of_a_finished_run_can_be_had_again(tmp_path):
    run = train(tmp_path, methods=["packnet"])
    policy = run.policy("corner-0")
    again = crl.Run(tmp_path / "run", stream=corners(2, 100)).policy(0)
    obs = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert (policy.predict(obs)[0] == again.predict(obs)[0]).all()
    with pytest.raises(crl.UserError, match="made in code"):
        crl.Run(tmp_path / "run").policy(0)
    with pytest.raises(crl.UserError, match="protocol"):
        crl.Run(tmp_path / "run", stream=corners(2, 200)).policy(0)
