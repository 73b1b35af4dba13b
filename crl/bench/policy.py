"""A step of a policy from a bundle, beside Stable-Baselines3's predict and eager PyTorch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from crl.agent import Policy, make_agent
from crl.agents.action_flow import ActionFlow, FlowConfig
from crl.agents.correction import Calibration, Correction, prediction
from crl.agents.dynamics import Angles
from crl.agents.refined import RefinedPolicy
from crl.bench.afm import random_models
from crl.bench.rows import Row, row, threads
from crl.envs.catalog import make_stream
from crl.stream import TaskStream

_TASK = "push-v3"
_PERIOD = 1 / 500  # seconds
_TURNS, _CALLS = 40, 50
_MEMORIES = ("gru", "ffm", "s5", "gtrxl")
_QUANTILES = {"p50": 0.5, "p99": 0.99}


def bench_policy() -> Iterator[Row]:
    """Actor 2x256, for push-v3; memories 128 wide with their other options by default; one thread.
    ``mlp, corrected`` has Action Flow Matching in front, by an ensemble of five models at random.

    Stable-Baselines3's are SAC's of the same size and, beside the GRU, recurrent PPO's, an LSTM of
    the same width. The floor is ONNX Runtime alone. A step of the GRU's is a step of its bundle.
    """
    stream = make_stream(_TASK)
    with threads(1), tempfile.TemporaryDirectory() as folder:
        for case in ("mlp", *_MEMORIES):
            agent = (make_agent("sac", stream, hidden=(256, 256)) if case == "mlp" else
                     make_agent("recurrent-sac", stream, memory=case, memory_size=128,
                                hidden=(256, 256)))
            policy = agent.policy(stream[0])
            yield from _rows(case, policy, stream, Path(folder) / case)
            if case == "mlp":
                yield from _rows("mlp, corrected", _corrected(policy), stream, Path(folder) / "afm")


def _rows(case: str, policy: Policy, stream: TaskStream, folder: Path) -> Iterator[Row]:
    from crl.deploy.bundle import export_policy
    from crl.deploy.runtime import load

    export_policy(policy, stream[0], stream, folder, {"agent": case})
    bundle = load(folder)
    obs = stream.observation_space.sample().clip(-1, 1)
    state, going_on = policy.initial_state(1), np.array([False])
    for _ in range(_CALLS):  # until memories and windows are full
        _, state = policy.step(obs[None], state, going_on)
        bundle.step(obs)
    sides: dict[str, Callable[[], object]] = {
        "ours": partial(bundle.step, obs),
        "floor": partial(bundle._run, bundle._outputs, dict(bundle._feed)),
        "torch eager": partial(policy.step, obs[None], state, going_on)}
    if case in ("mlp", "gru"):
        sides["SB3 predict"] = _sb3(case, stream, obs)
    times = dict(zip(sides, _times(*sides.values()), strict=True))
    for name, share in _QUANTILES.items():
        ours, floor, *peers = (float(np.quantile(t, share)) for t in times.values())
        for peer, value in zip(list(sides)[2:], peers, strict=True):
            yield row("policy", f"{case} {name}", "s/step", ours, (peer, value), floor)
    yield row("policy", f"{case} p99", "of 2 ms", ours / _PERIOD, ("torch eager",
                                                                  peers[0] / _PERIOD))


def _corrected(policy: Policy) -> Policy:
    """A policy that corrects in every step."""
    spec, settings = policy.spec, FlowConfig(updates=0)
    obs, act = len(spec.observation_low), len(spec.action_low)
    angles = Angles(obs, ())
    always = Calibration(torch.full((obs,), 100.0), 0.0)
    return RefinedPolicy(policy, Correction(
        ActionFlow(act, settings), prediction(random_models(angles, obs, act)), angles, always,
        settings.window, limit=3.0))


def _sb3(case: str, stream: TaskStream, obs: Any) -> Callable[[], object]:
    from sb3_contrib import RecurrentPPO
    from stable_baselines3 import SAC

    env = stream.make(stream[0])
    if case == "mlp":
        model: Any = SAC("MlpPolicy", env, policy_kwargs={"net_arch": [256, 256]}, device="cpu")
        return partial(model.predict, obs, deterministic=True)
    model = RecurrentPPO("MlpLstmPolicy", env, device="cpu", policy_kwargs={
        "net_arch": [256, 256], "lstm_hidden_size": 128})
    _, state = model.predict(obs, deterministic=True)
    return partial(model.predict, obs, state, np.array([False]), deterministic=True)


def _times(*competitors: Callable[[], object]) -> list[list[float]]:
    """Seconds of each call of each competitor; they take turns, and the first ones do not count."""
    found: list[list[float]] = [[] for _ in competitors]
    for turn in range(_TURNS + 1):
        for of_this, competitor in zip(found, competitors, strict=True):
            for _ in range(_CALLS):
                start = time.perf_counter()
                competitor()
                if turn > 0:
                    of_this.append(time.perf_counter() - start)
    return found
