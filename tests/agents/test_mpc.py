"""Planning agents: they learn, remember what they say they remember, and refuse what they must."""

from __future__ import annotations

from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from array_api_compat import array_namespace
from toy import ANYWHERE, corners, play

import crl
from crl.agents.surprise import Surprise
from crl.registry import methods
from crl.task_spec import TaskSpec

SMALL = {"hidden": (16,), "start_steps": 25, "train_every": 25, "updates": 10, "batch_size": 16,
         "planner_options": {"horizon": 4, "population": 10, "elites": 4, "iterations": 2}}
PLAN = {"horizon": 8, "population": 30, "iterations": 2}
FEW = {name: {"samples_per_task": 40, "batch_size": 16}
       for name in ("a-gem", "gem", "clonex")} | {
    name: {"samples_per_task": 40} for name in ("ser", "replay-scheduling",
                                                "power-law-rehearsal")} | {
    name: {"batches": 2, "batch_size": 16} for name in ("ewc", "mas")}


class Turn(gymnasium.Env):
    """A wheel is turned to an angle; `gain` is what differs between tasks. 12 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 4, (1,), np.float32)

    def __init__(self, gain, render_mode=None):
        self.gain, self.task_spec = gain, TaskSpec(towards_one, angles=(0,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.obs = np.array([self.np_random.uniform(-1, 1), 7.0], np.float32)
        return self.obs, {}

    def step(self, action):
        before, self.steps = self.obs, self.steps + 1
        turned = before[0] + 0.2 * self.gain * (float(action[0]) - 1)
        self.obs = np.array([turned, 7.0], np.float32)
        reward = float(towards_one(before, action, self.obs))
        return self.obs, reward, False, self.steps >= 12, {"success": reward > -0.1}


def towards_one(obs, action, next_obs):
    """Highest at 1 rad, and never for the action alone."""
    xp = array_namespace(obs)
    return xp.cos(next_obs[..., 0] - 1) - 1 - 0.001 * action[..., 0] ** 2


def wheels(gains=(1.0, -1.0), steps=120, boundaries="known") -> crl.TaskStream:
    return crl.TaskStream([crl.Task(f"wheel-{i}", partial(Turn, gain), steps, i)
                           for i, gain in enumerate(gains)], name="wheels", boundaries=boundaries)


def made(name="mpc", stream=None, methods=(), seed=0, **settings):
    stream = stream or wheels()
    agent = crl.make_agent(name, stream, seed=seed, **{**SMALL, **settings})
    agent.attach([crl.make_method(n, seed=3, **FEW.get(n, {})) for n in methods])
    return agent, stream


def returns(agent, task, episodes=5) -> float:
    rows = crl.evaluate(agent.policy(task), task, episodes=episodes)
    return float(np.mean([row.reward_sum for row in rows]))


def flat(agent) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in agent.parts["model"].module.parameters()])


@pytest.mark.parametrize(("name", "settings"), [
    ("mpc", {}), ("mpc", {"model": "gaussian"}), ("mpc", {"ensemble": 3}),
    ("mpc", {"layer_norm": True, "planner": "mppi"}), ("mpc", {"planner": "cem"}),
    ("hypercrl", {}),
])
def test_it_learns_to_turn_the_wheel(name, settings):
    planner = settings.get("planner", "icem")
    agent, stream = made(name, updates=60, **{
        "planner_options": PLAN if planner == "icem" else {"horizon": 8}, **settings})
    before = returns(agent, stream[0])
    play(agent, stream[0], 8)
    assert before < -3
    assert returns(agent, stream[0]) > -1.5


def test_a_hypernetwork_keeps_what_one_model_for_all_tasks_forgets():
    after = {}
    for name, settings in (("mpc", {"multi_head": False}), ("hypercrl", {})):
        agent, stream = made(name, updates=60, planner_options=PLAN, **settings)
        for task in stream:
            play(agent, task, 8)
        after[name] = returns(agent, stream[0])
    assert after["hypercrl"] > -1.5
    assert after["mpc"] < -5


def test_scaling_and_embeddings_of_old_tasks_stay_as_they_are():
    agent, stream = made("hypercrl", ensemble=2)
    play(agent, stream[0], 5)

    def of_the_first():
        state = agent.state_dict()
        return [state[s][k][0] for s in ("inputs", "changes") for k in ("shift", "factor")] + [
            p.detach().numpy().copy() for n, p in agent.parts["model"].parameters().items()
            if ".heads.items.0." in n]

    before, weights = of_the_first(), flat(agent)
    assert len(before) == 6
    play(agent, stream[1], 5)
    assert all((a == b).all() for a, b in zip(before, of_the_first(), strict=True))
    assert not torch.equal(weights, flat(agent))


def test_a_task_more_costs_an_embedding_and_its_scaling():
    """And no transition of an old one is left."""
    sizes, stream = [], wheels((1.0, -1.0, 2.0))
    agent, _ = made("hypercrl", stream=stream)
    for task in stream:
        play(agent, task, 4)
        replay = agent.replay.take(np.arange(len(agent.replay)))
        assert set(replay.heads.tolist()) == {task.head}
        method = agent.methods.state_dict()["output-regularizer"]
        sizes.append(sum(a.size for p in method["before"].values() for a in p.values()))
    assert sizes[0] == 0
    assert sizes[1] == sizes[2]
    one, two = (sum(p.numel() for p in made("hypercrl", stream=wheels(g))[0].parts["model"]
                    .module.parameters()) for g in ((1.0,), (1.0, 2.0)))
    assert two - one == 10
    inputs, changes = agent.state_dict()["inputs"], agent.state_dict()["changes"]
    assert inputs["shift"].shape == (3, 4)  # the other number, cosine, sine, action
    assert changes["shift"].shape == (3, 2)


def test_tasks_that_nobody_tells_are_found_by_the_models_errors():
    stream = wheels((1.0, 1.0, -1.0))
    agent, _ = made("hypercrl", stream=stream, updates=60, planner_options=PLAN, detect=10.0)
    heads = []
    for task in stream:
        play(agent, task, 9)
        heads.append(agent.head)
    assert heads == [0, 0, 1]  # the second is the first again
    assert set(agent.replay.take(np.arange(len(agent.replay))).heads.tolist()) == {1}
    for task in stream:
        assert returns(agent, task) > -1.5
    again, _ = made("hypercrl", stream=stream, updates=60, planner_options=PLAN, detect=10.0,
                    seed=5)
    again.load_state_dict(agent.state_dict())
    more = [play(one, stream[0], 4, seed=9) for one in (agent, again)]
    assert more[0] == more[1]
    assert agent.head == again.head == 2  # a task that comes again is not known again


def test_surprise_is_of_episodes_far_above_the_last_three():
    surprise, ends = Surprise(10.0), []
    for level in (1.0, 0.1, 0.9, 2.0, 0.2, 30.0, 30.0, 29.0):
        for step in (0.5, 2.0):  # whose geometric mean is 1
            surprise.see(level * step)
        ends.append(surprise.ends())
    assert ends == [False] * 5 + [True, False, False]
    surprise.see(1.0)
    for _ in range(20):
        surprise.see(1.0)
    surprise.see(1e9)  # a blow
    assert not surprise.ends()
    young, ends = Surprise(10.0), []
    for level in (1.0, 50.0, 3000.0, 1e6):
        young.see(level)
        ends.append(young.ends())
    assert ends == [False, False, False, True]  # three episodes are the least of a task


def test_what_is_saved_goes_on_as_if_never_stopped():
    for name, names in (("hypercrl", ()), ("mpc", ("ewc",))):
        agent, stream = made(name, methods=names, ensemble=2)
        for task in stream:
            play(agent, task, 4)
        again, _ = made(name, methods=names, ensemble=2, seed=5)
        again.load_state_dict(agent.state_dict())
        for one in (agent, again):
            one.begin_task(stream[1])
        more = [play(one, stream[1], 3, seed=9) for one in (agent, again)]
        assert more[0] == more[1]
        assert torch.equal(flat(agent), flat(again))


def test_a_run_is_resumed_in_the_middle_of_a_task(tmp_path):
    stream = crl.make_stream("car-0.5,car-1.0", steps_per_task=200, horizon=50)
    settings = {"eval_every": 200, "eval_episodes": 1, "checkpoint_every": 50}
    whole, _ = made("hypercrl", stream=stream)
    run = crl.train(whole, stream, seed=1, out=tmp_path / "whole", **settings)

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.env_step == 300:
            raise StopError

    halved, _ = made("hypercrl", stream=stream)
    with pytest.raises(StopError):
        crl.train(halved, stream, seed=1, out=tmp_path / "halved", watch=stop, **settings)
    again = crl.resume(tmp_path / "halved")
    assert torch.equal(flat(run.agent()), flat(again.agent()))
    rows = [[line.split(",")[4:] for line in (tmp_path / n / "evals.csv").read_text().split()]
            for n in ("whole", "halved")]
    assert rows[0] == rows[1]


def test_a_policy_is_frozen_and_its_seed_decides():
    agent, stream = made()
    play(agent, stream[0], 4)
    policy, obs = agent.policy(stream[0]), np.array([[0.3, 7.0], [-0.5, 7.0]], np.float32)

    def act(seed):
        policy.seed(seed)
        state, actions = policy.initial_state(2), []
        for first in (True, False):
            action, state = policy.step(obs, state, np.array([first, first]))
            actions.append(action)
        return np.array(actions)

    before = act(1)
    assert before.shape == (2, 2, 1)
    assert (before >= -2).all()
    assert (before <= 4).all()
    assert (before == act(1)).all()
    assert (before != act(2)).any()
    play(agent, stream[0], 2)
    assert (before == act(1)).all()
    assert policy.spec.state_shapes == ((4, 1), (1, 4, 1))


@pytest.mark.parametrize("name", ANYWHERE)
def test_methods_work_on_its_model_or_say_what_they_lack(name):
    cls = methods.load(name)
    try:
        agent, stream = made(methods=(name,), model="gaussian",
                             reset=("optimizer",) if name == "replay" else ("replay", "optimizer"))
    except crl.UserError as error:
        assert "part 'critic'" in str(error) or "part 'actor'" in str(error), error  # noqa: PT017
        settings = {"parts": ("model",)} if hasattr(cls.Config(), "parts") else {"part": "model"}
        agent, stream = made(model="gaussian")
        agent.attach([crl.make_method(name, seed=3, **{**FEW.get(name, {}), **settings})])
    before = flat(agent)
    for task in stream:
        play(agent, task, 4)
    assert not torch.equal(before, flat(agent))
    assert crl.evaluate(agent.policy(stream[0]), stream[0], episodes=1)[0].length == 12


def test_it_acts_at_random_at_a_tasks_start_and_trains_when_it_says():
    agent, stream = made(start_steps=30, train_every=20, updates=3)
    env, steps = stream[0].make(), []
    agent.begin_task(stream[0])
    obs, _ = env.reset(seed=0)
    for step in range(75):
        action = agent.act(np.float32(obs)[None], np.array([step % 12 == 0]))
        following, reward, _, over, info = env.step(action[0])
        agent.observe(crl.agent.Step(
            np.float32(obs)[None], action, np.array([reward]), np.float32(following)[None],
            np.array([False]), np.array([over]), np.array([step % 12 == 0]), [info]))
        if "model" in agent.update():
            steps.append(step + 1)
        obs = env.reset(seed=step)[0] if over else following
    assert steps == [30, 50, 70]
    assert agent.gradient_steps == 9


@pytest.mark.parametrize(("stream", "settings", "hint"), [
    (corners(2), {}, "does not say its reward as a function"),
    (crl.make_stream("CartPole-v1", steps_per_task=100), {}, "plans continuous actions"),
    (crl.make_stream("car-0.5", frame_stack=2), {}, "leave stream options that change"),
    (crl.make_stream("car-0.5,cartpole-0.6"), {}, "same angles"),
    (wheels(), {"planner": "dreamer"}, "unknown planner"),
    (wheels(), {"planner_options": {"horizon": 0}}, "horizon must be above 0"),
    (wheels(), {"ensemble": 0}, "ensemble must be above 0"),
    (wheels(), {"detect": 0.5}, "detect must be 0 or above 1"),
    (wheels(), {"detect": 9.0, "multi_head": False}, "leave agent.multi_head at true"),
    (wheels(), {"gamma": 0.9}, "unknown setting"),
    (wheels(boundaries="hidden"), {"trunk": "hypernetwork"}, "must be told which task it is"),
])
def test_what_cannot_be_is_said_in_one_line(stream, settings, hint):
    with pytest.raises(crl.UserError, match=hint):
        crl.make_agent("mpc", stream, **settings)
