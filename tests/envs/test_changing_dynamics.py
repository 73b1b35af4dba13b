"""Dynamics that change: each change against physics or a recompiled model, and how it is undone."""

from __future__ import annotations

import copy
import pickle

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import crl
import crl.envs  # registers the tasks
from crl.envs.car import CarEnv
from crl.envs.dynamic_tasks import DYNAMIC_STREAMS, DYNAMIC_TASKS
from crl.envs.dynamics import Change, DynamicsSchedule
from crl.envs.metaworld import MetaworldEnv
from crl.envs.quadrotor import QuadrotorEnv
from crl.envs.slide import SlideEnv
from crl.envs.ugv import UGVEnv
from crl.envs.unicycle import UnicycleEnv

MODEL_CHANGES = (Change("mass", 1.4), Change("friction", 0.5), Change("damping", 2),
                 Change("motor", 0.6))
ACTION_CHANGES = (Change("gain", -0.5, on=0), Change("delay", 2))
ENVS = {
    "half-cheetah": (lambda: gymnasium.make("HalfCheetah-v5"),
                     (*MODEL_CHANGES, *ACTION_CHANGES, Change("payload", 1, on="torso"))),
    "slide": (lambda: SlideEnv(0.2), (*MODEL_CHANGES, *ACTION_CHANGES)),
    "push-v3": (lambda: MetaworldEnv("push-v3"),
                (*MODEL_CHANGES, *ACTION_CHANGES, Change("payload", 0.3, on="obj"))),
    "ugv": (lambda: UGVEnv("eight"), (*MODEL_CHANGES, *ACTION_CHANGES, Change("slip", 0.3))),
    "quadrotor": (QuadrotorEnv, (*MODEL_CHANGES, *ACTION_CHANGES, Change("wind", 3, on="x"))),
    "unicycle": (UnicycleEnv, (*ACTION_CHANGES, Change("slip", 0.3, on="left"))),
}


def changed(change, **times):
    """The same change at other times."""
    return Change(change.what, change.value, change.on, **times)


def actions_for(env, steps=12, seed=0):
    space = env.action_space
    drawn = np.random.default_rng(seed).uniform(space.low, space.high, (steps, *space.shape))
    return drawn.astype(np.float32)


def episode(env, actions, seed=5):
    """Observations and rewards of an episode, as one array of numbers."""
    rows = [np.append(env.reset(seed=seed)[0], 0)]
    for action in actions:
        obs, reward, *_ = env.step(action)
        rows.append(np.append(obs, reward))
    return np.array(rows)


def known(env, steps, seed=0):
    """``info["dynamics"]`` of the first steps of an episode."""
    env.reset(seed=seed)
    return [env.step(np.zeros(env.action_space.shape, np.float32))[4]["dynamics"]
            for _ in range(steps)]


def numbers(model):
    """Every number that a model consists of, by name."""
    found = {}
    for prefix, owner in (("", model), ("opt.", model.opt), ("stat.", model.stat)):
        for name in dir(owner):
            value = getattr(owner, name)
            if not name.startswith("_") and isinstance(value, (np.ndarray, int, float)):
                found[prefix + name] = np.copy(value)
    return found


def differing(one, other):
    return sorted(name for name in one if not np.array_equal(one[name], other[name],
                                                             equal_nan=one[name].dtype.kind == "f"))


# ---- any environment ----


@pytest.mark.parametrize("name", ENVS)
def test_without_a_change_an_episode_is_the_plain_one_to_the_last_bit(name):
    make, changes = ENVS[name]
    never = tuple(changed(c, start=1000) for c in changes)
    plain, env = make(), DynamicsSchedule(make(), never)
    actions = actions_for(plain)
    for _ in range(2):
        assert (episode(env, actions) == episode(plain, actions)).all()


@pytest.mark.parametrize("name", ENVS)
def test_what_has_changed_acts_and_is_undone_at_the_reset_and_at_the_end(name):
    make, changes = ENVS[name]
    plain = make()
    actions = actions_for(plain)
    usual = episode(plain, actions)
    env = DynamicsSchedule(make(), [changed(c, unit="episodes", stop=1) for c in changes])
    different = episode(env, actions)
    assert (different[0] == usual[0]).all()  # it stands where it always does
    assert np.abs(different[1:] - usual[1:]).max() > 1e-3
    assert (episode(env, actions) == usual).all()
    assert env.observation_space == plain.observation_space


@pytest.mark.parametrize("name", [name for name in ENVS if name != "unicycle"])
def test_the_model_is_restored_to_the_last_bit(name):
    make, changes = ENVS[name]
    plain = make()
    plain.reset(seed=2)
    usual = numbers(plain.unwrapped.model)
    env = DynamicsSchedule(make(), [changed(c, unit="episodes", stop=1, period=2)
                                    for c in changes])
    for undo in (lambda: env.reset(seed=2), env.close):
        env.reset(seed=2)
        env.step(actions_for(env)[0])
        touched = differing(usual, numbers(env.unwrapped.model))
        assert {"body_mass", "geom_friction", "actuator_gainprm"} <= set(touched)
        undo()
        assert differing(usual, numbers(env.unwrapped.model)) == []


@pytest.mark.parametrize("name", ENVS)
def test_gymnasiums_checker_is_content(name):
    make, changes = ENVS[name]
    check_env(DynamicsSchedule(make(), changes), skip_render_check=True)


def test_a_pickled_episode_goes_on_as_changed():
    env = DynamicsSchedule(MetaworldEnv("push-v3"), ENVS["push-v3"][1])
    actions = actions_for(env)
    whole = episode(env, actions)
    episode(env, actions[:6])
    env = pickle.loads(pickle.dumps(env))
    rest = [np.append(*env.step(a)[:2]) for a in actions[6:]]
    assert (np.array(rest) == whole[7:]).all()
    assert (episode(env, actions) == whole).all()


# ---- each change against what it should be ----


def first_speed(changes, force=(1.0, 0.5), friction=0.0):
    env = DynamicsSchedule(CarEnv(friction), changes)
    env.reset(seed=0)
    env.unwrapped.set_state(np.zeros(2), np.zeros(2))
    return env.step(np.array(force, np.float32))[0][2:]


@pytest.mark.parametrize(("changes", "kilograms"), [
    ([Change("mass", 2.5)], 2.5), ([Change("mass", 0.5, on="car")], 0.5),
    ([Change("payload", 0.7, on="car")], 1.7),
    ([Change("payload", 1, on="car"), Change("mass", 2)], 3.0),  # a payload is what it is
    ([Change("mass", 2), Change("mass", 2)], 4.0)])
def test_acceleration_is_force_by_mass(changes, kilograms):
    np.testing.assert_allclose(first_speed(changes), np.array([1, 0.5]) * 0.1 / kilograms,
                               rtol=1e-5)


def test_a_heavier_model_is_the_one_that_would_have_been_compiled():
    spec = mujoco.MjSpec.from_file(str(SlideEnv(0.2).fullpath))
    for name in ("first", "second"):
        spec.geom(name).mass *= 1.5
    spec.geom("finger").mass *= 1.5
    compiled, made = spec.compile(), DynamicsSchedule(SlideEnv(0.2), [Change("mass", 1.5)])
    made.reset(seed=0)
    for name in ("body_mass", "body_inertia", "body_subtreemass", "body_invweight0",
                 "dof_invweight0", "dof_M0", "actuator_acc0"):
        np.testing.assert_allclose(getattr(made.unwrapped.model, name), getattr(compiled, name),
                                   rtol=1e-12, err_msg=name)
    assert made.unwrapped.model.stat.meaninertia == pytest.approx(compiled.stat.meaninertia)


def test_damping_and_weak_motors_are_those_of_another_car():
    actions = actions_for(CarEnv(1.0), 20)
    damped = DynamicsSchedule(CarEnv(1.0), [Change("damping", 1.5)])
    np.testing.assert_allclose(episode(damped, actions), episode(CarEnv(1.5), actions), atol=1e-5)
    one = first_speed([Change("damping", 3, on="x")], friction=1.0)
    apart = first_speed([], friction=3.0)[0], first_speed([], friction=1.0)[1]
    np.testing.assert_allclose(one, apart, rtol=1e-5)
    np.testing.assert_allclose(first_speed([Change("motor", 0.4, on="y")]), (0.1, 0.02), rtol=1e-5)
    np.testing.assert_allclose(first_speed([Change("motor", 0.4, on=1)]), (0.1, 0.02), rtol=1e-5)


@pytest.mark.parametrize("factor", [0.15, 0.3])
def test_on_ice_a_vehicle_brakes_over_the_distance_that_coulomb_says(factor):
    """v² / 2 a: wheels brake by μ times what they carry, and the front caster, 0.33 m ahead of
    them, carries a h / 0.33 g of the vehicle, h being how high its centre of mass is."""
    env = DynamicsSchedule(UGVEnv("eight"), [Change("friction", factor, start=10)])
    env.reset(seed=0)
    for _ in range(10):
        obs = env.step(np.float32([1, 0]))[0]
    start, speed = obs[0], obs[3]
    for _ in range(25):
        obs = env.step(np.float32([0, 0]))[0]
    assert obs[3] == pytest.approx(0, abs=1e-3)
    friction, height = 0.8 * factor, env.unwrapped.data.subtree_com[0, 2]
    deceleration = friction * 9.81 / (1 + friction * height / 0.33)
    assert obs[0] - start == pytest.approx(speed**2 / (2 * deceleration), rel=0.05)


def test_friction_of_one_wheel_turns_a_vehicle_that_accelerates():
    env = DynamicsSchedule(UGVEnv("eight"), [Change("friction", 0.05, on="left")])
    env.reset(seed=0)
    assert env.step(np.float32([1, 0]))[0][5] > 0.1  # the right wheel pushes
    mirror = DynamicsSchedule(UGVEnv("eight"), [Change("friction", 0.05, on="right")])
    mirror.reset(seed=0)
    assert mirror.step(np.float32([1, 0]))[0][5] < -0.1


@pytest.mark.parametrize("name", ["half-cheetah", "push-v3", "slide", "unicycle"])
def test_a_gain_of_minus_one_mirrors_the_action(name):
    make, _ = ENVS[name]
    env = DynamicsSchedule(make(), [Change("gain", -1)])
    actions = actions_for(env)
    np.testing.assert_array_equal(episode(env, -actions), episode(make(), actions))


@pytest.mark.parametrize("late", [1, 3])
@pytest.mark.parametrize("name", ["half-cheetah", "push-v3", "ugv", "unicycle"])
def test_a_delay_shifts_actions_by_exactly_that_many_steps(name, late):
    make, _ = ENVS[name]
    env = DynamicsSchedule(make(), [Change("delay", late)])
    actions = actions_for(env)
    sent = np.concatenate((np.zeros_like(actions[:late]), actions[:-late]))
    for _ in range(2):  # nothing is left of the episode before
        assert (episode(env, actions) == episode(make(), sent)).all()


def test_explicit_contact_pairs_lose_friction_as_well():
    xml = """<mujoco><worldbody><geom name="floor" type="plane" size="1 1 1"/>
      <body name="a" pos="0 0 1"><freejoint/><geom name="a" size="0.1"/></body>
      <body name="b" pos="1 0 1"><freejoint/><geom name="b" size="0.1"/></body></worldbody>
      <contact><pair geom1="a" geom2="floor" friction="0.8 0.8 0.1 0.1 0.1"/>
      <pair geom1="a" geom2="b" friction="0.6 0.6 0.1 0.1 0.1"/></contact></mujoco>"""

    class Balls(gymnasium.Env):
        observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,))
        model = mujoco.MjModel.from_xml_string(xml)
        data = mujoco.MjData(model)

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

    DynamicsSchedule(Balls(), [Change("friction", 0.5, on="floor")]).reset(seed=0)
    np.testing.assert_allclose(Balls.model.pair_friction[:, :3], [[0.4, 0.4, 0.1], [0.6, 0.6, 0.1]])
    assert Balls.model.geom_friction[0].tolist() == [0.5, 0.005, 0.0001]


# ---- when ----


@pytest.mark.parametrize(("times", "expected"), [
    ({"start": 3}, [1, 1, 1, 2, 2, 2, 2, 2, 2]),
    ({"start": 2, "stop": 4}, [1, 1, 2, 2, 1, 1, 1, 1, 1]),
    ({"start": 1, "ramp": 4}, [1, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2]),
    ({"start": 1, "stop": 3, "period": 4}, [1, 2, 2, 1, 1, 2, 2, 1, 1]),
    ({"stop": 3, "ramp": 2, "period": 4}, [1, 1.5, 2, 1, 1, 1.5, 2, 1, 1])])
def test_steps_ramps_and_recurring_changes(times, expected):
    env = DynamicsSchedule(CarEnv(0.0), [Change("mass", 2, **times)])
    for _ in range(2):
        assert [d["mass"] for d in known(env, 9)] == expected
    speeds = []
    env.reset(seed=0)
    for _ in range(9):  # what is told is what the step was simulated with
        before = env.unwrapped.data.qvel[0]
        env.step(np.float32([1, 0]))
        speeds.append(env.unwrapped.data.qvel[0] - before)
    np.testing.assert_allclose(0.1 / np.array(speeds), expected, rtol=1e-6)


def test_changes_over_a_lifetime_of_episodes():
    env = DynamicsSchedule(CarEnv(0.0), [
        Change("damping", 3, start=1, stop=2, period=2, unit="episodes"),
        Change("mass", (2, 3), start=1, unit="episodes")])
    seen = [known(env, 2, seed) for seed in range(5)]
    assert [[d["damping"] for d in e] for e in seen] == [[1, 1], [3, 3], [1, 1], [3, 3], [1, 1]]
    masses = [d["mass"] for e in seen for d in e]
    assert masses[:2] == [1, 1]
    assert 2 <= masses[2] <= 3
    assert len(set(masses[2:])) == 1  # it occurs once, and is drawn once


def test_ranges_are_drawn_by_the_seed_and_by_nothing_else():
    def make():
        return DynamicsSchedule(UGVEnv("eight"), [
            Change("gain", (-2.5, 2.5), on=0, stop=3, period=4), Change("slip", (0, 1), on="left")])

    env = make()
    first, again, other = known(env, 8, 1), known(env, 8, 1), known(env, 8, 2)
    assert first == again == known(make(), 8, 1)
    gains = [d["gain:0"] for d in first]
    assert gains[0] == gains[1] == gains[2] != gains[4] == gains[5]
    assert gains[3] == gains[7] == 1
    assert -2.5 <= min(gains) < max(gains) <= 2.5
    assert {d["slip:left"] for d in first}.isdisjoint(d["slip:left"] for d in other)
    start, info = env.reset(seed=4)
    assert (start == UGVEnv("eight").reset(seed=4)[0]).all()
    assert info["dynamics"].keys() == {"gain:0", "slip:left"}
    env.reset()  # without a seed the draws go on
    assert env.reset()[1]["dynamics"] != info["dynamics"]


def test_changes_of_the_same_thing_add_up():
    env = DynamicsSchedule(UGVEnv("eight"), [
        Change("mass", 2, on="base"), Change("mass", 1.5, on="base"), Change("delay", 1),
        Change("delay", 2, start=1), Change("slip", 0.2), Change("slip", 0.1, on="left")])
    usual = UGVEnv("eight").model.body("base").mass[0]
    values = known(env, 2)
    assert [v["delay"] for v in values] == [1, 3]
    assert values[0]["mass:base"] == 3
    assert env.unwrapped.model.body("base").mass[0] == pytest.approx(3 * usual)
    np.testing.assert_allclose(env.unwrapped.slip, (0.3, 0.2))


# ---- streams ----


@pytest.mark.parametrize("name", DYNAMIC_STREAMS)
def test_streams_are_made_of_tasks_that_can_be_sent_and_run(name):
    stream = crl.make_stream(name, horizon=3)
    assert len(stream) >= 4
    for task in stream:
        env = stream.make(pickle.loads(pickle.dumps(task)))
        env.reset(seed=0)
        ends = [env.step(np.zeros(env.action_space.shape, np.float32))[2:] for _ in range(3)]
        assert [truncated for _, truncated, _ in ends] == [False, False, True]
        info = ends[0][2]
        assert "success" in info
        assert ("dynamics" in info) == bool(DYNAMIC_TASKS[task.name].changes
                                            if task.name in DYNAMIC_TASKS else False)


@pytest.mark.parametrize("task", ["ugv-ice", "push-v3-mirrored", "skid-slalom-tracking"])
def test_gymnasium_makes_them_too(task):
    env = gymnasium.make(f"crl/{task}")
    assert env.reset(seed=0)[0].shape == env.observation_space.shape


# ---- what cannot be ----


@pytest.mark.parametrize(("arguments", "message"), [
    (("mas", 2), "what must be one of mass, payload"),
    (("mass", 0), "mass must be above 0"), (("friction", -1), "friction must not be negative"),
    (("mass", (3, 2)), "a low and a high one"), (("mass", (1, 2, 3)), "one number or two"),
    (("gain", np.nan), "finite"), (("slip", 1.5, "left"), "0 to 1"),
    (("payload", 1), "payload needs on: a body"), (("wind", 1), "needs on: x, y or z"),
    (("delay", 2, 0), "leave on=0 out"), (("mass", 2, None, -1), "start and ramp"),
    (("mass", 2, None, 5, 5), "stop must be after start, 5, got 5"),
    (("mass", 2, None, 0, None, 0, 0), "period must be above 0"),
    (("mass", 2, None, 0, None, 0, None, "hours"), "unit must be one of steps, episodes")])
def test_a_change_that_cannot_be_is_no_change(arguments, message):
    with pytest.raises(crl.UserError, match=message):
        Change(*arguments)


@pytest.mark.parametrize(("make", "change", "message"), [
    (UGVEnv, Change("mass", 2, on="bsae"), "unknown body 'bsae'; did you mean 'base'"),
    (UGVEnv, Change("motor", 2, on="middle"), "known: left, right; a number from 0 to 1"),
    (UGVEnv, Change("friction", 2, on="tyre"), "unknown geom 'tyre'"),
    (UGVEnv, Change("damping", 2, on=9), "unknown joint 9"),
    (UGVEnv, Change("gain", 2, on=2), "unknown entry of the action 2"),
    (UGVEnv, Change("slip", 0.5, on="front"), "unknown wheel 'front'; known: left, right"),
    (UGVEnv, Change("wind", 2, on="x"), "wind needs air"),
    (QuadrotorEnv, Change("wind", 2, on="w"), "unknown axis 'w'; known: x, y, z"),
    (QuadrotorEnv, Change("slip", 0.5), "slip is of wheels, which QuadrotorEnv has not"),
    (UnicycleEnv, Change("friction", 0.5), "MuJoCo model, which UnicycleEnv has not"),
    (lambda: CarEnv(0.0), Change("mass", 2, unit="progress"), "CarEnv has no progress"),
    (lambda: gymnasium.make("CartPole-v1"), Change("delay", 2), "actions in a flat Box")])
def test_what_a_robot_has_not_cannot_change(make, change, message):
    with pytest.raises(crl.UserError, match=message):
        DynamicsSchedule(make(), [change])


def test_a_deep_copy_is_an_episode_of_its_own():
    env = DynamicsSchedule(CarEnv(0.5), [Change("mass", 2, start=3)])
    env.reset(seed=0)
    twin = copy.deepcopy(env)
    for _ in range(5):
        twin.step(np.float32([1, 0]))
    assert env.unwrapped.model.body("car").mass[0] == 1
    assert twin.unwrapped.model.body("car").mass[0] == 2
