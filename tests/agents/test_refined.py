"""The correction in front of controllers and policies of every kind, on robots that turn round.

What it is for: what a corrected robot does is what the robot as it should be does. The references
are episodes of the same policy on a robot with nothing wrong, and on a changed one with the inverse
of the gains known.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from toy import Corner, corners, play

import crl
from crl.agent import Policy
from crl.agents.action_flow import ActionFlow, FlowConfig
from crl.agents.action_maps import least_squares
from crl.agents.correction import Correction
from crl.agents.refined import PilotPolicy, RefinedPolicy, Steps, model_of, record, refine
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.pilots import drive
from crl.envs.unicycle import UnicycleEnv
from crl.stream import Task, TaskStream


def gained(env: Any, gains, start: int = 0) -> Any:
    return DynamicsSchedule(env, [Change("gain", gain, on=i, start=start)
                                  for i, gain in enumerate(gains)])


def square(render_mode=None) -> UnicycleEnv:
    return UnicycleEnv("square", horizon=250)


def way(policy: Policy, env: Any, steps: int = 250, seed: int = 0) -> tuple[np.ndarray, bool]:
    """Observations [steps + 1, obs] of an episode, and whether it ended in success."""
    policy.seed(seed)
    obs, _ = env.reset(seed=seed)
    seen, state, first, over, info = [np.float32(obs)], policy.initial_state(1), True, False, {}
    while not over and len(seen) <= steps:
        action, state = policy.step(seen[-1][None], state, np.array([first]))
        obs, _, terminated, truncated, info = env.step(action[0])
        first, over = False, terminated or truncated or info["success"]
        seen.append(np.float32(obs))
    return np.array(seen), bool(info["success"])


@pytest.fixture(scope="module")
def clean() -> Steps:
    return record(drive, square(), 2_000)


@pytest.fixture(scope="module")
def refined(clean) -> RefinedPolicy:
    return refine(drive, square(), clean, transform=ActionFlow(2, FlowConfig(updates=600)))


class Inverse(PilotPolicy):
    """A pilot who knows the gains."""

    def __init__(self, gains) -> None:
        super().__init__(lambda obs: drive(obs) / np.float32(gains), square())


def varied(refined: RefinedPolicy, transform=least_squares, limit: float = 3.0) -> RefinedPolicy:
    """The same with another transform and limit."""
    of = refined.correction
    return RefinedPolicy(refined.policy, Correction(transform, of._predict, of._angles,
                                                     of._calibration, 8, limit))


@pytest.mark.parametrize("gains", [(-1, 2), (1, -0.5), (-1, -1), (2, 2)])
def test_a_pilot_drives_a_changed_robot_as_one_who_knows(refined, gains):
    alone, _ = way(PilotPolicy(drive, square()), gained(square(), gains, start=20))
    found, arrived = way(refined, gained(square(), gains, start=20))
    known, _ = way(Inverse(gains), gained(square(), gains))
    assert arrived
    assert len(found) < {-1: 2.2}.get(gains[0], 1.6) * len(known)
    if gains != (2, 2):  # whom twice the speed helps
        assert len(alone) > 250


def test_without_its_context_a_pilot_is_lost(refined):
    """A control: the flow is what helps, not the wrapper."""
    blind = varied(refined, lambda wanted, window: wanted)
    assert not way(blind, gained(square(), (-1, 2), start=20))[1]


def test_on_a_clean_robot_nothing_changes(refined):
    alone, _ = way(PilotPolicy(drive, square()), square())
    found, arrived = way(refined, square())
    assert arrived
    assert len(found) == pytest.approx(len(alone), abs=1)
    reach = min(len(found), len(alone))
    assert np.abs(found[:reach, :2] - alone[:reach, :2]).max() < 0.05


def test_a_correction_of_length_0_is_the_policy_itself(refined):
    off = varied(refined, limit=0)
    pilot = PilotPolicy(drive, square())
    changed = gained(square(), (-1, 2), start=20)
    np.testing.assert_array_equal(way(off, changed)[0], way(pilot, changed)[0])


def test_it_is_a_policy_like_any_other(refined):
    """With SB3's signature, in batches, and evaluated on tasks."""
    env = gained(square(), (-1, 2))
    obs, _ = env.reset(seed=1)
    state, over = None, False
    while not over:
        action, state = refined.predict(obs, state)
        assert (np.abs(action) <= env.action_space.high + 1e-6).all()
        obs, _, _, truncated, info = env.step(action)
        over = truncated or info["success"]
    assert info["success"]
    task = Task("square", square, 1, 0)
    assert crl.evaluate(refined, task, episodes=2)[0].success_once


# ---- policies that learn: each wants what it wants, and gets it ----


def outcomes(policy: Policy, refined: Policy, make, gains, steps: int, size: int) -> list[float]:
    """How far positions of a changed robot are from those of one with nothing wrong, without and
    with the correction: in units of how far that one went. The change comes after eight steps."""
    right, _ = way(policy, make(), steps)
    found = []
    for one in (policy, refined):
        went, _ = way(one, gained(make(), gains, start=8), steps)
        reach = min(len(went), len(right))
        error = np.linalg.norm(went[:reach, :size] - right[:reach, :size], axis=1)
        found.append(float(error.max() / np.linalg.norm(np.ptp(right[:, :size], axis=0))))
    return found


def corner(render_mode=None) -> Corner:
    return Corner(0)


@pytest.fixture(scope="module")
def correction() -> Correction:
    """Of a learned model of what moves to a corner."""
    def stay(obs):  # away from the walls, where actions have no effect
        return -0.3 * obs[:2]

    clean = record(stay, corner(), 1_000, noise=0.5)
    return refine(stay, corner(), clean, transform=least_squares).correction


@pytest.mark.parametrize("name", ["sac", "recurrent-sac", "r2i"])
def test_policies_that_learn_get_what_they_want_with_a_learned_model(name, correction):
    """An untrained actor wanders; a memory goes on as if its own actions had been sent."""
    agent = crl.make_agent(name, corners(1), hidden=(16,))
    agent.attach([])
    policy = agent.policy(corners(1)[0])
    alone, found = outcomes(policy, RefinedPolicy(policy, correction), corner, (-1, 0.5), 25, 2)
    assert found < 0.5 * alone


def test_a_model_of_stable_baselines3_gets_what_it_wants(correction):
    network = PPO("MlpPolicy", gymnasium.wrappers.TimeLimit(corner(), 25), seed=0, device="cpu",
                  policy_kwargs={"net_arch": [8], "log_std_init": -1.0})
    network.policy.action_net.bias.data += torch.tensor([0.1, -0.05])

    def pilot(obs):
        return network.predict(obs, deterministic=True)[0]

    policy = PilotPolicy(pilot, corner())
    alone, found = outcomes(policy, RefinedPolicy(policy, correction), corner, (-1, 0.5), 25, 2)
    assert found < 0.5 * alone


@pytest.mark.parametrize("name", ["mpc", "hypercrl"])
def test_policies_that_plan_bring_their_own_model(name):
    stream = TaskStream([Task("square", square, 250, 0)], name="square")
    agent = crl.make_agent(name, stream, hidden=(32,), start_steps=200, train_every=250,
                           updates=600, planner="mppi", multi_head=name == "hypercrl",
                           planner_options={"horizon": 4, "population": 64, "temperature": 0.01})
    agent.attach([])
    play(agent, stream[0], 2)
    policy = agent.policy(stream[0])
    model = model_of(policy)
    obs = np.array([square().reset(seed=0)[0]])
    imagined = policy.controller.models[0].imagine(torch.from_numpy(obs), torch.ones(1, 1, 2))
    np.testing.assert_allclose(model(obs, policy.spec.action_high[None]), imagined[:, 1],
                               atol=1e-5)
    refined = refine(policy, square(), record(policy, square(), 200), model,
                     transform=least_squares)
    home, alone, found = (
        way(one, gained(square(), gains, start=10), 60)[0] for one, gains in
        ((policy, (1, 1)), (policy, (-1, 1)), (refined, (-1, 1))))
    left = [seen[-1][-1] for seen in (home, alone, found)]  # metres to go
    assert left[1] > left[0] + 3
    assert left[2] < left[0] + 2


# ---- what is refused ----



@pytest.mark.parametrize(("change", "options", "hint"), [
    (lambda c: Steps(*(x[:50] for x in c)), {}, "at least 100 steps, got 50"),
    (lambda c: c._replace(action=c.action[:, :1]), {}, "actions of 2, got"),
    (lambda c: c._replace(obs=np.full_like(c.obs, np.nan)), {}, "not finite"),
    (lambda c: c, {"window": 0}, "window must be a whole number above 0, got 0"),
    (lambda c: c, {"limit": -1.0}, "limit must not be negative, got -1"),
])
def test_bad_input_is_one_clear_line(clean, change, options, hint):
    with pytest.raises(crl.UserError, match=hint) as error:
        refine(drive, square(), change(clean), transform=least_squares, **options)
    assert "\n" not in str(error.value)


def test_choices_cannot_be_corrected(clean):
    with pytest.raises(crl.UserError, match="continuous"):
        PilotPolicy(lambda obs: 0, gymnasium.make("CartPole-v1"))
    agent = crl.make_agent("recurrent-sac", crl.make_stream("CartPole-v1", steps_per_task=10))
    agent.attach([])
    policy = agent.policy(crl.make_stream("CartPole-v1", steps_per_task=10)[0])
    with pytest.raises(crl.UserError, match="continuous"):
        refine(policy, gymnasium.make("CartPole-v1"), clean)


def test_records_are_decided_by_their_seed():
    one, same, other = (record(drive, square(), 120, seed=seed) for seed in (1, 1, 2))
    for name in Steps._fields:
        assert (getattr(one, name) == getattr(same, name)).all()
        assert (getattr(one, name) != getattr(other, name)).any()
    assert (one.obs[1:100] == one.next_obs[:99]).all()
    with pytest.raises(crl.UserError, match="steps must be a whole number above 0"):
        record(drive, square(), 0)
