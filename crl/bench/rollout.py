"""The policy in the loop: workers beside one process and vector environments, and their growth."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

from crl.agent import Policy
from crl.bench.rows import Row, row, take_turns, threads
from crl.rollout import Known, held_environment, known
from crl.stream import Task, TaskStream, make_env
from crl.workers import Workers

_TASK = "push-v3"
_STEPS = 500      # of a fragment: an episode
_FRAGMENTS = 8    # of a turn
_TURNS = 4
_WORKERS = 2
_GROWTH = (1, 2, 4, 8)  # workers of the simulated cluster
_STEP_S = 4e-3          # of the environments there, which only wait
_Columns = dict[str, np.ndarray[Any, Any]]


class _Vector(NamedTuple):
    """Environments side by side, whoever made them."""

    reset: Callable[[], Any]
    step: Callable[[Any], Any]  # actions → observations, rewards, whether episodes ended
    close: Callable[[], None]


def bench_rollout() -> Iterator[Row]:
    """Seconds per environment step, with a sampling policy 2x256 in the loop.

    Ours are fragments of one episode, as contiguous columns, that Ray workers play; nobody's start
    is counted. What the engine costs is told by one worker beside the loop that it plays, in time
    and in CPU time, which other work on the machine does not change; and by this process's CPU time
    beside its worker's: the inverse is how many workers it can keep busy. Two workers have three
    peers: that loop in one process, and two environments in processes of their own, which are given
    actions step by step in batches of two.
    """
    from crl.envs.catalog import make_stream

    stream = make_stream(_TASK, horizon=_STEPS)
    task, policy = stream[0], _policy(stream)
    steps = _FRAGMENTS * _STEPS
    by = partial(_fragments, policy, task)
    loop = by(Workers(0))
    with threads(1), Workers(1) as one:
        engine, alone = take_turns(by(one), loop, turns=_TURNS, calls=1)
        start, before = time.process_time(), one.cpu_s
        by(one)()
        middle, worker = time.process_time(), one.cpu_s - before
        loop()
        here, alone_cpu = middle - start, time.process_time() - middle
    yield _row("1 worker", "s/step", engine / steps, ("one process", alone / steps))
    for case, ours, name, theirs in (("1 worker", here + worker, "one process", alone_cpu),
                                     ("this process", here, "its worker", worker)):
        yield _row(case, "CPU-s/step", ours / steps, (name, theirs / steps))
    with threads(1), Workers(_WORKERS) as both, contextlib.ExitStack() as stack:
        peers = {"one process": loop}
        for name, vector in (("AsyncVectorEnv", _gymnasium(task)), ("SubprocVecEnv", _sb3(task))):
            stack.callback(vector.close)
            peers[name] = partial(_step_by_step, policy, vector)
        both_s, *seconds = take_turns(by(both), *peers.values(), turns=_TURNS, calls=1)
    for name, of_peer in zip(peers, seconds, strict=True):
        yield _row(f"{_WORKERS} workers", "s/step", both_s / steps, (name, of_peer / steps))
    yield from _growth()


def _policy(stream: TaskStream) -> Policy:
    from crl.agents.sac import SAC
    from crl.agents.sac_config import SACConfig

    return SAC(stream, SACConfig(hidden=(256, 256))).policy(stream[0])


def _growth() -> Iterator[Row]:
    import ray
    from ray.cluster_utils import Cluster

    stream = TaskStream([Task("waits", _Waits, _STEPS, 0)])
    policy = _policy(stream)
    steps = max(_GROWTH) * _STEPS
    node = {"num_cpus": 1, "object_store_memory": 200 * 2**20}
    with threads(1):
        cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        try:
            for _ in range(max(_GROWTH) - 1):
                cluster.add_node(**node)
            ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
            with contextlib.ExitStack() as stack:
                seconds = take_turns(*(
                    _fragments(policy, stream[0], stack.enter_context(Workers(count)),
                               max(_GROWTH))
                    for count in _GROWTH), turns=1, calls=1)
        finally:
            ray.shutdown()
            cluster.shutdown()
    for count, of_count in zip(_GROWTH[1:], seconds[1:], strict=True):
        yield row("rollout", f"{count} workers of a cluster, {_STEP_S * 1e3:g} ms a step, "
                  f"fragments of {_STEPS}", "s/step", of_count / steps,
                  ("1 worker", seconds[0] / steps))


class _Waits(gym.Env[Any, Any]):
    """An environment that takes its time."""

    observation_space = gym.spaces.Box(-1, 1, (39,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (4,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self._obs = np.zeros(39, np.float32)

    def reset(self, **options: Any) -> Any:
        return self._obs, {}

    def step(self, action: Any) -> Any:
        time.sleep(_STEP_S)
        return self._obs, 0.0, False, False, {}


def _fragments(policy: Policy, task: Task, workers: Workers, count: int = _FRAGMENTS
               ) -> Callable[[], object]:
    """A call that has workers play so many fragments."""
    shared = workers.put(policy)
    return lambda: list(workers.map(_fragment, (
        (shared, known(task), _STEPS, seed) for seed in range(count))))


def _row(case: str, unit: str, ours: float, peer: tuple[str, float]) -> Row:
    return row("rollout", f"{case}, {_TASK}, fragments of {_STEPS}", unit, ours, peer)


def _fragment(policy: Policy, task: Known, steps: int, seed: int) -> _Columns:
    """An episode of so many steps, as contiguous columns."""
    env = held_environment(task)
    obs, _ = env.reset(seed=seed)
    policy.seed(seed)
    columns = _columns(policy, steps)
    state, first = policy.initial_state(1), np.array([True])
    for step in range(steps):
        action, state = policy.step(np.asarray(obs, np.float32)[None], state, first, False)
        following, reward, terminated, truncated, _ = env.step(action[0])
        first = np.array([terminated or truncated])
        for name, value in zip(columns, (obs, action[0], reward, first[0]), strict=True):
            columns[name][step] = value
        obs = following
    return columns


def _step_by_step(policy: Policy, vector: _Vector) -> None:
    """As many steps as a turn of fragments has, of environments side by side."""
    obs = vector.reset()
    state, first = policy.initial_state(_WORKERS), np.ones(_WORKERS, bool)
    for step in range(_FRAGMENTS * _STEPS // _WORKERS):
        if step % _STEPS == 0:
            columns = _columns(policy, _STEPS, _WORKERS)
        action, state = policy.step(np.asarray(obs, np.float32), state, first, False)
        following, reward, first = vector.step(action)
        for name, value in zip(columns, (obs, action, reward, first), strict=True):
            columns[name][step % _STEPS] = value
        obs = following


def _columns(policy: Policy, *shape: int) -> _Columns:
    spec = policy.spec
    return {"obs": np.empty((*shape, len(spec.observation_low)), np.float32),
            "action": np.empty((*shape, len(spec.action_low)), np.float32),
            "reward": np.empty(shape, np.float32), "last": np.empty(shape, np.bool_)}


def _gymnasium(task: Task) -> _Vector:
    from gymnasium.vector import AsyncVectorEnv

    env = AsyncVectorEnv([partial(make_env, task)] * _WORKERS, context="forkserver")

    def step(action: Any) -> Any:
        obs, reward, terminated, truncated, _ = env.step(action)
        return obs, reward, terminated | truncated

    return _Vector(lambda: env.reset()[0], step, env.close)


def _sb3(task: Task) -> _Vector:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    env = SubprocVecEnv([partial(make_env, task)] * _WORKERS)
    return _Vector(env.reset, lambda action: env.step(action)[:3], env.close)
