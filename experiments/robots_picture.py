"""Draws docs/robots.png: each robot that is planned for, in the middle of what it does.

    MUJOCO_GL=egl python experiments/robots_picture.py
"""

from __future__ import annotations

from pathlib import Path

import gymnasium
import matplotlib
import numpy as np

import crl.envs  # noqa: F401  (registers the tasks)
from crl.agents.simulator import simulator_policy
from crl.evaluation import run_episode
from crl.planners import make_planner

PAGE = Path(__file__).parents[1] / "docs" / "robots.png"
# Task → horizon of its planner, further options of it, and the step that is shown.
SHOWN: dict[str, tuple[int, dict[str, float], int]] = {
    "cartpole-0.8": (25, {}, 32), "cheetah-thigh": (25, {"exponent": 0.25}, 40),
    "pusher-100-500": (20, {}, 22), "slide-0.2": (20, {}, 12),
    "door-lever-down": (15, {}, 45), "car-1.0": (20, {}, 8)}


def frame(task: str, horizon: int, options: dict[str, float], step: int) -> np.ndarray:
    """What the robot's camera sees when it has planned with its simulator for so many steps."""
    env = gymnasium.make(f"crl/{task}", render_mode="rgb_array", horizon=step).unwrapped
    planner = make_planner("icem", env.action_space.shape[0], horizon=horizon, **options)
    run_episode(simulator_policy(env, planner), env, seed=1)
    seen: np.ndarray = env.render()
    env.close()
    return seen


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
    for axis, (task, settings) in zip(axes.flat, SHOWN.items(), strict=True):
        axis.imshow(frame(task, *settings))
        axis.set_title(task, fontsize=11)
        axis.axis("off")
    figure.savefig(PAGE, dpi=80)


if __name__ == "__main__":
    main()
