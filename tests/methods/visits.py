"""A small agent with something in its replay, without an environment."""

from __future__ import annotations

import numpy as np
import torch
from toy import corners

import crl
from crl.agents.sac import SAC


def make_agent(*methods, tasks=3, steps=100, **settings) -> tuple[SAC, crl.TaskStream]:
    stream = corners(tasks, steps)
    settings = {"hidden": (24, 24), "batch_size": 16, "start_steps": 0, "update_after": 0,
                **settings}
    agent = crl.make_agent("sac", stream, **settings)
    agent.attach(list(methods))
    return agent, stream


def fill(agent: SAC, seed: int, count: int = 300) -> None:
    """Adds random transitions of the current task."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        obs, following = rng.normal(size=(2, 1, 3)).astype(np.float32)
        agent.replay.add(obs[0], rng.uniform(-1, 1, 2), rng.normal(), following[0],
                         terminated=False, truncated=bool(rng.random() < 0.1), head=agent.head)


def visit(agent: SAC, task, gradient_steps: int = 20) -> None:
    """A whole task: begin, random data, gradient steps, end."""
    agent.begin_task(task)
    fill(agent, seed=task.head)
    agent.learn(gradient_steps)
    agent.end_task(task)


def outputs(agent: SAC, task, seed: int = 0) -> np.ndarray:
    """Deterministic actions of the policy for a task on fixed observations."""
    obs = np.random.default_rng(seed).normal(size=(64, 3)).astype(np.float32)
    return agent.policy(task).predict(obs)[0]


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])
