"""Algorithms of Stable-Baselines3 as agents, held against their own ``learn``; and its tools on
policies of ours."""

from __future__ import annotations

import json
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from support import differences, read_state
from toy import CORNERS, Corner, corners, play

import crl
from crl import registry, seeding
from crl.agents.sb3 import adapt
from crl.agents.sb3_policy import PolicyModel, sb3_env
from crl.cli import main
from crl.evaluation import run_episode
from crl.stream import Task, TaskStream

NAMES = [name for name in registry.agents.names() if name.startswith("sb3:")]
OFF = {"learning_starts": 40, "batch_size": 16, "buffer_size": 150}
ON = {"n_steps": 20, "batch_size": 10, "n_epochs": 2}
SMALL: dict[str, dict[str, Any]] = {
    "sb3:TD3": {**OFF, "gradient_steps": -1, "train_freq": 5}, "sb3:SAC": {**OFF, "n_steps": 3},
    "sb3:DQN": {**OFF, "target_update_interval": 30}, "sb3:PPO": ON, "sb3:RecurrentPPO": ON,
    "sb3:A2C": {"n_steps": 10}, "sb3:TRPO": {"n_steps": 20, "batch_size": 20}}


class Choice(gymnasium.ActionWrapper[Any, Any, Any]):
    """A corner to be reached by choosing one of four directions."""

    def __init__(self, corner: int, render_mode: str | None = None) -> None:
        super().__init__(Corner(corner))
        self.action_space = gymnasium.spaces.Discrete(4)

    def action(self, action: Any) -> Any:
        return 0.2 * np.array(CORNERS[int(action)])


class Seeded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Resets with the seeds 0, 1, 2 …, whoever asks."""

    resets = -1

    def reset(self, **options: Any) -> Any:
        self.resets += 1
        return self.env.reset(seed=self.resets)


def settings(name: str) -> dict[str, Any]:
    lstm = {"lstm_hidden_size": 24} if name == "sb3:RecurrentPPO" else {}
    return {**SMALL.get(name, OFF), "policy_kwargs": {"net_arch": [16, 16], **lstm}}


def stream_for(name: str, tasks: int = 1, steps: int = 200) -> TaskStream:
    if name not in ("sb3:DQN", "sb3:QRDQN"):
        return corners(tasks, steps)
    return TaskStream([Task(f"choice-{i}", partial(Choice, i), steps, i) for i in range(tasks)],
                      name="choices")


def make(name: str, stream: TaskStream, seed: int = 3, **more: Any) -> Any:
    agent = crl.make_agent(name, stream, seed=seed, **{**settings(name), **more})
    agent.attach([])
    return agent


def weights(policy: Any) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = policy.state_dict()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_is_its_own_learn_step_by_step(name: str) -> None:
    """Two tasks of four episodes are two calls of learn: the same weights to the last bit."""
    stream = stream_for(name, tasks=2, steps=100)
    agent = make(name, stream, reset=[])
    for task in stream:
        play(agent, task, 4)
    kind = name.removeprefix("sb3:")
    algorithm = getattr(stable_baselines3, kind, None) or getattr(sb3_contrib, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = algorithm(next(iter(algorithm.policy_aliases)), stream[0].make(),
                          seed=seeding.integer(3, "agent", "sb3"), device="cpu", **settings(name))
        for task in stream:
            model.set_env(Seeded(task.make()))
            model.learn(task.steps)
    own, theirs = weights(agent._model.policy), weights(model.policy)
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    assert agent.gradient_steps == model._n_updates > 0
    obs = np.random.default_rng(0).uniform(-1, 1, (1, 3)).astype(np.float32)
    action, _ = model.policy.predict(obs, deterministic=True)
    policy = agent.policy(stream[0])
    ours, _ = policy.predict(obs, deterministic=True)
    np.testing.assert_array_equal(ours, action)


RESUMED = ["sb3:SAC", "sb3:TD3", "sb3:CrossQ", "sb3:DQN", "sb3:PPO", "sb3:RecurrentPPO"]


@pytest.mark.parametrize("name", RESUMED)
def test_a_stopped_run_goes_on_to_the_bit_whatever_others_draw(name: str, tmp_path: Path) -> None:
    def run(folder: str, stop_at: int | None = None) -> None:
        def watch(progress: Any) -> None:
            np.random.rand(3)  # noqa: NPY002  (others draw, too)
            torch.rand(3 if folder == "run" else 5)
            if progress.env_step == stop_at:
                raise KeyboardInterrupt

        stream = stream_for(name, tasks=2, steps=100)
        if (tmp_path / folder).exists():
            crl.resume(tmp_path / folder, stream, watch=watch)
        else:
            noise = {"action_noise": 0.1} if name == "sb3:TD3" else {}
            crl.train(make(name, stream, **noise), stream, seed=3, out=tmp_path / folder,
                      watch=watch, eval_every=50, eval_episodes=2, checkpoint_every=25,
                      eval_deterministic=False)

    run("whole")
    for stop_at in (50, 175):  # in the middle of a rollout, in either task
        with pytest.raises(KeyboardInterrupt):
            run("run", stop_at)
        torch.manual_seed(stop_at)
    run("run")
    assert differences(read_state(tmp_path / "run"), read_state(tmp_path / "whole")) == []


def test_global_generators_are_left_as_they_were() -> None:
    stream = stream_for("sb3:SAC")
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    agent = make("sb3:SAC", stream)
    play(agent, stream[0], 3)
    policy = agent.policy(stream[0])
    policy.seed(5)
    obs = np.zeros((1, 3), np.float32)
    first = policy.step(obs, (), np.array([True]), deterministic=False)[0]
    second = policy.step(obs, (), np.array([False]), deterministic=False)[0]
    assert (first != second).any()
    policy.seed(5)
    again = policy.step(obs, (), np.array([True]), deterministic=False)[0]
    np.testing.assert_array_equal(first, again)
    assert (before == np.random.get_state(legacy=False)["state"]["key"]).all()  # noqa: NPY002
    assert torch.equal(torch_before, torch.get_rng_state())


def test_the_replay_begins_anew_at_a_task_or_does_not() -> None:
    sizes = []
    for reset in (["replay"], []):
        stream = stream_for("sb3:SAC", tasks=2, steps=50)
        agent = make("sb3:SAC", stream, reset=reset)
        for task in stream:
            play(agent, task, 2)
        sizes.append(agent._model.replay_buffer.size())
    assert sizes == [50, 100]


def test_one_network_for_all_where_boundaries_are_hidden() -> None:
    stream = corners(3, 50, "hidden")
    agent = make("sb3:SAC", stream)
    agent.begin_task(stream[0])
    assert agent._model._total_timesteps == 150


def test_a_memory_begins_anew_with_an_episode() -> None:
    stream = stream_for("sb3:RecurrentPPO")
    agent = make("sb3:RecurrentPPO", stream)
    play(agent, stream[0], 2)
    policy = agent.policy(stream[0])
    assert policy.spec.state_shapes == ((1, 24), (1, 24))
    obs = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    fresh, state = policy.step(obs, policy.initial_state(3), np.ones(3, bool))
    going_on, _ = policy.step(obs, state, np.zeros(3, bool))
    again, _ = policy.step(obs, state, np.array([True, False, True]))
    assert (going_on != fresh).any(axis=1).all()
    np.testing.assert_allclose(again[[0, 2]], fresh[[0, 2]], atol=1e-6)
    np.testing.assert_allclose(again[1], going_on[1], atol=1e-6)


def test_the_command_line_takes_settings_of_the_constructor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        main(["train", "--stream", "Pendulum-v1", "--agent", "sb3:SAC", "--diagnose",
              *(word for value in (
                  "stream.steps_per_task=60", "stream.horizon=20", "train.eval_episodes=1",
                  "agent.learning_rate=1e-3", "agent.learning_starts=30", "agent.ent_coef=auto_0.1",
                  'agent.policy_kwargs={"net_arch": {"pi": [8], "qf": [9, 9]}}')
                for word in ("--set", value))])
    assert ending.value.code == 0
    run = crl.Run("runs/Pendulum-v1-sb3-SAC-finetuning-0")
    assert run.status == "finished"
    assert run.label == "sb3:SAC + fine-tuning"
    assert run.config["agent"]["learning_rate"] == 1e-3
    assert run.config["agent"]["policy_kwargs"] == {"net_arch": {"pi": [8], "qf": [9, 9]}}
    assert json.loads(json.dumps(run.config)) == run.config
    assert 0 < run.info["kept"]["networks"] < 4_000
    policy = run.policy("Pendulum-v1")
    assert policy.policy.actor.latent_pi[0].out_features == 8
    assert len(crl.evaluate(policy, run.stream[0], episodes=2)) == 2


@pytest.mark.parametrize(("name", "given", "says"), [
    ("sb3:SAK", {}, "unknown agent 'sb3:SAK'; did you mean 'sb3:SAC'"),
    ("sb3:SAC", {"learning_rat": 1}, "unknown setting of agent 'learning_rat'; did you mean"),
    ("sb3:SAC", {"learning_rate": "fast"}, "agent.learning_rate must be a finite number"),
    ("sb3:SAC", {"use_sde": True}, "unknown setting of agent 'use_sde'"),
    ("sb3:SAC", {"reset": ["optimizer"]}, "agent.reset must be one of replay"),
    ("sb3:DQN", {}, "The algorithm only supports"),
    ("sb3:PPO", {"n_steps": 1, "batch_size": 1}, "cannot be made with these settings"),
    ("sb3:SAC", {"policy_kwargs": {"net": [3]}}, "cannot be made with these settings"),
])
def test_what_a_user_may_get_wrong(name: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(crl.UserError, match=says) as error:
        crl.make_agent(name, corners(1), **given)
    assert "\n" not in str(error.value)


def test_methods_are_refused(tmp_path: Path) -> None:
    stream = corners(2)
    with pytest.raises(crl.UserError, match=r"'sb3:SAC' has no parts that method 'ewc' could"):
        crl.train(crl.make_agent("sb3:SAC", stream), stream, ["ewc"], out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


class Quick(stable_baselines3.PPO):
    """Somebody's own algorithm."""


QuickAgent = adapt(Quick)


def test_ones_own_algorithm_is_an_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry.agents, "_targets", dict(registry.agents._targets))
    registry.agents.add("sb3:Quick", f"{__name__}:QuickAgent")
    stream = corners(1, 50)
    agent = crl.make_agent("sb3:Quick", stream, n_steps=20, batch_size=10, n_epochs=1)
    run = crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1)
    assert run.agent().gradient_steps == 2


# ---- Stable-Baselines3's tools on policies of ours


@pytest.mark.parametrize("name", ["sac", "recurrent-sac", "sb3:RecurrentPPO"])
def test_evaluate_policy_takes_policies_of_any_agent(name: str) -> None:
    stream = corners(1, 100)
    agent: Any = crl.make_agent(name, stream)
    agent.attach([])
    agent.begin_task(stream[0])
    policy = agent.policy(stream[0])
    returns, lengths = evaluate_policy(policy, Seeded(sb3_env(stream[0])), n_eval_episodes=3,
                                       return_episode_rewards=True, warn=False)
    ours = [run_episode(policy, stream[0].make(), seed) for seed in range(3)]
    np.testing.assert_allclose(returns, [episode.reward_sum for episode in ours], rtol=1e-5)
    assert lengths == [episode.length for episode in ours]


def test_eval_callback_evaluates_a_policy_of_ours(tmp_path: Path) -> None:
    stream = corners(1, 100)
    agent: Any = crl.make_agent("sac", stream)
    agent.attach([])
    policy = agent.policy(stream[0])
    callback = EvalCallback(Seeded(sb3_env(stream[0])), eval_freq=1, n_eval_episodes=2,
                            log_path=str(tmp_path), verbose=0, warn=False)
    callback.init_callback(PolicyModel(policy, sb3_env(stream[0])))
    assert callback.on_step()
    ours = [run_episode(policy, stream[0].make(), seed) for seed in range(2)]
    assert callback.last_mean_reward == pytest.approx(np.mean([e.reward_sum for e in ours]))
    written = np.load(tmp_path / "evaluations.npz")
    assert written["successes"].tolist() == [[e.success_once for e in ours]]
    callback.best_model_save_path, callback.best_mean_reward = str(tmp_path), -np.inf
    with pytest.raises(crl.UserError, match="type 'crl export'"):
        callback.on_step()
