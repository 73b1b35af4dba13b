"""The memory protocol: what a test is of, what it refuses, and that its control remembers nothing.
"""

from __future__ import annotations

import numpy as np
import pytest

import crl
from crl.agent import Policy, PolicySpec
from crl.cli import main
from crl.memory_evaluation import evaluate_memory, judge


@pytest.mark.parametrize(("context", "horizons", "kind"), [
    (1, [2], "long-term"), (1, [11, 101], "long-term"), (10, [11, 101], "long-term"),
    (11, [11], "short-term"), (101, [11, 101], "short-term"), (500, [11, 101], "short-term"),
    (11, [11, 101], None), (50, [11, 101], None), (100, [11, 101], None), (100, [101, 11], None)])
def test_what_a_test_is_of(context, horizons, kind):
    if kind is None:
        with pytest.raises(crl.UserError, match="some need long-term memory and some do not"):
            judge(context, horizons)
    else:
        assert judge(context, horizons) == kind


class Rememberer(Policy):
    """Walks, and turns as the first observation said; its state is that clue."""

    def __init__(self, task, context=1) -> None:
        zeros, ones = np.zeros(4, np.float32), np.ones(4, np.float32)
        self.spec = PolicySpec(task, -ones, ones, zeros, ones, True, ((1,),), context)

    def seed(self, seed) -> None: ...

    def step(self, obs, state, first, deterministic=True):
        clue = np.where(first[:, None], obs[:, 1:2], state[0])
        turn = np.where(clue[:, 0] > 0, 1, 3)
        return np.eye(4, dtype=np.float32)[np.where(obs[:, 2] > 0, turn, 0)], (clue,)


def test_a_policy_that_remembers_beside_itself_without_memory():
    stream = crl.make_stream("t-maze-5", steps_per_task=10)
    rows = list(evaluate_memory(Rememberer("t-maze-5"), stream[0], stream.options, (5, 40), 60))
    assert [(row.task, row.horizon, row.kind) for row in rows] == [
        ("t-maze-5", 6, "long-term"), ("t-maze-40", 41, "long-term")]
    for row in rows:
        assert row.success.all()
        assert 0.3 < row.control.mean() < 0.7
        assert row.chance == 0.5


def test_what_is_seen_at_once_counts_with_the_frames_of_the_stream():
    for options, context, kind in (({}, 6, "short-term"), ({"frame_stack": 6}, 1, "short-term"),
                                   ({"frame_stack": 5}, 1, "long-term"),
                                   ({"frame_stack": 3}, 4, "short-term")):
        stream = crl.make_stream("t-maze-5", **options)
        policy = Rememberer("t-maze-5", context)
        policy.step = lambda obs, state, first, deterministic=True: (
            np.eye(4, dtype=np.float32)[np.zeros(len(obs), int)], state)
        (row,) = evaluate_memory(policy, stream[0], stream.options, episodes=2)
        assert row.kind == kind


@pytest.mark.parametrize(("task", "lengths", "hint"), [
    ("Pendulum-v1", (), "is no memory task"),
    ("repeat-previous-easy", (5,), "one length only"),
    ("t-maze-5", (3, 30), "choose --lengths all below"),
    ("t-maze-5", (10**7,), "unknown")])
def test_what_cannot_be_tested(task, lengths, hint):
    stream = crl.make_stream(task)
    with pytest.raises(crl.UserError, match=hint):
        list(evaluate_memory(Rememberer(task, 10), stream[0], stream.options, lengths, 2))


def test_the_command(tmp_path, capsys):
    stream = crl.make_stream("memory-length-3", steps_per_task=40)
    agent = crl.make_agent("recurrent-sac", stream, memory_size=4, hidden=(4,))
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1)
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(tmp_path / "run"), "--memory", "--lengths", "3,9", "--episodes", "8"])
    assert stopped.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [
        ["memory-length-3", "4", "long-term"], ["memory-length-9", "10", "long-term"]]
    with pytest.raises(SystemExit) as stopped:
        main(["eval", str(tmp_path / "run"), "--lengths", "3,x"])
    assert stopped.value.code == 2
    assert "expected a whole number above 0, got 'x'" in capsys.readouterr().err
