"""Corrected policies in bundles: they do what they do in PyTorch, on a robot that has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import crl
from crl.agents.refined import RefinedPolicy, record, refine
from crl.deploy.bundle import Options, export_policy
from crl.deploy.runtime import load
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.unicycle import UnicycleEnv
from crl.stream import Task, TaskStream


def turned(render_mode: str | None = None) -> Any:
    """A robot that drives backwards, from the twentieth step on."""
    return DynamicsSchedule(UnicycleEnv("square", horizon=120),
                            [Change("gain", -1.0, on=0, start=20)])


STREAM = TaskStream([Task("turned", turned, 100, 0)], name="turned")
RATE = Options(rate_hz=10)


@pytest.fixture(scope="module")
def refined() -> RefinedPolicy:
    policy = crl.make_agent("sac", STREAM, hidden=(16,)).policy(STREAM[0])
    clean = record(policy, UnicycleEnv("square", horizon=120), 800)
    return refine(policy, UnicycleEnv("square"), clean)


@pytest.fixture(scope="module")
def bundle(refined: RefinedPolicy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corrected") / "bundle"
    return export_policy(refined, STREAM[0], STREAM, out, {}, RATE)


def test_it_corrects_as_in_pytorch(refined: RefinedPolicy, bundle: Path) -> None:
    deployed = load(bundle)
    assert [one["input"] for one in deployed.manifest["state"]] == [
        "seen_before", "actions_sent", "actions_wanted", "residuals", "steps_known"]
    env, corrected = turned(), []
    low, high = refined.spec.action_low, refined.spec.action_high
    half = (high - low) / 2
    for episode in range(2):
        obs, state, first = env.reset(seed=episode)[0], refined.initial_state(1), True
        deployed.reset()
        for _ in range(60):
            row = np.float32(obs)[None]
            action, state = refined.step(row, state, np.array([first]))
            mine = deployed.step(row[0])
            assert np.abs((mine - action[0]) / half).max() < 3e-4
            state[1][0, 0] = (mine - low) / half - 1  # it is this one that the robot answers
            wanted = refined.policy.step(row, (), np.array([first]))[0]
            corrected.append(bool(np.abs((action - wanted) / half).max() > 0.1))
            obs, first = env.step(mine)[0], False
    by_episode = np.reshape(corrected, (2, 60))
    assert not by_episode[:, :20].any()  # nothing is wrong yet
    assert by_episode[:, 25:].mean() > 0.5


def test_a_correction_by_code_of_ones_own_is_refused(refined: RefinedPolicy, tmp_path: Path
                                                     ) -> None:
    def model(obs: Any, actions: Any) -> Any:
        return obs + 0.1 * np.pad(actions, ((0, 0), (0, obs.shape[1] - 2)))

    clean = record(refined.policy, UnicycleEnv("square", horizon=120), 200)
    by_hand = refine(refined.policy, UnicycleEnv("square"), clean, model,
                     transform=refined.correction._transform)
    with pytest.raises(crl.UserError):
        export_policy(by_hand, STREAM[0], STREAM, tmp_path / "bundle", {}, RATE)
    assert not (tmp_path / "bundle").exists()
