"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crl.config import require, require_not_negative
from crl.rollout import EPISODE_LIMIT_S


@dataclass(frozen=True)
class TrainConfig:
    """Settings of the loop.

    Attributes:
        eval_every: Environment steps between evaluations; None: ten evaluations a task. Each
            falls at the next end of an episode; one more before the first step of the stream and
            one at the end of each task, after the methods have consolidated it.
        eval_episodes: Episodes per evaluation and task.
        eval_tasks: Evaluate on all tasks of the stream, those begun so far, or the current one, and
            then on all as well before the first step and after the last.
        eval_deterministic: Evaluate the mode of the policy rather than samples.
        checkpoint_every: Environment steps between checkpoints, at the next end of an episode; or
            ``"evaluation"``: one after every evaluation but the first.
        diagnose: Measure the agent's networks at every evaluation (see :mod:`crl.diagnostics`).
        threads: CPU threads of torch; results are reproducible for an equal number.
        round_episodes: Episodes of one version of the weights, which are learned from once all of
            them are over; 0: learning goes on after every step.
        rounds_ahead: Rounds that are played, by weights as many rounds old, while earlier ones are
            learned from.
        workers: Ray workers that play the episodes of evaluations and rounds; 0: this process.
            Results are the same.
        episode_limit_s: Seconds after which an episode of a worker counts as hung.
    """

    eval_every: int | None = None
    eval_episodes: int = 10
    eval_tasks: Literal["all", "seen", "current"] = "all"
    eval_deterministic: bool = True
    checkpoint_every: int | Literal["evaluation"] = 10_000
    diagnose: bool = False
    threads: int = 1
    round_episodes: int = 0
    rounds_ahead: int = 0
    workers: int = 0
    episode_limit_s: float = EPISODE_LIMIT_S

    def __post_init__(self) -> None:
        require_not_negative(self, "workers", "round_episodes", "rounds_ahead")
        require(self.rounds_ahead == 0 or self.round_episodes > 0,
                "rounds are played ahead if there are rounds; set train.round_episodes too")
        for name in ("eval_every", "eval_episodes", "checkpoint_every", "threads",
                     "episode_limit_s"):
            value = getattr(self, name)
            require(value in (None, "evaluation") or value > 0,
                    f"{name} must be above 0, got {value}")
        require(self.threads <= 1024, f"threads must be at most 1024, got {self.threads}")
