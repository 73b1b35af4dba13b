"""A tiny stream for tests: a point in the plane that must go to a corner of its own per task."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np

from crl.agent import Step
from crl.registry import methods
from crl.stream import Task, TaskStream, step_env

# Methods for agents of any kind; the others want a world model.
ANYWHERE = [name for name in methods.names() if "dreams" not in methods.load(name).needs]
HORIZON = 25
CORNERS = ((1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0))


class Corner(gymnasium.Env[Any, Any]):
    """Position (2) and a constant 1; moves of up to 0.2; reward is minus the distance."""

    observation_space = gymnasium.spaces.Box(-2, 2, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-0.2, 0.2, (2,), np.float32)

    def __init__(self, corner: int, render_mode: str | None = None) -> None:
        self.goal = np.array(CORNERS[corner])

    def _obs(self) -> np.ndarray:
        return np.array([*self.position, 1.0], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-0.5, 0.5, 2)
        self.steps = 0
        return self._obs(), {}

    def step(self, action: np.ndarray) -> Any:
        self.position = np.clip(self.position + action, -2, 2)
        self.steps += 1
        distance = float(np.linalg.norm(self.position - self.goal))
        info = {"success": distance < 0.2}
        return self._obs(), -distance, False, self.steps >= HORIZON, info


def corners(tasks: int = 3, steps: int = 1000, boundaries: Any = "known") -> TaskStream:
    """A stream of ``tasks`` corners."""
    return TaskStream(
        [Task(f"corner-{i}", partial(Corner, i), steps, i) for i in range(tasks)],
        name="corners", boundaries=boundaries,
    )


def play(agent: Any, task: Task, episodes: int, seed: int = 0) -> list[float]:
    """Trains for some episodes; the return of each."""
    env, returns = task.make(), []
    agent.begin_task(task)
    for e in range(episodes):
        obs, _ = env.reset(seed=seed + e)
        first, over, total = np.array([True]), False, 0.0
        while not over:
            action = agent.act(np.float32(obs)[None], first)
            following, reward, terminated, truncated, info = step_env(env, action[0])
            agent.observe(Step(np.float32(obs)[None], action, np.array([reward], np.float32),
                               np.float32(following)[None], np.array([terminated]),
                               np.array([truncated]), first, [info]))
            agent.update()
            obs, first, over = following, np.array([False]), terminated or truncated
            total += reward
        returns.append(total)
    agent.end_task(task)
    return returns
