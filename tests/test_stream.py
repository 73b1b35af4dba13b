"""Tasks and streams: sequences, protocols, spaces, and a stream as one environment."""

from __future__ import annotations

import itertools
import pickle
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import HORIZON, Corner, corners

import crl
from crl.envs.catalog import make_stream
from crl.registry import streams
from crl.stream import Task, TaskStream, check_spaces, make_env, space_bounds


def test_a_stream_is_a_sequence() -> None:
    stream = corners(3)
    names = ["corner-0", "corner-1", "corner-2"]
    assert len(stream) == 3
    assert [t.name for t in stream] == names
    assert [t.name for t in reversed(stream)] == names[::-1]
    assert [t.name for t in stream[1:]] == names[1:]
    assert stream[-1] is stream[2] is stream["corner-2"]
    assert stream.index(stream[1]) == stream.index("corner-1") == 1
    assert stream.count(stream[0]) == 1
    with pytest.raises(IndexError):
        stream[3]
    with pytest.raises(crl.UserError, match="unknown task 'corner-3'; did you mean 'corner-"):
        stream["corner-3"]


def test_membership_agrees_with_what_can_be_looked_up() -> None:
    stream, other = corners(2), corners(3)
    for task in (stream[0], "corner-1"):
        assert task in stream
        stream.index(task)
    for missing in (other[2], "corner-2", 0, None):
        assert missing not in stream


def test_what_a_stream_adds_up_to() -> None:
    stream = corners(3, 40)
    assert stream.steps == 120
    assert stream.heads == 3
    assert TaskStream([Task("a", Corner, 5, 0), Task("b", Corner, 6, 0)]).heads == 1
    assert repr(corners(2)) == "TaskStream('corners': corner-0, corner-1)"
    assert stream.observation_space == Corner.observation_space
    assert stream.action_space == Corner.action_space


@given(st.text(max_size=12))
@settings(max_examples=200)
def test_task_names_are_safe_as_names_of_files(name: str) -> None:
    """A name that is accepted stays in its folder and in its cell of a table."""
    try:
        Task(name, Corner, 1, 0)
    except crl.UserError:
        return
    parts = name.split("/")
    assert len(parts) <= 2
    assert all(part and not part.startswith(".") for part in parts)
    assert not set(name) & set(' ,:;"\'\n\r\t\\|[]{}<>*?$')


@pytest.mark.parametrize("name", ["push-v3", "push-v3@2", "ALE/Pong-v5", "a", "a.b+c_d", "é", "Ω1"])
def test_good_task_names(name: str) -> None:
    assert Task(name, Corner, 1, 0).name == name


# ---- protocols ----


def custom(*entries: tuple[str, int, int], boundaries: Any = "known") -> str:
    return TaskStream([Task(n, Corner, s, h) for n, s, h in entries],
                      boundaries=boundaries).protocol


def test_protocols_differ_when_anything_that_matters_does() -> None:
    protocols = [
        custom(("a", 10, 0), ("b", 10, 1)),
        custom(("b", 10, 0), ("a", 10, 1)),
        custom(("a", 10, 1), ("b", 10, 0)),
        custom(("a", 10, 0), ("b", 10, 0)),
        custom(("a", 10, 0), ("b", 20, 1)),
        custom(("a", 20, 0), ("b", 10, 1)),
        custom(("a", 10, 0)),
        custom(("a", 10, 0), ("b", 10, 1), ("c", 10, 2)),
        custom(("a", 10, 0), ("b", 10, 1), boundaries="hidden"),
        *(make_stream(*name, **options).protocol for name, options in NAMED),
    ]
    repeated = {p for p in protocols if protocols.count(p) > 1}
    assert not repeated


NAMED: list[tuple[tuple[str], dict[str, Any]]] = [
    *[((name,), {}) for name in ("quick3", "cw10", "cw20", *(f"cw-t{i}" for i in range(1, 9)))],
    (("cw10",), {"steps_per_task": 5}), (("cw10",), {"steps_per_task": 50}),
    (("cw10",), {"horizon": 5}), (("cw10",), {"horizon": 50}),
    (("cw10",), {"partially_observable": True}),
    (("cw10",), {"partially_observable": True, "goal_shown": 1}),
    (("cw10",), {"partially_observable": True, "goal_shown": 2}),
    (("cw10",), {"partially_observable": True, "horizon": 5}),
    (("push-v3",), {}), (("push-v3,reach-v3",), {}), (("reach-v3,push-v3",), {}),
    (("push-v3,push-v3",), {}), (("push-v3",), {"partially_observable": True}),
    (("Pendulum-v1",), {}), (("Pendulum-v1,Pendulum-v1",), {}), (("Pendulum-v1",), {"horizon": 9}),
]


def test_protocols_are_equal_when_nothing_differs() -> None:
    for name, options in NAMED:
        assert make_stream(*name, **options).protocol == make_stream(*name, **options).protocol
    usual = make_stream("quick3")
    assert make_stream("quick3", steps_per_task=usual[0].steps).protocol == usual.protocol
    assert corners(2, 10).protocol == corners(2, 10).protocol
    assert TaskStream([Task("a", Corner, 1, 0)], protocol="mine-v1").protocol == "mine-v1"


# ---- streams by name ----


def test_every_registered_stream_can_be_made() -> None:
    for name in streams.names():
        stream = make_stream(name)
        assert len(stream) >= 3
        assert stream.name == name
        assert len({t.name for t in stream}) == len(stream)
        assert [t.head for t in stream] == list(range(len(stream)))


def test_options_make_the_same_stream_again() -> None:
    for name, options in NAMED:
        stream = make_stream(*name, **options)
        assert stream.options is not None
        again = make_stream(**stream.options)
        assert again.protocol == stream.protocol
        assert [(t.name, t.steps, t.head) for t in again] == [
            (t.name, t.steps, t.head) for t in stream]
    assert corners().options is None


def test_a_task_that_comes_again_is_a_task_of_its_own() -> None:
    stream = make_stream("Pendulum-v1,Pendulum-v1, Pendulum-v1", horizon=7, steps_per_task=9)
    assert [t.name for t in stream] == ["Pendulum-v1", "Pendulum-v1@2", "Pendulum-v1@3"]
    assert [t.head for t in stream] == [0, 1, 2]
    assert [t.steps for t in stream] == [9, 9, 9]


def test_the_horizon_of_a_gymnasium_task() -> None:
    env = make_stream("Pendulum-v1", horizon=7)[0].make()
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(7)]
    assert ends == [(False, False)] * 6 + [(False, True)]


def test_tasks_can_be_sent_to_other_processes() -> None:
    stream = make_stream("Pendulum-v1,Pendulum-v1", horizon=7)
    env = pickle.loads(pickle.dumps(stream[1])).make()
    assert env.reset(seed=0)[0].shape == (3,)


# ---- spaces ----


class Other(Corner):
    """A corner with other bounds of what it sees, which agents do not depend on."""

    observation_space = Box(-3, 3, (3,), np.float32)


class Closing(Corner):
    """A corner that counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        Closing.closed += 1


class Wide(Closing):
    action_space = Box(-1, 1, (2,), np.float32)


class Picture(Closing):
    observation_space = Box(0, 255, (8, 8, 3), np.uint8)


def of(*kinds: type[Corner]) -> TaskStream:
    return TaskStream([Task(f"task-{i}", partial(kind, 0), 50, i) for i, kind in enumerate(kinds)])


def test_tasks_share_spaces() -> None:
    stream = of(Corner, Other)
    assert stream.make(stream[1]).observation_space == Other.observation_space
    low, high = space_bounds(stream.action_space)
    assert low.dtype == high.dtype == np.float32
    for kind, hint in ((Wide, "all must have the same bounds: wrap it in gymnasium"),
                       (Picture, "FlattenObservation")):
        stream = of(Corner, kind)
        before = Closing.closed
        with pytest.raises(crl.UserError, match=hint):
            stream.make(stream[1])
        assert Closing.closed == before + 1  # what cannot be used is not left open
    with pytest.raises(crl.UserError, match="FlattenObservation"):
        assert of(Picture).observation_space


def test_check_spaces_on_gymnasium() -> None:
    for name, good in (("Pendulum-v1", True), ("MountainCarContinuous-v0", True),
                       ("CartPole-v1", True), ("Taxi-v4", False), ("Blackjack-v1", False)):
        env = gymnasium.make(name)
        if good:
            assert check_spaces(env, name) == (env.observation_space, env.action_space)
        else:
            with pytest.raises(crl.UserError, match=f"task '{name}' has"):
                check_spaces(env, name)


def test_an_environment_that_cannot_be_made_names_its_task() -> None:
    def fail(error: Exception, render_mode: str | None = None) -> Any:
        raise error

    for error in (ImportError("No module named 'mars'"), FileNotFoundError(2, "No such file", "x"),
                  gymnasium.error.DependencyNotInstalled("pygame\nis not installed")):
        task = Task("rover", partial(fail, error), 5, 0)
        with pytest.raises(crl.UserError, match="task 'rover' cannot be made here: ") as caught:
            make_env(task)
        assert "\n" not in str(caught.value)
    with pytest.raises(ZeroDivisionError):  # a bug is not hidden
        make_env(Task("rover", partial(fail, ZeroDivisionError()), 5, 0))


# ---- as one environment ----


def play(env: gymnasium.Env[Any, Any], steps: int, seed: int) -> list[tuple[Any, ...]]:
    """(task, index, length, terminated, truncated) of each episode, the last one unfinished."""
    rng = np.random.default_rng(seed)
    episodes = []
    _, info = env.reset(seed=seed)
    length = 0
    for _ in range(steps):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        _, _, terminated, truncated, after = env.step(action)
        assert (after["task"], after["task_index"]) == (info["task"], info["task_index"])
        length += 1
        if terminated or truncated:
            episodes.append((info["task"], info["task_index"], length, terminated, truncated))
            _, info = env.reset()
            length = 0
    return [*episodes, (info["task"], info["task_index"], length, False, False)]


def test_a_stream_moves_through_its_tasks() -> None:
    """60 steps a task are two whole episodes and one cut at 10; the last task goes on."""
    episodes = play(corners(3, 60).as_env(), 230, 0)
    expected = [(f"corner-{i}", i, n, False, True) for i in range(2) for n in (25, 25, 10)]
    expected += [("corner-2", 2, 25, False, True)] * 4 + [("corner-2", 2, 10, False, False)]
    assert episodes == expected


def test_steps_of_episodes_given_up_count(tmp_path: Any) -> None:
    env = corners(2, 30).as_env()
    for _ in range(3):
        env.reset(seed=0)
        for _ in range(10):
            *_, truncated, info = env.step(np.zeros(2, np.float32))
    assert truncated
    assert info["task_index"] == 0
    assert env.reset()[1]["task_index"] == 1


def test_a_stream_closed_between_tasks_goes_on_with_the_next() -> None:
    env = corners(2, 5).as_env()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.float32))
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(2, np.float32))
    env.close()
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.float32))
    assert env.reset()[1]["task"] == "corner-1"
    env.close()
    env.close()


def test_an_episode_depends_on_its_seed_alone() -> None:
    """As the task itself would give it, whatever came before."""
    stream = corners(2, 1000)
    env = stream.as_env()
    play(env, 7, 1)
    obs, _ = env.reset(seed=5)
    alone = stream[0].make()
    np.testing.assert_array_equal(obs, alone.reset(seed=5)[0])
    for action in np.full((HORIZON, 2), 0.1, np.float32):
        for a, b in itertools.zip_longest(env.step(action)[:4], alone.step(action)[:4]):
            np.testing.assert_array_equal(a, b)


def test_unseeded_episodes_follow_from_the_first_seed() -> None:
    def starts(seed: int) -> list[list[float]]:
        env = corners(2, 1000).as_env()
        return [env.reset(seed=seed)[0].tolist(), *(env.reset()[0].tolist() for _ in range(4))]

    assert starts(3) == starts(3)
    assert starts(3) != starts(4)
    assert len({tuple(s) for s in starts(3)}) == 5


@pytest.mark.parametrize("stream", [
    corners(2, 60), make_stream("Pendulum-v1,Pendulum-v1", horizon=20, steps_per_task=50),
    make_stream("MountainCarContinuous-v0", horizon=20),
], ids=str)
def test_gymnasium_finds_nothing_to_complain_about(stream: TaskStream) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The bounds of its actions are a task's own choice.
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        check_env(stream.as_env(), skip_render_check=True)
