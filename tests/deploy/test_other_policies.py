"""Bundles of policies that are trained first: L2M's, and Stable-Baselines3's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from policies import RATE
from toy import Corner

import crl
from crl.agents.actions import BoundedActions
from crl.agents.l2m_model import DecisionTransformer
from crl.agents.l2m_policy import L2MPolicy, View
from crl.cli import main
from crl.deploy.bundle import export_policy, export_zip
from crl.deploy.runtime import load
from crl.memory.modulation import ModulationPool
from crl.memory.modulators import LoRA
from crl.stream import Task, TaskStream

PENDULUM = crl.make_stream("Pendulum-v1", horizon=60)
CARTPOLE = crl.make_stream("CartPole-v1", horizon=60)
NARROW = {"net_arch": [16, 16]}


class Rewarded(Corner):
    """A corner that shows its reward: the last number."""

    def _obs(self) -> np.ndarray:
        return np.array([*self.position, -np.linalg.norm(self.position - self.goal)], np.float32)


def l2m_policy(select: Any, returns: bool) -> tuple[TaskStream, L2MPolicy]:
    """A decision transformer with two slots that differ."""
    g = torch.Generator().manual_seed(0)
    model = DecisionTransformer(3, 2, width=16, layers=1, heads=2, window=4, bins=32,
                                returns=returns, generator=g)
    pool = ModulationPool(model, {"transformer.blocks.*.mlp.wide": LoRA()}, g)
    for _ in range(2):
        slot = pool.grow()
        for parameter in pool.slot_parameters(slot).values():
            parameter.data.normal_(generator=g)
    stream = TaskStream([Task("corner", lambda render_mode=None: Rewarded(0), 100, 0)])
    bounds = np.full(3, 2, np.float32), np.full(2, 0.2, np.float32)
    spec = crl.PolicySpec("corner", -bounds[0], bounds[0], -bounds[1], bounds[1])
    view = View(torch.zeros(3), torch.full((3,), 0.7), returns, 2.0,
                np.array([10, 20, 30], np.float32))
    return stream, L2MPolicy(spec, BoundedActions(-bounds[1], bounds[1]), pool.merged, select,
                             latch=True, view=view, window=4, bins=model.bins)


@pytest.mark.parametrize("returns", [False, True])
def test_l2m_with_its_slot_merged(returns, tmp_path):
    stream, policy = l2m_policy(lambda states: torch.ones(len(states), dtype=torch.int64), returns)
    _, other = l2m_policy(lambda states: torch.full((len(states),), 2), returns)
    deployed = load(export_policy(policy, stream[0], stream, tmp_path / "bundle", {}, RATE))
    names = [one["input"] for one in deployed.manifest["state"]]
    assert names == ["seen", "window", *(["returns_to_go", "rewards"] if returns else [])]
    rng, state = np.random.default_rng(1), policy.initial_state(1)
    others = other.initial_state(1)
    unlike = 0
    for t in range(120):
        first, obs = np.array([t % 17 == 0]), rng.normal(0, 1, (1, 3)).astype(np.float32)
        action, state = policy.step(obs, state, first)
        if first[0]:
            deployed.reset()
        assert np.abs(deployed.step(obs[0]) - action[0]).max() <= 1e-5 * 0.2
        theirs, others = other.step(obs, others, first)
        unlike += not np.allclose(theirs, action)
    assert unlike > 20  # control: slots matter


def test_a_policy_that_goes_from_slot_to_slot_is_refused(tmp_path):
    stream, policy = l2m_policy(lambda states: (states[:, 0] > 0).long() + 1, False)
    with pytest.raises(crl.UserError, match="from slot to slot") as error:
        export_policy(policy, stream[0], stream, tmp_path / "bundle", {}, RATE)
    assert "agent.select=oracle" in str(error.value)


# ---- Stable-Baselines3 ----


def save(tmp_path: Path, module: Any, name: str, task: str, policy: str = "MlpPolicy") -> Path:
    model = getattr(module, name)(policy, task, policy_kwargs=dict(NARROW), seed=0, device="cpu")
    path = tmp_path / f"{name}.zip"
    model.save(path)
    return path


@pytest.mark.parametrize(("module", "name", "stream", "policy"), [
    (stable_baselines3, "SAC", PENDULUM, "MlpPolicy"),
    (stable_baselines3, "PPO", PENDULUM, "MlpPolicy"),
    (stable_baselines3, "DQN", CARTPOLE, "MlpPolicy"),
    (sb3_contrib, "QRDQN", CARTPOLE, "MlpPolicy"),
    (sb3_contrib, "RecurrentPPO", PENDULUM, "MlpLstmPolicy"),
])
def test_a_model_of_stable_baselines3(module, name, stream, policy, tmp_path):
    path = save(tmp_path, module, name, stream[0].name, policy)
    deployed = load(export_zip(path, stream, tmp_path / "bundle"))
    model, state = getattr(module, name).load(path), None
    rng = np.random.default_rng(0)
    for t in range(100):
        obs = rng.normal(0, 1, len(deployed.manifest["observation"]["terms"])).astype(np.float32)
        first = t % 30 == 0
        action, state = model.predict(obs, state, np.array([first]), deterministic=True)
        if first:
            deployed.reset()
        mine = deployed.step(obs)
        if stream is CARTPOLE:
            assert (mine == np.eye(2)[action]).all()
        else:
            assert np.abs(mine - action).max() <= 2e-5  # halves of a range of ±2
    assert bool(deployed.manifest["state"]) == (name == "RecurrentPPO")


def test_a_run_of_stable_baselines3_is_exported_too(tmp_path):
    agent = crl.make_agent("sb3:TD3", PENDULUM)
    policy = agent.policy(PENDULUM[0])
    deployed = load(export_policy(policy, PENDULUM[0], PENDULUM, tmp_path / "bundle", {}))
    obs = np.float32([0.5, -0.5, 2])
    assert np.abs(deployed.step(obs) - policy.predict(obs)[0]).max() < 2e-5


def test_a_zip_on_the_command_line(tmp_path, capsys):
    path = save(tmp_path, stable_baselines3, "PPO", "Pendulum-v1")
    for words, hint in (([], "give --robot"), (["--robot", "CartPole-v1"], "trained on"),
                        (["--robot", "Pendulum-v1", "--task", "x"], "no --task")):
        with pytest.raises(SystemExit) as ending:
            main(["export", str(path), "--out", str(tmp_path / "bundle"), *words])
        assert ending.value.code == 2
        message = capsys.readouterr().err.splitlines()
        assert hint in message[-1]
        assert len(message) == 1 + message[0].endswith("runs what is pickled in it")
    for content in (b"", b"no zip", b"PK\x03\x04" + bytes(100)):
        path.write_bytes(content)
        with pytest.raises(crl.UserError, match="cannot be loaded"):
            export_zip(path, PENDULUM, tmp_path / "bundle")
    with pytest.raises(crl.UserError, match="cannot be loaded"):
        export_zip(tmp_path / "missing.zip", PENDULUM, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
