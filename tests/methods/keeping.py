"""The promise to keep old tasks bit-identical, measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from visits import outputs, visit

from crl.agents.sac import SAC
from crl.replay import Batch


def drift(agent: SAC, stream, what: Callable[[SAC, object], np.ndarray] = outputs) -> float:
    """Visits all tasks; how much ``what(agent, task)`` changed at most since a task's own end."""
    remembered: list[np.ndarray] = []
    most = 0.0
    for task in stream:
        visit(agent, task)
        remembered.append(what(agent, task))
        for old, expected in zip(stream, remembered, strict=False):
            most = max(most, float(np.abs(what(agent, old) - expected).max()))
    return most


def values(agent: SAC, task) -> np.ndarray:
    """What both critics say with the head of a task on fixed inputs."""
    rng = np.random.default_rng(1)
    obs, action = (torch.from_numpy(rng.normal(size=(64, n)).astype(np.float32)) for n in (3, 2))
    nothing = torch.zeros(64)
    with torch.no_grad():
        batch = Batch(obs, action, nothing, obs, nothing, task.head)
        return agent.parts["critic"].outputs(batch).numpy()


def mixed_batch(heads: int = 3, count: int = 30) -> Batch:
    """Transitions with a head per row."""
    rng = np.random.default_rng(2)
    obs, action = (torch.from_numpy(rng.normal(size=(count, n)).astype(np.float32))
                   for n in (3, 2))
    nothing = torch.zeros(count)
    return Batch(obs, action, nothing, obs, nothing, torch.arange(count) % heads)
