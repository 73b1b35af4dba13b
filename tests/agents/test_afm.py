"""The agent: what its settings promise, before and after its model is deployed."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import corners

import crl
from crl.agent import Step
from crl.agents.afm import AFM
from crl.agents.refined import RefinedPolicy
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.ugv import UGVEnv
from crl.envs.unicycle import UnicycleEnv
from crl.stream import Env, Task, TaskStream

SMALL = {"hidden": (32,), "ensemble": 2, "start_steps": 150, "train_every": 50, "updates": 100,
         "learn_steps": 400, "flow_updates": 60, "learning_rate": 3e-3,
         "planner_options": {"horizon": 4, "population": 48, "temperature": 0.01}}


def square(changes: tuple[Change, ...] = (), render_mode: Any = None) -> Env:
    env = UnicycleEnv("square", horizon=120)
    return DynamicsSchedule(env, changes) if changes else env


TURNED = (Change("gain", -1, on=0), Change("gain", 2, on=1))


def stream_of(*changes: tuple[Change, ...], steps: int = 400) -> TaskStream:
    return TaskStream([Task(f"square-{i}", partial(square, change), steps, 0)
                       for i, change in enumerate(changes)], name="squares")


HOME = stream_of(())


def made(seed: int = 0, stream: TaskStream = HOME, **settings: Any) -> AFM:
    agent = crl.make_agent("afm", stream, seed=seed, **{**SMALL, **settings})
    assert isinstance(agent, AFM)
    agent.attach([])
    return agent


def drive(agent: AFM, env: Env, seed: int = 0, steps: int = 120) -> tuple[np.ndarray, dict]:
    """What was sent [steps, act] in an episode, and the last info."""
    obs, _ = env.reset(seed=seed)
    first, sent, over = np.array([True]), [], False
    while not over:
        action = agent.act(obs[None], first)
        following, reward, terminated, truncated, info = env.step(action[0])
        over = bool(truncated or info["success"] or len(sent) + 1 == steps)
        agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                           np.array([terminated]), np.array([over]), first, [info]))
        agent.update()
        sent.append(action[0])
        obs, first = following, np.array([False])
    return np.array(sent), info


@pytest.fixture(scope="module")
def before() -> dict:
    """The state of an agent that will be deployed after one more step."""
    agent, left, lesson = made(), SMALL["learn_steps"] - 1, 0
    agent.begin_task(HOME[0])
    while left:
        left -= len(drive(agent, square(), lesson, min(left, 120))[0])
        lesson += 1
    return agent.state_dict()


def deployed(before: dict, **settings: Any) -> AFM:
    agent = made(**settings)
    agent.load_state_dict(before)
    agent.begin_task(HOME[0])
    drive(agent, square(), 99, steps=1)
    return agent


def weights(agent: AFM) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in agent.parts["model"].module.parameters()])


def test_robots_that_turned_round_are_driven_home(before):
    """With what the last steps say they get there; without, and with a model that learns on, not:
    the share of the waypoints, by a small model of few steps."""
    arrived = {}
    for name, settings in {
        "corrected": {"correct": "least-squares"}, "oracle": {"correct": "oracle"},
        "frozen": {"correct": "none", "adapt": "frozen"}, "online": {"correct": "none"},
    }.items():
        agent = deployed(before, **settings)
        state, done = agent.state_dict(), []
        for seed in (0, 3):
            agent.load_state_dict(state)
            agent.begin_task(HOME[0])
            env = DynamicsSchedule(UnicycleEnv("square", horizon=200), TURNED)
            done.append(drive(agent, env, seed, steps=200)[1]["progress"])
        arrived[name] = np.mean(done)
    assert min(arrived["oracle"], arrived["corrected"]) > 0.75
    assert max(arrived["frozen"], arrived["online"]) < 0.5


def test_what_the_model_that_plans_learns_is_from_wanted_action_to_outcome(before):
    """Where the true gains are known nothing is left to learn, and its errors stay small."""
    errors = {}
    for correct in ("oracle", "none"):
        agent, seen = deployed(before, correct=correct), []
        env = square((Change("gain", -0.9, on=0), Change("gain", 0.9, on=1)))
        obs, _ = env.reset(seed=2)
        for step in range(40):
            first = np.array([step == 0])
            action = agent.act(obs[None], first)
            expected = agent.expected(obs[None])[0]
            following, reward, *_, info = env.step(action[0])
            agent.observe(Step(obs[None], action, np.array([reward], np.float32), following[None],
                               np.array([False]), np.array([False]), first, [info]))
            agent.update()
            seen.append(np.linalg.norm((following - expected)[:2]))
            obs = following
        errors[correct] = np.mean(seen[10:])
    assert errors["oracle"] < 0.5 * errors["none"]


@pytest.mark.parametrize("adapt", ["frozen", "online", "replay", "snapshot"])
def test_what_becomes_of_the_model_is_as_it_is_said(before, adapt):
    agent = deployed(before, adapt=adapt, correct="none")
    at_first, steps = weights(agent), agent.gradient_steps
    drive(agent, square(TURNED), 3, steps=30)
    assert torch.equal(at_first, weights(agent)) == (adapt == "frozen")
    assert agent.gradient_steps - steps == (0 if adapt == "frozen" else 30)


def test_a_snapshot_is_gone_back_to_where_it_fits_better(before):
    """On a clean robot a model that is spoilt is put back; one that only learns on stays spoilt."""
    errors = {}
    for adapt in ("snapshot", "online"):
        agent = deployed(before, adapt=adapt, correct="none")
        good = weights(agent)
        with torch.no_grad():
            for parameter in agent.parts["model"].module.parameters():
                parameter.mul_(-1)
        agent.begin_task(HOME[0])
        drive(agent, square(), 3, steps=12)
        errors[adapt] = (weights(agent) - good).norm() / good.norm()
    assert errors["snapshot"] < 0.2
    assert errors["online"] > 1


def test_a_limit_of_0_is_no_correction_to_the_last_bit(before):
    runs = [drive(deployed(before, **settings), square(TURNED), 4, steps=60)[0]
            for settings in ({"correct": "least-squares", "limit": 0.0}, {"correct": "none"},
                             {"correct": "least-squares"})]
    assert (runs[0] == runs[1]).all()
    assert (runs[0] != runs[2]).any()


def test_sent_actions_are_within_bounds_and_no_farther_than_the_limit(before):
    agent = deployed(before, limit=0.4)
    env = square(TURNED)
    high, (obs, _), first, longest = env.action_space.high, env.reset(seed=1), True, 0.0
    for _ in range(60):
        sent = agent.act(obs[None], np.array([first]))
        assert (np.abs(sent) <= high).all()
        longest = max(longest, np.linalg.norm(sent[0] / high - agent._acting.taken.action))
        following, reward, *_, info = env.step(sent[0])
        agent.observe(Step(obs[None], sent, np.array([reward], np.float32), following[None],
                           np.array([False]), np.array([False]), np.array([first]), [info]))
        obs, first = following, False
    assert 0.39 < longest < 0.4 + 1e-5


def test_its_policy_corrects_and_is_frozen(before):
    agent = deployed(before, correct="least-squares")
    policy = agent.policy(HOME[0])
    assert isinstance(policy, RefinedPolicy)
    turned = Task("turned", partial(square, TURNED), 1, 0)
    rows = crl.evaluate(policy, turned, episodes=1)
    drive(agent, square(TURNED), 8, steps=20)
    assert crl.evaluate(policy, turned, episodes=1) == rows
    plain = deployed(before, correct="none").policy(HOME[0])
    assert not isinstance(plain, RefinedPolicy)
    assert crl.evaluate(plain, turned, episodes=1)[0].reward_sum < rows[0].reward_sum - 5


@pytest.mark.parametrize("settings", [
    {}, {"adapt": "replay"}, {"adapt": "snapshot", "correct": "regressor"}, {"correct": "oracle"}])
def test_what_is_saved_goes_on_as_if_never_stopped(before, settings):
    one = deployed(before, **settings)
    drive(one, square(TURNED), 3, steps=20)
    again = made(seed=7, **settings)
    again.load_state_dict(one.state_dict())
    for agent in (one, again):
        agent.begin_task(HOME[0])
    sent = [drive(agent, square(TURNED), 6, steps=25)[0] for agent in (one, again)]
    assert (sent[0] == sent[1]).all()
    assert torch.equal(weights(one), weights(again))


def test_a_state_from_before_deployment_takes_back_what_came_after(before):
    agent = deployed(before)
    agent.load_state_dict(before)
    assert agent.state_dict()["deployed"] is None
    assert not isinstance(agent.policy(HOME[0]), RefinedPolicy)


@pytest.mark.parametrize("stop_at", [200, 320])
def test_a_run_is_resumed_to_the_bit(stop_at, tmp_path):
    """Stopped before the model is deployed, and after."""
    stream = crl.make_stream("unicycle-square,unicycle-v-1-w2", steps_per_task=200, horizon=40)
    settings = {"eval_every": 200, "eval_episodes": 1, "checkpoint_every": 40}
    small = {**SMALL, "start_steps": 60, "learn_steps": 260, "updates": 20, "flow_updates": 5}

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.env_step == stop_at:
            raise StopError

    finished = crl.train(made(1, stream, **small), stream, seed=1, out=tmp_path / "whole",
                         **settings)
    with pytest.raises(StopError):
        crl.train(made(1, stream, **small), stream, seed=1, out=tmp_path / "halved", watch=stop,
                  **settings)
    again = crl.resume(tmp_path / "halved")
    states = [run.agent().state_dict() for run in (finished, again)]
    assert states[0]["deployed"] is not None
    assert repr(states[0]) == repr(states[1])
    assert torch.equal(weights(finished.agent()), weights(again.agent()))
    assert rows(tmp_path / "whole") == rows(tmp_path / "halved")


def rows(folder: Path) -> list[list[str]]:
    with open(folder / "evals.csv", newline="") as file:
        return [row[4:] for row in csv.reader(file)]


@pytest.mark.parametrize(("settings", "hint"), [
    ({"adapt": "sometimes"}, "adapt must be"), ({"correct": "guess"}, "correct must be"),
    ({"window": 0}, "window must be above 0"), ({"limit": -1.0}, "limit must not be negative"),
    ({"learn_steps": 180}, "learn_steps must be from start_steps"),
    ({"learn_steps": 500, "replay_size": 450}, "to replay_size, 450, got 500"),
    ({"multi_head": True}, "the model of all tasks is one"),
    ({"flow_updates": -1}, "flow_updates must not be negative"),
])
def test_settings_that_cannot_be(settings, hint):
    with pytest.raises(crl.UserError, match=hint) as error:
        made(**settings)
    assert "\n" not in str(error.value)


def test_a_robot_without_a_reward_function_is_refused():
    with pytest.raises(crl.UserError, match="does not say its reward as a function"):
        made(stream=corners(1))


def test_an_oracle_of_other_changes_is_refused():
    env = DynamicsSchedule(UGVEnv("square"), [Change("slip", 0.5, on="left")])
    agent = made(stream=TaskStream([Task("ugv", lambda render_mode=None: UGVEnv("square"), 9, 0)],
                                   name="ugv"), correct="oracle")
    agent.begin_task(agent._stream[0])
    with pytest.raises(crl.UserError, match="an oracle inverts gains, and slip"):
        drive(agent, env, steps=3)
