"""Names and units of what is observed and done; each stands where the number is."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

import crl
from crl.envs import terms as module
from crl.envs.terms import Term, parse, terms

TASKS = ("push-v3", "arm-plain", "arm-hidden-gains", "car-1.0", "cartpole-0.6", "cheetah-plain",
         "pusher-500-500", "slide-0.1", "door-pull", "unicycle-afm-1", "ugv-ice", "skid-eight",
         "quad-eight")


def make(task: str, **options):
    stream = crl.make_stream(task, **options)
    return stream.make(stream[0])


def names(task: str, **options) -> list[str]:
    return [term.name for term in terms(make(task, **options), task)[0]]


@pytest.mark.parametrize("task", TASKS)
def test_ours_all_say_them(task):
    env = make(task)
    for space, found in zip((env.observation_space, env.action_space), terms(env, task),
                            strict=True):
        assert len(found) == space.shape[0]
        assert len({term.name for term in found}) == len(found)
        assert all(term.unit for term in found)


def test_each_environment_that_is_named_is_there():
    used = {f"{cls.__module__}:{cls.__qualname__}" for task in TASKS
            for cls in type(make(task).unwrapped).__mro__}
    assert set(module._TERMS) <= used


def test_they_are_of_the_right_numbers():
    """Seen from what MuJoCo says of the robot."""
    env = make("ugv-eight")
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        obs, *_ = env.step(np.array([1.0, 0.3]))
    said = dict(zip((t.name for t in terms(env, "ugv-eight")[0]), obs, strict=True))
    base = env.unwrapped.data.body("base")
    assert said["position.x"] == pytest.approx(base.xpos[0], abs=1e-3)
    assert said["position.y"] == pytest.approx(base.xpos[1], abs=1e-3)
    assert said["velocity.forward"] == pytest.approx(1.0, abs=0.1)
    assert said["yaw_rate"] == pytest.approx(0.3, abs=0.1)

    env = make("push-v3")
    obs, info = env.reset(seed=0)
    said = dict(zip((t.name for t in terms(env, "push-v3")[0]), obs, strict=True))
    assert np.allclose([said[f"object1.{axis}"] for axis in "xy"], info["task_vector"][:2],
                       atol=0.05)
    assert np.allclose([said[f"goal.{axis}"] for axis in "xyz"], info["task_vector"][3:],
                       atol=1e-3)
    assert np.allclose([said[f"hand.{axis}"] for axis in "xyz"],
                       [said[f"before.hand.{axis}"] for axis in "xyz"])


def test_wrappers_are_seen_through():
    assert names("push-v3", partially_observable=True, goal_shown=1) == names("push-v3")
    hidden = names("arm-plain", hide_velocities=True)
    assert hidden == [n for n in names("arm-plain") if "speed" not in n]
    stacked = names("arm-plain", frame_stack=2, observe_reward=True)
    plain = names("arm-plain", observe_reward=True)
    assert plain[-1] == "reward"
    assert stacked == [f"t-1.{name}" for name in plain] + plain
    assert names("ugv-ice") == names("ugv-eight")  # whose dynamics change


def test_what_nobody_said_has_a_number():
    observation, action = terms(make("Pendulum-v1"), "Pendulum-v1")
    assert observation == [Term(f"obs[{i}]", None) for i in range(3)]
    assert action == [Term("action[0]", None)]
    _, choices = terms(make("CartPole-v1"), "CartPole-v1")
    assert choices == [Term("choice[0]", "1"), Term("choice[1]", "1")]
    changed = gymnasium.wrappers.FlattenObservation(gymnasium.wrappers.TransformObservation(
        make("arm-plain"), lambda obs: obs[:4], gymnasium.spaces.Box(-1, 1, (4,))))
    assert terms(changed, "arm")[0][0] == Term("obs[0]", None)


class Said(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    observation_terms = "wheel.{left,right} [rad/s]; slope"
    action_terms = "left,right [N m]"


def test_an_environment_says_its_own():
    observation, action = terms(Said(), "said")
    assert observation == [Term("wheel.left", "rad/s"), Term("wheel.right", "rad/s"),
                           Term("slope", None)]
    assert action == [Term("left", "N m"), Term("right", "N m")]
    Said.observation_terms = "x,y [m]"
    with pytest.raises(crl.UserError, match="observation_terms of Said must be 3"):
        terms(Said(), "said")
    Said.observation_terms = "x,y,x [m]"
    with pytest.raises(crl.UserError, match="3 different names"):
        terms(Said(), "said")


def test_braces():
    assert [t.name for t in parse("{a,b}.{x,y} [m]")] == ["a.x", "a.y", "b.x", "b.y"]
    assert parse("a,b [m/s]; c") == [Term("a", "m/s"), Term("b", "m/s"), Term("c", None)]
