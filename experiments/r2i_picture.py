"""Draws docs/imagined.png: what a world model imagines beside what happens.

    python experiments/r2i_picture.py runs/r2i/pendulum/r2i-0

The policy of the run plays an episode. The model sees its first steps; from there it is told the
actions and nothing else.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray

from crl import seeding
from crl.agents.r2i import R2IPolicy
from crl.agents.r2i_model import TWO_HOT, Belief
from crl.nn.symlog import symexp
from crl.run import Run
from crl.stream import make_env, step_env

PAGE = Path(__file__).parents[1] / "docs" / "imagined.png"
SEEN, IMAGINED, DREAMS = 20, 60, 5


def episode(policy: R2IPolicy, run: Run, seed: int) -> tuple[NDArray[np.float64], list[Belief],
                                                             NDArray[np.float32]]:
    """Observations and rewards [T, obs + 1], beliefs at the same steps, actions [T − 1, act]."""
    env = make_env(run.stream[-1])
    policy.seed(seed)
    obs, _ = env.reset(seed=seeding.integer(seed, "picture"))
    state, reward, first = policy.initial_state(1), 0.0, True
    rows, beliefs, actions = [], [], []
    for _ in range(SEEN + IMAGINED):
        seen = np.asarray(obs, np.float32)[None]
        with torch.no_grad():
            beliefs.append(policy.model.step(
                torch.from_numpy(seen), torch.from_numpy(state[1]), torch.from_numpy(state[0]),
                torch.tensor([first]), None))
        action, state = policy.step(seen, state, np.array([first]))
        rows.append([*seen[0], reward])
        actions.append(state[1][0])  # as the model is told it, not scaled to the space
        obs, reward, terminated, truncated, _ = step_env(env, action[0])
        first = False
        if terminated or truncated:
            break
    env.close()
    return np.array(rows), beliefs, np.array(actions[:-1], np.float32)


@torch.no_grad()
def imagined(policy: R2IPolicy, belief: Belief, actions: NDArray[np.float32], seed: int
             ) -> NDArray[np.float32]:
    """Observations and rewards [len(actions), obs + 1] after a belief, if these are the actions."""
    generator, model, rows = torch.Generator().manual_seed(seed), policy.model, []
    for action in actions:
        belief = model.imagine(belief, torch.from_numpy(action)[None], generator)
        told = model.told(belief)
        reward = TWO_HOT.mean(model.reward(told, policy.head))
        rows.append(torch.cat((symexp(model.decoder(told))[0], reward.view(1))).numpy())
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    run = Run(parser.parse_args().run)
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    policy = run.policy(len(run.stream) - 1)
    assert isinstance(policy, R2IPolicy)
    real, beliefs, actions = episode(policy, run, seed=0)
    dreams = np.stack([imagined(policy, beliefs[SEEN - 1], actions[SEEN - 1:], seed)
                       for seed in range(DREAMS)])
    names = [*(f"observation {i}" for i in range(real.shape[1] - 1)), "reward"]
    figure, axes = plt.subplots(len(names), 1, figsize=(7, 1.5 * len(names)), sharex=True,
                                layout="constrained")
    for column, (axis, name) in enumerate(zip(axes, names, strict=True)):
        for dream in dreams:
            axis.plot(range(SEEN, len(real)), dream[:, column], color="C1", lw=0.8, alpha=0.7)
        axis.plot(real[:, column], color="C0", lw=1.5)
        axis.axvline(SEEN - 1, color="grey", lw=0.8, ls=":")
        axis.set_ylabel(name)
    axes[0].set_title(f"{run.info['tasks'][-1]['name']}: what happens (blue), and five times what "
                      "is imagined (orange)", fontsize=10)
    axes[-1].set_xlabel("step")
    figure.savefig(PAGE, dpi=100)


if __name__ == "__main__":
    main()
