"""Expert play for data sets: a transition with the expert in the loop, beside stock Meta-World."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from crl.bench.rows import Row, geometric_mean, row, take_turns

_TASKS = ("push-v3", "window-close-v3", "peg-insert-side-v3", "hammer-v3")
_EPISODES, _STEPS = 10, 200  # of a turn
_TURNS = 3


def bench_data() -> Iterator[Row]:
    """Seconds per transition of noisy expert episodes, in one process.

    Ours is a block as a worker of ``crl data`` plays it, from making the environment to contiguous
    arrays. The peer is the loop of Meta-World's own examples over the same number of episodes: its
    environment, made once, its expert, and a list of what came of each step.
    """
    rows = []
    for task in _TASKS:
        ours, stock = take_turns(*_sides(task), turns=_TURNS, calls=1)
        transitions = _EPISODES * _STEPS
        rows.append(_row(task, ours / transitions, stock / transitions))
        yield rows[-1]
    yield _row("geometric mean", geometric_mean([r["ours"] for r in rows]),
               geometric_mean([r["peers"]["metaworld"] for r in rows]))


def _row(case: str, ours: float, stock: float) -> Row:
    return row("data", case, "s/transition", ours, ("metaworld", stock))


def _sides(task_name: str) -> tuple[Any, Any]:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE
    from metaworld.policies import ENV_POLICY_MAP

    from crl.agents.scripted import scripted_policy
    from crl.data.collection import Block, CollectConfig, play
    from crl.envs.catalog import make_stream

    task = make_stream(task_name, horizon=_STEPS)[0]
    block = Block(scripted_policy(task_name), task, CollectConfig(noise=0.2), range(_EPISODES))
    stock = ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{task_name}-goal-observable"](seed=0)
    stock._freeze_rand_vec = False  # a layout of its own in each episode
    expert = ENV_POLICY_MAP[task_name]()
    rng = np.random.default_rng(0)

    def peer() -> list[Any]:
        transitions = []
        for _ in range(_EPISODES):
            obs, _ = stock.reset()
            for _ in range(_STEPS):
                action = np.clip(expert.get_action(obs) + rng.normal(0, 0.1, 4), -1, 1)
                following, reward, terminated, truncated, info = stock.step(action)
                transitions.append((obs, action, reward, following, terminated, truncated,
                                    info["success"]))
                obs = following
        return transitions

    return lambda: play(block), peer
