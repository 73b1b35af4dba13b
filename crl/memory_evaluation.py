"""What a policy remembers, and for how long: the protocol of Cherepanov et al. 2024.

"Unraveling the Complexity of Memory in RL Agents". A task asks at the end for what it showed ξ
observations before (``crl.envs.memory_tasks``); an agent that sees K of them at once needs no
memory where K ≥ ξ. So a test over several ξ, from the smallest to the largest, is

- of long-term memory if K ≤ K̄ = min ξ − 1: nothing of it can be solved without,
- of short-term memory if K ≥ max ξ: all of it can,
- and of neither in between, where no success rate would say what it is of: refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from crl.agent import BoolArray, FloatArray, Policy, State
from crl.envs.catalog import make_stream
from crl.envs.memory_names import memory_task, of_length
from crl.envs.memory_tasks import MemoryTask
from crl.errors import UserError
from crl.evaluation import read_success
from crl.stream import Env, Task, make_env, step_env

Kind = Literal["long-term", "short-term"]


@dataclass(frozen=True)
class MemoryRow:
    """Success at one correlation horizon.

    Attributes:
        task: Name of the task.
        horizon: ξ.
        kind: What the test is of.
        success, control: [episodes] bool: of the policy, and of the same policy when its memory is
            emptied before every step.
        chance: Success rate of guessing.
    """

    task: str
    horizon: int
    kind: Kind
    success: BoolArray
    control: BoolArray
    chance: float


def evaluate_memory(
    policy: Policy,
    task: Task,
    options: dict[str, Any],
    lengths: Sequence[int] = (),
    episodes: int = 100,
    seed: int = 0,
    watch: Callable[[str], None] = lambda name: None,
) -> Iterator[MemoryRow]:
    """Tests a policy on a memory task at several lengths, on the same episodes of each.

    Args:
        policy: The policy, of that task.
        task: The task that it was trained for, such as t-maze-100.
        options: Those of its stream: what the policy is shown.
        lengths: Of the task, in its place; none: its own.
        episodes: Of each.
        seed: Of the first episode; each has the next one.
        watch: Called with the name of each task before it is played.

    Raises:
        UserError: Not a memory task, one without lengths, or lengths that a test cannot mix.
    """
    names = _names(task.name, lengths)
    tasks = [make_stream(**{**options, "name": name})[0] for name in names]
    asked = [_inner(task) for task in tasks]
    context = policy.spec.context + int(options.get("frame_stack", 1)) - 1
    kind = judge(context, [env.correlation_horizon for env in asked])
    for one, inner in zip(tasks, asked, strict=True):
        watch(one.name)
        with ExitStack() as stack:
            envs = [stack.enter_context(closing(make_env(one))) for _ in range(episodes)]
            success, control = (_successes(p, envs, seed) for p in (policy, Forgetful(policy)))
        yield MemoryRow(one.name, inner.correlation_horizon, kind, success, control, inner.chance)


def judge(context: int, horizons: Sequence[int]) -> Kind:
    """What a test with these ξ says of an agent that sees ``context`` observations at once.

    Raises:
        UserError: Neither long-term nor short-term memory.
    """
    if context < min(horizons):
        return "long-term"
    if context >= max(horizons):
        return "short-term"
    inside = ", ".join(f"{h}" for h in sorted(horizons) if h <= context)
    raise UserError(
        f"a test with correlation horizons {inside} and up to {max(horizons)} says nothing of an "
        f"agent that sees {context} observations at once: some need long-term memory and some do "
        f"not; choose --lengths all below, or all from {context} on")


class Forgetful(Policy):
    """A policy for whom every step is the first of an episode: the control without memory."""

    def __init__(self, policy: Policy) -> None:
        self.spec = policy.spec
        self._policy = policy

    def seed(self, seed: int) -> None:
        self._policy.seed(seed)

    def step(self, obs: FloatArray, state: State, first: BoolArray,
             deterministic: bool = True) -> tuple[FloatArray, State]:
        return self._policy.step(obs, state, np.ones_like(first), deterministic)


def _successes(policy: Policy, envs: Sequence[Env], seed: int) -> BoolArray:
    """Whether an episode of each ends in success; all are played side by side."""
    obs = np.stack([np.asarray(env.reset(seed=seed + e)[0], np.float32)
                    for e, env in enumerate(envs)])
    policy.seed(seed)
    state = policy.initial_state(len(envs))
    first, running, success = (np.full(len(envs), value) for value in (True, True, False))
    while running.any():
        action, state = policy.step(obs, state, first)
        first = np.zeros_like(first)
        for e in np.flatnonzero(running).tolist():
            obs[e], _, terminated, truncated, info = step_env(envs[e], action[e])
            success[e], running[e] = read_success(info), not (terminated or truncated)
    return success


def _inner(task: Task) -> MemoryTask:
    with closing(make_env(task)) as env:
        return cast(MemoryTask, env.unwrapped)


def _names(task: str, lengths: Sequence[int]) -> list[str]:
    name = task.partition("@")[0]
    if memory_task(name) is None:
        raise UserError(f"{name!r} is no memory task: nobody knows what of it must be remembered "
                        "for how long; type 'crl list tasks'")
    if not lengths:
        return [name]
    names = [of_length(name, length) for length in lengths]
    if None in names:
        raise UserError(f"{name!r} has one length only; leave --lengths out")
    return [n for n in names if n is not None]
