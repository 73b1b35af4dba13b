"""Policy × task → episodes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crl import seeding
from crl.agent import FloatArray, Policy
from crl.config import require, require_whole
from crl.errors import UserError
from crl.stream import Env, Task, make_env, step_env

if TYPE_CHECKING:
    from crl.workers import Workers


class Episode(NamedTuple):
    """What came of one episode."""

    seed: int
    reward_sum: float
    success_once: bool
    success_end: bool
    length: int


def evaluate(
    policy: Policy,
    task: Task,
    episodes: int = 10,
    seed: int = 0,
    *,
    deterministic: bool = True,
    workers: int | Workers = 0,
) -> list[Episode]:
    """Runs a policy on a task.

    Args:
        policy: A frozen policy.
        task: The task; its environment is made, used and closed.
        episodes: How many.
        seed: Seed of the evaluation: the same seed gives the same episodes.
        deterministic: Take the mode of the policy rather than samples.
        workers: Ray workers to share the episodes, or how many; 0: this process. The episodes are
            the same.
    """
    require_whole("episodes", episodes, least=1)
    require(isinstance(task, Task), f"task must be a Task, such as stream['push-v3'], got {task!r}")
    require_whole("seed", seed, least=0)
    seeds = [seeding.integer(seed, "evaluate", e) for e in range(episodes)]
    if workers if isinstance(workers, int) else workers.count:
        from crl.rollout import Wanted, play_all
        from crl.workers import Workers

        with Workers(workers) if isinstance(workers, int) else nullcontext(workers) as staff:
            return list(play_all(staff, [Wanted(policy, task, seeds)], deterministic=deterministic))
    env = make_env(task)
    try:
        check_fits(policy, env, task.name)
        return [run_episode(policy, env, s, deterministic=deterministic) for s in seeds]
    finally:
        env.close()


def check_fits(policy: Policy, env: Env, task: str) -> None:
    """Raises ``UserError`` unless the policy takes what the environment of a task observes."""
    expected = policy.spec.observation_low.shape
    if env.observation_space.shape != expected:
        raise UserError(f"the policy takes observations of shape {expected}, task {task!r} gives "
                        f"{env.observation_space.shape}")


def run_episode(
    policy: Policy,
    env: Env,
    seed: int,
    *,
    deterministic: bool = True,
    watch: Callable[[], None] | None = None,
) -> Episode:
    """Runs one episode; it depends on the policy's weights and on ``seed`` alone.

    Args:
        policy: A frozen policy.
        env: An environment of its task; it is reset with ``seed``.
        seed: Also seeds the policy's own draws.
        deterministic: As in :func:`evaluate`.
        watch: Called after the reset and after each step, for instance to render.
    """
    policy.seed(seed)
    obs, _ = env.reset(seed=seed)
    state, first = policy.initial_state(1), np.array([True])
    total, length, once, success, done = 0.0, 0, False, False, False
    if watch:
        watch()
    while not done:
        action, state = policy.step(as_row(obs), state, first, deterministic)
        obs, reward, terminated, truncated, info = step_env(env, action[0])
        first = np.array([False])
        total += float(reward)
        length += 1
        success = read_success(info)
        once = once or success
        done = bool(terminated or truncated)
        if watch:
            watch()
    return Episode(seed, total, once, success, length)


def as_row(obs: Any) -> FloatArray:
    """One observation as a batch of one: [obs] → [1, obs] float32."""
    return np.asarray(obs, np.float32)[None]


def read_success(info: dict[str, Any]) -> bool:
    """Whether a step's info says success; False where a task has no such notion."""
    return bool(info.get("success", info.get("is_success", False)))
