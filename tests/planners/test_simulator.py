"""Planning with the simulator: what a perfect model reaches, and what planners make of it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch

import crl.envs  # noqa: F401  (registers the tasks)
from crl.agents.simulator import Simulator, simulator_policy
from crl.evaluation import run_episode
from crl.planners import make_planner


def test_it_imagines_what_happens_in_the_units_of_planners():
    env = gymnasium.make("crl/car-1.0").unwrapped
    obs, _ = env.reset(seed=0)
    actions = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    imagined = Simulator(env).imagine(torch.from_numpy(obs).expand(3, 4), actions)
    happened = np.array([env.step(2 * action)[0] for action in actions[1].numpy()])
    np.testing.assert_allclose(imagined[1, 1:], happened, atol=1e-6)


def test_icem_swings_a_pole_up_as_well_as_cem_at_a_tenth_of_the_evaluations():
    env = gymnasium.make("crl/cartpole-0.4", horizon=80).unwrapped
    icem = make_planner("icem", 1, horizon=25)
    cem = make_planner("cem", 1, horizon=25, population=400)  # as published for the cart-pole
    assert icem.evaluations <= cem.evaluations / 10
    earned = [run_episode(simulator_policy(env, planner), env, seed=0).reward_sum
              for planner in (icem, cem)]
    assert earned[0] > 0.95 * earned[1]
    assert earned[1] > 40


@pytest.mark.parametrize("name", ["icem", "mppi"])
def test_an_episode_depends_on_its_seed_alone(name):
    env = gymnasium.make("crl/cartpole-0.4", horizon=10).unwrapped
    policy = simulator_policy(env, make_planner(name, 1, horizon=5))
    first = run_episode(policy, env, seed=1)
    run_episode(policy, env, seed=2)
    assert run_episode(policy, env, seed=1) == first
