"""Training whose episodes two workers play, beside training step by step."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

from crl.agent import make_agent
from crl.bench.rows import Row, row
from crl.envs.catalog import make_stream
from crl.loop import Progress
from crl.training import train
from crl.workers import Workers

_TASK = "push-v3"
_EPISODE = 200      # steps
_ROUND = 4          # episodes
_WORKERS = 2
_TURNS = 3
_Settings = dict[str, Any]
_AGENTS: dict[str, tuple[int, _Settings, int]] = {  # episodes of a turn, settings, rounds ahead
    "sac": (40, {"start_steps": 200, "update_after": 200}, 1),
    "recurrent-sac": (12, {"start_steps": 200, "update_after": 200}, 1),
    "r2i": (16, {"start_steps": 200}, 1),
    "recurrent-ppo": (40, {"rollout_steps": _ROUND * _EPISODE}, 0),
}


def bench_collection() -> Iterator[Row]:
    """Seconds per environment step of the whole loop, without evaluations.

    Agents as they come, on push-v3. Step by step, an agent acts, learns, and acts again. In rounds,
    two workers play the episodes of one version of the weights, of all but ``recurrent-ppo`` while
    the round before is learned from. Counted from the second round to the last.
    """
    with Workers(_WORKERS):
        for name, (episodes, settings, ahead) in _AGENTS.items():
            rounds = {"round_episodes": _ROUND, "rounds_ahead": ahead, "workers": _WORKERS}
            seconds: list[list[float]] = [[], []]
            for turn in range(_TURNS):
                for which, extra in enumerate((rounds, {})):
                    seconds[which].append(_seconds(name, settings, episodes, turn, extra))
            ours, theirs = map(median, seconds)
            case = f"{name}, {_WORKERS} workers, rounds of {_ROUND}x{_EPISODE}, {ahead} ahead"
            yield row("collection", case, "s/step", ours, ("step by step", theirs))


def _seconds(name: str, settings: _Settings, episodes: int, seed: int, extra: _Settings) -> float:
    stream = make_stream(_TASK, steps_per_task=episodes * _EPISODE, horizon=_EPISODE)
    agent = make_agent(name, stream, seed=seed, **settings)
    at: dict[int, float] = {}

    def watch(progress: Progress) -> None:
        if progress.phase == "training":
            at[progress.env_step] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train(agent, stream, seed=seed, out=f"{folder}/run", watch=watch, eval_episodes=1,
              eval_every=10**9, checkpoint_every=10**9, **extra)
    first, last = 2 * _ROUND * _EPISODE, episodes * _EPISODE
    return (at[last] - at[first]) / (last - first)
