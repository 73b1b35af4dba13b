"""Episodes that Ray workers play, in environments that they hold.

An episode depends on its task, its seed and the policy's weights alone. So it is the same whoever
plays it, and is played again by another worker if its own dies.
"""

from __future__ import annotations

import functools
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from crl.agent import Policy
from crl.errors import UserError
from crl.evaluation import Episode, check_fits, run_episode
from crl.stream import Env, Task, make_env
from crl.workers import HungError, Workers

Player = TypeVar("Player")
Played = TypeVar("Played")
EPISODE_LIMIT_S = 600.0
_ENVIRONMENTS = 64  # that a worker holds
_NAMES: weakref.WeakKeyDictionary[Task, str] = weakref.WeakKeyDictionary()


class Wanted(NamedTuple):
    """Episodes of a policy on a task, one a seed."""

    policy: Policy
    task: Task
    seeds: Sequence[int]


@dataclass(frozen=True)
class Known:
    """A task that a worker knows again by a name that no other one has: its ``make`` will not do,
    since each message brings another copy of it.
    """

    name: str
    task: Task = field(compare=False)


def known(task: Task) -> Known:
    """The task under its name in this process and its workers."""
    return Known(_NAMES.setdefault(task, uuid.uuid4().hex), task)


def play_all(workers: Workers, wanted: Sequence[Wanted], *, deterministic: bool = True,
             limit_s: float = EPISODE_LIMIT_S) -> Iterator[Episode]:
    """The episodes, in order: those that :func:`crl.evaluation.run_episode` runs.

    Each policy goes to the workers once, then a few seeds at a time.

    Args:
        workers: Of Ray; they are within their ``with``.
        wanted: What to play.
        deterministic: Take the mode of the policies rather than samples.
        limit_s: Seconds after which an episode counts as hung.

    Raises:
        UserError: An episode has hung, or workers died again and again.
    """
    play = functools.partial(_run_episode, deterministic=deterministic)
    blocks = [(one.task.name, (play, policy, known(one.task), seeds)) for one in wanted
              for policy in [workers.put(one.policy)]
              for seeds in shares(one.seeds, workers.count)]
    longest = max(len(seeds) for _, (_, _, _, seeds) in blocks)
    played = workers.map(play_in_worker, (arguments for _, arguments in blocks), limit_s * longest)
    try:
        for name, (_, _, _, seeds) in blocks:  # noqa: B007  (the last one is named below)
            yield from next(played)
    except HungError:
        raise hung(name, seeds, limit_s) from None


def hung(task: str, seeds: Sequence[int], limit_s: float) -> UserError:
    """The error when one of some episodes of a task has hung."""
    return UserError(f"an episode of task {task!r} has not ended within {limit_s:g} s, of seeds "
                     f"{', '.join(map(str, seeds))}; if it may take longer, raise "
                     "train.episode_limit_s, or leave --workers out")


def shares(seeds: Sequence[int], workers: int) -> Iterator[Sequence[int]]:
    """The seeds in order, about as many for each worker."""
    size = -(-len(seeds) // workers)
    for start in range(0, len(seeds), size):
        yield seeds[start:start + size]


def play_in_worker(play: Callable[[Player, Env, str, int], Played], player: Player, task: Known,
                   seeds: Sequence[int]) -> list[Played]:
    """What a worker does: ``play(player, environment, task's name, seed)`` of each seed."""
    env = held_environment(task)
    return [play(player, env, task.task.name, seed) for seed in seeds]


def _run_episode(policy: Policy, env: Env, task: str, seed: int, *, deterministic: bool) -> Episode:
    check_fits(policy, env, task)
    return run_episode(policy, env, seed, deterministic=deterministic)


@functools.lru_cache(_ENVIRONMENTS)
def held_environment(task: Known) -> Env:
    """The environment of a task, kept by this process."""
    return make_env(task.task)
