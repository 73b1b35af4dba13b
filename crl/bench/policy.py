"""A step of a policy from a bundle, beside Stable-Baselines3's predict and eager PyTorch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crl.agent import Policy, make_agent
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

    Stable-Baselines3's are SAC's of the same size and, beside the GRU, recurrent PPO's, an LSTM of
    the same width. The floor is ONNX Runtime alone. A step of the GRU's is a step of its bundle.
    """
    stream = make_stream(_TASK)
    with threads(1), tempfile.TemporaryDirectory() as folder:
        for case in ("mlp", *_MEMORIES):
            agent = (make_agent("sac", stream, hidden=(256, 256)) if case == "mlp" else
                     make_agent("recurrent-sac", stream, memory=case, memory_size=128,
                                hidden=(256, 256)))
            yield from _rows(case, agent.policy(stream[0]), stream, Path(folder) / case)


def _rows(case: str, policy: Policy, stream: TaskStream, folder: Path) -> Iterator[Row]:
    from crl.deploy.bundle import export_policy
    from crl.deploy.runtime import load

    export_policy(policy, stream[0], stream, folder, {"agent": case})
    bundle = load(folder)
    obs = stream.observation_space.sample().clip(-1, 1)
    state, going_on = policy.initial_state(1), np.array([False])
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
