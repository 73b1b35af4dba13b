"""Policy × task → episodes to learn from: a policy alone, with noise, or relieved half-way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gymnasium.spaces import Box

from crl import config, seeding
from crl.agent import Policy
from crl.config import require
from crl.data.episodes import Episodes
from crl.data.names import visited
from crl.errors import UserError
from crl.evaluation import read_success
from crl.stream import Env, Task, check_spaces, make_env
from crl.workers import side_by_side

_EPISODES_AT_ONCE = 10  # for one environment, by one worker


@dataclass(frozen=True)
class CollectConfig:
    """How episodes are made. Each depends on these, its task and its number alone.

    Attributes:
        episodes: How many of each task.
        seed: Seed of everything that is drawn.
        noise: The largest standard deviation of the Gaussian noise that is added to actions, in
            their units. Each episode draws its own uniformly, from 0, so that they differ in how
            good they are.
        partial: Share of episodes in which uniformly random actions take over from the policy, for
            good, at a step drawn uniformly.
    """

    episodes: int = 30
    seed: int = 0
    noise: float = 0.0
    partial: float = 0.0

    def __post_init__(self) -> None:
        config.require_positive(self, "episodes")
        config.require_not_negative(self, "seed", "noise")
        require(0 <= self.partial <= 1, f"partial must be between 0 and 1, got {self.partial}")


class Block(NamedTuple):
    """Some episodes, by their numbers, for one worker to play."""

    policy: Policy
    task: Task
    settings: CollectConfig
    numbers: range


def collect(policy: Policy, task: Task, *, workers: int = 0, **settings: Any) -> Episodes:
    """Plays a task for data.

    Args:
        policy: A frozen policy, such as ``scripted_policy("push-v3")``.
        task: Its task, with bounded continuous actions.
        workers: Ray workers to share the episodes; 0: all in this process. The same episodes
            come out.
        **settings: Fields of :class:`CollectConfig`.

    Raises:
        UserError: A setting is wrong, or the policy is not one for this task.
    """
    checked = config.build(CollectConfig, settings, "data")
    config.require_whole("workers", workers, least=0)
    with contextlib.closing(side_by_side(play, blocks(policy, task, checked), workers)) as played:
        return Episodes.join(list(played))


def blocks(policy: Policy, task: Task, settings: CollectConfig) -> Iterator[Block]:
    """The episodes of a task in blocks, in order."""
    for start in range(0, settings.episodes, _EPISODES_AT_ONCE):
        stop = min(start + _EPISODES_AT_ONCE, settings.episodes)
        yield Block(policy, task, settings, range(start, stop))


def play(block: Block) -> Episodes:
    """Plays a block."""
    env = make_env(block.task)
    try:
        observation, action = check_spaces(env, block.task.name)
        expected = block.policy.spec.observation_low.shape
        require(observation.shape == expected,
                f"the policy takes observations of shape {expected}, task {block.task.name!r} "
                f"gives {observation.shape}")
        if not isinstance(action, Box):
            raise UserError(f"data sets are of bounded continuous actions, and task "
                            f"{block.task.name!r} has {action}; choose another task")
        lengths: list[int] = []
        columns: dict[str, list[Any]] = {name: [] for name in (
            "obs", "actions", "rewards", "terminated", "truncated", "success", "seeds")}
        for number in block.numbers:
            before = len(columns["rewards"])
            _play_episode(block, env, action, number, columns)
            lengths.append(len(columns["rewards"]) - before)
        return Episodes.of(lengths, **columns)
    finally:
        env.close()


def _play_episode(block: Block, env: Env, space: Box, number: int, columns: dict[str, list[Any]]
                  ) -> None:
    """Plays one episode and appends to the columns what came of it."""
    policy, task, settings, _ = block
    name = visited(task.name)
    seed = seeding.integer(settings.seed, "data", name, number)
    rng = seeding.generator(settings.seed, "data", name, number, "noise")
    std = settings.noise * rng.random()
    partial, share = rng.random(2)
    alone = math.floor(share * _horizon(env, task)) if partial < settings.partial else math.inf
    policy.seed(seed)
    obs, _ = env.reset(seed=seed)
    columns["seeds"].append(seed)
    columns["obs"].append(np.array(obs, np.float32))
    state, first, done, steps = policy.initial_state(1), np.array([True]), False, 0
    while not done:
        if steps < alone:
            wanted, state = policy.step(columns["obs"][-1][None], state, first)
            action = np.clip(wanted[0] + std * rng.standard_normal(space.shape), space.low,
                             space.high).astype(np.float32)
        else:
            action = rng.uniform(space.low, space.high).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        first, done = np.array([False]), bool(terminated or truncated)
        steps += 1
        for column, value in (("obs", np.array(obs, np.float32)), ("actions", action),
                              ("rewards", float(reward)), ("terminated", bool(terminated)),
                              ("truncated", bool(truncated)), ("success", read_success(info))):
            columns[column].append(value)


def _horizon(env: Env, task: Task) -> int:
    """Steps after which an episode of the task is truncated."""
    horizon = env.get_wrapper_attr("horizon") if env.has_wrapper_attr("horizon") else (
        env.spec and env.spec.max_episode_steps)
    if not horizon:
        raise UserError(f"partial draws a step of an episode, and task {task.name!r} does not say "
                        "how long one is; set stream.horizon, or leave partial out")
    return int(horizon)
