"""Policies of every kind that can be exported, none of which has learned anything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from toy import Corner

import crl
from crl.agent import Policy
from crl.deploy.bundle import Options, export_policy
from crl.methods.base import make_method
from crl.stream import Task, TaskStream

RATE = Options(rate_hz=50)


class Turns(gymnasium.Env[Any, Any]):
    """Three numbers, three choices, and nothing that can be learned."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode: str | None = None) -> None:
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action: int) -> Any:
        self.steps += 1
        return self.observe(), float(action), False, self.steps >= 40, {}

    def observe(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def corner_stream() -> TaskStream:
    """Two corners, so that a head must be chosen."""
    return TaskStream([Task(f"corner-{i}", partial(Corner, i), 100, i) for i in range(2)])


def turn_stream() -> TaskStream:
    return TaskStream([Task("turns", Turns, 100, 0)])


def policy_of(agent: str, stream: TaskStream, method: str = "", **settings: Any) -> Policy:
    """The policy for the last task of a stream."""
    made = crl.make_agent(agent, stream, **settings)
    made.attach([make_method(method)] if method else [])
    task = stream[-1]
    if made._scaling is not None:  # as if it had seen something
        rng = np.random.default_rng(0)
        for _ in range(50):
            made._scaling.see(rng.normal(0.5, 2, 3).astype(np.float32), made._head_of(task))
    return made.policy(task)


SMALL: dict[str, Any] = {"hidden": (16, 16)}
RECURRENT: dict[str, Any] = {"hidden": (16,), "memory_size": 16}
KINDS: dict[str, Any] = {
    "sac": lambda: (corner_stream(), "sac", {"normalize_observations": True, **SMALL}),
    "hypernetwork": lambda: (corner_stream(), "sac", {"trunk": "hypernetwork", **SMALL}),
    "modulation": lambda: (corner_stream(), "sac", {"method": "modulation", **SMALL}),
    **{memory: partial(lambda memory: (
        corner_stream(), "recurrent-sac",
        {"memory": memory, "normalize_observations": True, **RECURRENT}), memory)
       for memory in ("mlp", "gru", "ffm", "s5", "gtrxl")},
    "choices": lambda: (turn_stream(), "recurrent-ppo", {"memory": "gru", **RECURRENT}),
    "r2i": lambda: (turn_stream(), "r2i", {"hidden": (16,)}),
}


def make(kind: str) -> tuple[TaskStream, Policy]:
    """A stream and the policy for its last task."""
    stream, agent, settings = KINDS[kind]()
    return stream, policy_of(agent, stream, **settings)


def export(kind: str, out: Path, options: Options = RATE) -> Path:
    """A bundle of the policy of a kind."""
    stream, policy = make(kind)
    return export_policy(policy, stream[-1], stream, out, {"agent": kind}, options)


def export_arm(out: Path) -> Path:
    """A bundle of a policy of the arm, with limits that it cannot reach."""
    stream = crl.make_stream("arm-plain", horizon=30)
    policy = crl.make_agent("sac", stream, hidden=(8,)).policy(stream[0])
    return export_policy(policy, stream[0], stream, out, {"agent": "sac"},
                         Options(slew_per_s=(1000, 2000)))
