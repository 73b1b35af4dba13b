"""A planner's decisions as one network, which fits into a bundle and decides in microseconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crl import seeding
from crl.agent import Policy
from crl.agents.actions import BoundedActions
from crl.agents.dynamics import Angles
from crl.agents.sac_networks import SACPolicy
from crl.config import require, require_positive
from crl.evaluation import as_row, evaluate
from crl.nn.descent import descend
from crl.nn.network import Network
from crl.nn.scaling import Standardizer
from crl.stream import Task, make_env
from crl.task_spec import task_spec

_RATE, _BATCH = 1e-3, 256
_LOG_STD = -20.0  # of samples: hardly any, since nobody taught it how to explore


@dataclass(frozen=True)
class DistillConfig:
    """How a policy is distilled.

    Attributes:
        steps: Of the task, in which the teacher is asked.
        rounds: Into which they are split; the teacher drives in the first one, then the network.
        updates: Gradient steps after each.
        hidden: Of the network.
        episodes: In which both are evaluated at the end.
    """

    steps: int = 4_000
    rounds: int = 4
    updates: int = 2_000
    hidden: tuple[int, ...] = (128, 128)
    episodes: int = 5

    def __post_init__(self) -> None:
        require_positive(self, "steps", "rounds", "updates", "episodes")
        require(self.steps >= self.rounds, f"steps must be {self.rounds} or more, a round each, "
                f"got {self.steps}")


class Distilled(NamedTuple):
    """What came of it: the network, and both mean returns of the same episodes."""

    policy: SACPolicy
    taught: float
    learned: float


def distill(teacher: Policy, task: Task, settings: DistillConfig | None = None, seed: int = 0,
            watch: Callable[[int, int], None] = lambda done, of: None) -> Distilled:
    """Teaches a network to decide as a policy does, in the states that the network gets into.

    DAgger (Ross, Gordon and Bagnell 2011): the network drives, the teacher says at every step what
    it would have done, and the network learns from all that was said so far, by squared errors.

    Args:
        teacher: Of continuous actions; it may remember things and be slow.
        task: Its task.
        settings: See :class:`DistillConfig`.
        seed: Of episodes, weights and all draws.
        watch: Called with the steps that are done, and of how many.

    Raises:
        UserError: Its actions are choices, or the task was not made for planners.
    """
    settings, spec = settings or DistillConfig(), teacher.spec
    require(not spec.discrete, "planners' actions are continuous, and this policy's are choices")
    actions = BoundedActions(spec.action_low, spec.action_high)
    generator = torch.Generator().manual_seed(seeding.integer(seed, "distill", "weights"))
    env = make_env(task)
    angles = Angles(len(spec.observation_low), task_spec(env, task.name).angles)
    network = _Student(angles, actions.size, settings.hidden, generator)
    student = SACPolicy(spec, network, 0, actions, None)
    seen: list[np.ndarray] = []
    said: list[np.ndarray] = []
    over, episode = True, 0
    teacher.seed(seeding.integer(seed, "distill", "teacher"))
    try:
        for step in range(settings.steps):
            if over:
                obs = as_row(env.reset(seed=seeding.integer(seed, "distill", episode))[0])
                state, first, episode = teacher.initial_state(1), np.array([True]), episode + 1
            wanted, state = teacher.step(obs, state, first)
            seen.append(obs[0])
            said.append(wanted[0])
            driven = student.step(obs, (), first)[0] if _round(step, settings) else wanted
            following, _, terminated, truncated, _ = env.step(driven[0])
            obs, first, over = as_row(following), np.array([False]), terminated or truncated
            watch(step + 1, settings.steps)
            if _round(step + 1, settings) > _round(step, settings):
                _teach(network, np.array(seen), actions.from_env(np.array(said)),
                       settings.updates, generator)
    finally:
        env.close()
    own = seeding.integer(seed, "distill", "evaluate")
    taught, learned = (float(np.mean([one.reward_sum for one in evaluate(
        policy, task, settings.episodes, own)])) for policy in (teacher, student))
    return Distilled(student, taught, learned)


def _round(step: int, settings: DistillConfig) -> int:
    return step * settings.rounds // settings.steps


class _Student(nn.Module):
    """Observations [B, obs] → the mode and spread of actions [B, 2 act], as actors give them."""

    def __init__(self, angles: Angles, size: int, hidden: tuple[int, ...],
                 generator: torch.Generator) -> None:
        super().__init__()
        self.angles, self.inputs = angles, Standardizer(1, angles.size)
        self.network = Network(angles.size, size, hidden, 1, generator)

    def forward(self, obs: Tensor, head: int) -> Tensor:
        mean = self.network(self.inputs(self.angles(obs), 0), 0)
        return torch.cat((mean, torch.full_like(mean, _LOG_STD)), -1)


def _teach(student: _Student, obs: np.ndarray, wanted: np.ndarray, updates: int,
           generator: torch.Generator) -> None:
    """Fits a student to what was said, wanted [N, act] being in [-1, 1]."""
    x, y = student.angles(torch.from_numpy(obs)), torch.from_numpy(wanted.astype(np.float32))
    student.inputs.fit(x, 0)
    x = student.inputs(x, 0)
    student.requires_grad_(True)

    def loss() -> Tensor:
        rows = torch.randint(len(x), (_BATCH,), generator=generator)
        return F.mse_loss(student.network(x[rows], 0).tanh(), y[rows])

    descend(student.network.parameters(), loss, updates, _RATE)
    student.requires_grad_(False)
