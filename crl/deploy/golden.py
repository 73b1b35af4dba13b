"""The golden steps of a policy: what whoever runs it elsewhere must be able to do again."""

from __future__ import annotations

from typing import Any

import numpy as np

from crl import seeding
from crl.agent import Policy, State
from crl.agents.refined import RefinedPolicy
from crl.deploy.files import Golden
from crl.evaluation import as_row
from crl.stream import Env, step_env

_STEPS = 256
_CORRECTED = 16  # steps of a corrected policy's memory


def play(policy: Policy, env: Env) -> tuple[Golden, list[State]]:
    """A few hundred steps, and what was remembered after each; an episode is cut in the middle.

    What a corrected policy sends depends on what it has sent. A recorded robot does not answer, so
    that differences of rounding would grow from step to step: its memory begins anew often.
    """
    memory = _CORRECTED if isinstance(policy, RefinedPolicy) else _STEPS
    columns: tuple[list[Any], ...] = ([], [], [])
    states: list[State] = []
    state, over, episode = policy.initial_state(1), True, 0
    policy.seed(0)
    for t in range(_STEPS):
        begins = over or t == _STEPS // 2
        first = begins or t % memory == 0
        if begins:
            obs, _ = env.reset(seed=seeding.integer(0, "golden", episode))
            episode += 1
        row = as_row(obs)
        action, state = policy.step(row, state, np.array([first]))
        for column, value in zip(columns, (row[0], first, action[0]), strict=True):
            column.append(value)
        states.append(state)
        obs, _, terminated, truncated, _ = step_env(env, action[0])
        over = bool(terminated or truncated)
    observation, firsts, actions = (np.array(column) for column in columns)
    return Golden(observation, firsts, actions), states
