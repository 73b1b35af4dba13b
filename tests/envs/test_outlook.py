"""What a vehicle will see of its course, against what the environments show."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import load_env_creator

from crl.agents.vehicle_model import angles_of
from crl.envs.dynamic_tasks import ROBOTS
from crl.envs.outlook import outlook_of

FAR = {2: [(0, 0), (30, 10), (-20, 40)], 3: [(0, 0, 20), (30, 10, 25), (-20, 40, 10)]}


def ride(robot: str, steps: int = 12) -> np.ndarray:
    """Observations [steps + 1, obs] on a course whose first waypoint alone is passed."""
    env = load_env_creator(ROBOTS[robot])(map=FAR[3 if robot == "quad" else 2])
    env.action_space.seed(0)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    seen = [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return np.array(seen)


@pytest.mark.parametrize("robot", list(ROBOTS))
def test_what_is_seen_of_the_course_follows_from_where_the_vehicle_is(robot):
    env = load_env_creator(ROBOTS[robot])()
    outlook, seen = outlook_of(env), torch.from_numpy(ride(robot))[None]
    unknown = seen.clone()
    unknown[:, 1:, outlook.course.start:] = 0
    torch.testing.assert_close(outlook(unknown), seen, atol=1e-3, rtol=1e-4)
    assert (unknown[:, 1:] - seen[:, 1:]).abs().max() > 10  # that is what was to be told


@pytest.mark.parametrize("robot", ["unicycle", "quad"])
def test_models_of_a_vehicle_are_told_neither_place_nor_course(robot):
    env = load_env_creator(ROBOTS[robot])()
    angles, outlook = angles_of(env), outlook_of(env)
    obs = torch.from_numpy(ride(robot))
    elsewhere = obs.clone()
    elsewhere[:, [*outlook.place, *outlook.course]] += 7.0
    assert torch.equal(angles(obs), angles(elsewhere))
    changed = obs.clone()
    changed[:, 2 if robot == "unicycle" else 9] += 1.0  # heading, velocity
    assert not torch.equal(angles(obs), angles(changed))
    change = angles.change(obs[:-1], obs[1:])
    assert (change[:, list(outlook.course)] == 0).all()
    assert (change[:, list(outlook.place)] != 0).any()


def test_other_robots_have_no_outlook():
    assert outlook_of(gymnasium.make("Pendulum-v1")) is None
