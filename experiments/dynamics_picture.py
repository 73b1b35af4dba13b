"""Draws docs/vehicles.png: the vehicles, and where the same pilot ends up when they change.

    MUJOCO_GL=egl python experiments/dynamics_picture.py
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium
import matplotlib
import numpy as np

import crl.envs  # noqa: F401  (registers the tasks)
from crl.envs.pilots import drive, fly
from crl.envs.top_view import top_view

PAGE = Path(__file__).parents[1] / "docs" / "vehicles.png"
SHOWN = {"ugv-eight": 45, "skid-slalom": 26, "quad-eight": 62}  # task → the step that is shown
# Title → how tasks on one map are called in the legend.
MAPS = {
    "UGV whose steering turns round": {"ugv-afm-1": "as usual", "ugv-v1-w-0.5": "yaw × −0.5"},
    "UGV whose wheels slip": {"ugv-eight": "as usual", "ugv-slip-left": "left wheel slips",
                              "ugv-slip-right": "right wheel slips", "ugv-ice": "ice"},
    "quadrotor": {"quad-eight": "calm", "quad-crosswind": "crosswind", "quad-gusts": "gusts",
                  "quad-weak-motor": "weak motor"},
}


def way(env: gymnasium.Env, pilot: Callable[[np.ndarray], np.ndarray],
        steps: int | None = None) -> np.ndarray:
    """Positions [steps, 2] where the pilot brings a vehicle: to success, or for so many steps."""
    obs, _ = env.reset(seed=0)
    seen, over = [obs[:2]], False
    while not over and len(seen) != steps:
        obs, _, _, truncated, info = env.step(pilot(obs))
        seen.append(obs[:2])
        over = truncated or info["success"]
    return np.array(seen)


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10.5, 7.4), layout="constrained")
    for axis, (task, steps) in zip(axes[0], SHOWN.items(), strict=True):
        env = gymnasium.make(f"crl/{task}", render_mode="rgb_array")
        way(env, fly if task.startswith("quad") else drive, steps)
        axis.imshow(env.render())
        env.close()
        axis.set_title(task, fontsize=11)
        axis.axis("off")
    for axis, (title, tasks) in zip(axes[1], MAPS.items(), strict=True):
        ways = {}
        for task, label in tasks.items():
            env = gymnasium.make(f"crl/{task}")
            flying = task.startswith("quad")
            ways[label] = way(env, fly if flying else drive)
            points = env.unwrapped.course.points
        top_view(axis, points, ways, radius=0.3 if flying else 0.5)
        axis.set_title(title, fontsize=11)
    figure.savefig(PAGE, dpi=80)


if __name__ == "__main__":
    main()
