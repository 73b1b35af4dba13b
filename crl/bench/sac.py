"""A SAC update, the whole loop and evaluation, beside Stable-Baselines3's SAC."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crl.agent import make_agent
from crl.agents.sac import SAC
from crl.bench.rows import Row, row, take_turns, threads
from crl.envs.catalog import make_stream
from crl.evaluation import run_episode
from crl.nn.products import affine, input_gradient, kernel_gradient
from crl.training import train

BATCH = 128
_TASK = "push-v3"
_STORED = 5_000      # transitions in both replays, made up
_LOOPS, _LOOP_STEPS = 5, 1_500  # turns of the whole loop
_CW10_EVALUATION = 10 * 11 / 100  # steps a training step: 11 episodes a task every 100 of training


def bench_sac() -> Iterator[Row]:
    """Equal networks without normalisation, batch 128, one gradient step an environment step.

    The floor of an update is its matrix products alone, at the rate that ours reaches. The loop is
    acting, stepping push-v3, storing and updating; both sides get our fast push-v3.
    """
    for count in (1, 2):
        with threads(count):
            for hidden in ((256, 256), (256,) * 4):
                yield from _updates(hidden, count)
    with threads(1):
        yield from _loop((256, 256))


def _updates(hidden: tuple[int, ...], count: int) -> Iterator[Row]:
    single, half = _agent(hidden, "float32"), _agent(hidden, "bf16")
    peer = _peer(hidden)
    times = take_turns(
        lambda: single.learn(1), lambda: half.learn(1), lambda: peer.train(1, BATCH),
        _products(hidden, torch.float32), _products(hidden, torch.bfloat16), turns=30, calls=10)
    ours, bf16, theirs, floor, bf16_floor = times
    case = f"update {len(hidden)}x{hidden[0]}, {count} thread" + "s" * (count > 1)
    yield row("sac", case, "s/update", ours, ("sb3", theirs), floor)
    yield row("sac", f"{case}, bf16", "s/update", bf16, ("sb3", theirs), bf16_floor)


def _agent(hidden: tuple[int, ...], precision: str) -> SAC:
    """Our SAC with a full replay, in the middle of a task."""
    stream = make_stream(_TASK)
    agent = make_agent("sac", stream, hidden=hidden, layer_norm=False, n_step=1, batch_size=BATCH,
                       precision=precision, replay_size=_STORED)
    assert isinstance(agent, SAC)
    agent.attach([])
    agent.begin_task(stream[0])
    for obs, action, reward, following in _transitions():
        agent.replay.add(obs, action, reward, following, terminated=False, truncated=False, head=0)
    return agent


def _peer(hidden: tuple[int, ...], env: Any = None) -> Any:
    """Stable-Baselines3's SAC with the same networks; with a full replay if it gets no ``env``."""
    from stable_baselines3 import SAC as SB3SAC
    from stable_baselines3.common.logger import configure

    model = SB3SAC("MlpPolicy", env or make_stream(_TASK)[0].make(), learning_rate=1e-3,
                   batch_size=BATCH, buffer_size=100_000, learning_starts=200, device="cpu",
                   policy_kwargs={"net_arch": list(hidden)})
    model.set_logger(configure(None, []))
    if env is None:
        done = np.array([False])
        for obs, action, reward, following in _transitions():
            model.replay_buffer.add(obs[None], following[None], action[None], np.array([reward]),
                                    done, [{}])
    return model


def _transitions() -> Iterator[tuple[np.ndarray, np.ndarray, float, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(_STORED):
        obs, following = rng.normal(size=(2, 39)).astype(np.float32)
        yield obs, rng.uniform(-1, 1, 4).astype(np.float32), float(rng.normal()), following


def _products(hidden: Sequence[int], dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of one update, and nothing else."""
    def layers(size_in: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        sizes = (size_in, *hidden)
        return [(torch.randn(2 * BATCH, a).to(dtype), torch.randn(a, b).to(dtype),
                 torch.randn(b).to(dtype)) for a, b in pairwise(sizes)]

    actor, twins = layers(39), [layers(43) for _ in range(2)]
    targets = [layers(43) for _ in range(2)]
    gradient = torch.randn(BATCH, hidden[-1]).to(dtype)

    def forward(network: list[tuple[Tensor, Tensor, Tensor]], rows: int) -> None:
        for x, kernel, bias in network:
            affine(x[:rows], kernel, bias)

    def backward(network: list[tuple[Tensor, Tensor, Tensor]], weights: bool, inputs: bool) -> None:
        for i, (x, kernel, _) in enumerate(network):
            if weights:
                kernel_gradient(x[:BATCH], gradient)
            if i > 0 or inputs:
                input_gradient(gradient, kernel)

    def run() -> None:
        forward(actor, 2 * BATCH)
        for target in targets:
            forward(target, BATCH)
        for twin in twins:
            forward(twin, 2 * BATCH)
            backward(twin, weights=True, inputs=False)
            backward(twin, weights=False, inputs=True)
        backward(actor, weights=True, inputs=False)

    return run


def _loop(hidden: tuple[int, ...]) -> Iterator[Row]:
    """The whole loop, then evaluation, in seconds per environment step; turns of a few seconds."""
    from stable_baselines3.common.evaluation import evaluate_policy

    times: dict[str, list[float]] = {"ours": [], "sb3": [], "ours eval": [], "sb3 eval": []}
    settings: dict[str, Any] = {
        "hidden": hidden, "layer_norm": False, "n_step": 1, "batch_size": BATCH,
        "update_to_data": 1.0, "start_steps": 200, "update_after": 200}
    env = make_stream(_TASK)[0].make()
    for turn in range(_LOOPS):
        stream = make_stream(_TASK, steps_per_task=_LOOP_STEPS)
        agent = make_agent("sac", stream, seed=turn, **settings)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            train(agent, stream, out=f"{folder}/run", eval_episodes=1, eval_every=10**9,
                  checkpoint_every=10**9)
            times["ours"].append((time.perf_counter() - start) / _LOOP_STEPS)
        model = _peer(hidden, stream[0].make())
        start = time.perf_counter()
        model.learn(_LOOP_STEPS)
        times["sb3"].append((time.perf_counter() - start) / _LOOP_STEPS)
        policy, episodes = agent.policy(stream[0]), 5
        start = time.perf_counter()
        steps = sum(run_episode(policy, env, seed, deterministic=False).length
                    for seed in range(episodes))
        times["ours eval"].append((time.perf_counter() - start) / steps)
        start = time.perf_counter()
        evaluate_policy(model, env, episodes, deterministic=False, warn=False)
        times["sb3 eval"].append((time.perf_counter() - start) / steps)
    middle = {name: median(values) for name, values in times.items()}
    yield row("sac", f"loop {len(hidden)}x{hidden[0]}, {_TASK}", "s/step", middle["ours"],
              ("sb3", middle["sb3"]))
    yield row("sac", f"evaluation, {_TASK}", "s/step", middle["ours eval"],
              ("sb3", middle["sb3 eval"]))

    def share(of: str) -> float:
        evaluation = _CW10_EVALUATION * middle[f"{of} eval"]
        return evaluation / (evaluation + middle[of])
    yield row("sac", "evaluation on cw10 as published", "of wall time", share("ours"),
              ("sb3", share("sb3")))
