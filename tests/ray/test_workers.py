"""Evaluation by workers: the rows of one process, whatever dies; and clear words when it cannot."""

from __future__ import annotations

import pytest
from faulty import faulty
from support import differences, read_state
from toy import corners

import crl
from crl.agent import Policy
from crl.rollout import Wanted, play_all
from crl.workers import Workers

SMALL = {"hidden": (16,), "batch_size": 8, "start_steps": 20, "update_after": 20}


def policy_of(stream: crl.TaskStream, position: int = 0) -> Policy:
    return crl.make_agent("sac", stream, seed=3, **SMALL).policy(stream[position])


def train(out, stream, **settings):
    agent = crl.make_agent("sac", stream, seed=1, **SMALL)
    return crl.train(agent, stream, ["ewc"], 1, out, eval_episodes=5, eval_every=50, **settings)


@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_those_of_this_process(rays, deterministic):
    stream = corners(2)
    here, there = (crl.evaluate(policy_of(stream), stream[0], 7, seed=2, workers=workers,
                                deterministic=deterministic) for workers in (0, 2))
    assert here == there
    assert len({episode.reward_sum for episode in here}) == 7


def test_a_run_with_workers_is_the_run_without(rays, tmp_path):
    states = []
    for workers in (0, 2):
        run = train(tmp_path / str(workers), corners(2, 100), workers=workers)
        assert run.config["train"].pop("workers") == workers
        states.append(read_state(run.folder))
        states[-1]["info"]["config"]["train"].pop("workers")
    assert differences(*states) == []


def test_a_worker_that_is_killed_loses_nothing(rays, tmp_path):
    undisturbed, killed = (train(tmp_path / fault, faulty(fault, tmp_path), workers=workers)
                           for fault, workers in (("none", 0), ("kill", 2)))
    assert {path.name for path in tmp_path.glob("kill-*")} == {"kill-0", "kill-1"}
    for name in ("return", "seed", "length", "success_once", "env_step", "episode"):
        assert undisturbed.evals()[name].tolist() == killed.evals()[name].tolist()


def test_an_error_of_an_environment_is_raised_here_with_where_it_was(rays, tmp_path):
    stream = faulty("raise", tmp_path)
    with pytest.raises(ZeroDivisionError, match="a bug of the environment's") as caught:
        crl.evaluate(policy_of(stream), stream[0], 4, workers=2)
    assert "faulty.py" in str(caught.value.__cause__)
    with pytest.raises(crl.UserError, match=r"takes observations of shape") as caught:
        crl.evaluate(policy_of(stream), crl.make_stream("CartPole-v1")[0], workers=2)
    assert len(str(caught.value).splitlines()) == 1


def test_a_hung_environment_stops_the_run_with_a_clear_message(rays, tmp_path):
    stream = faulty("hang", tmp_path)
    with pytest.raises(crl.UserError, match=r"'corner-0' has not ended within 1.5 s, of seeds \d+"):
        train(tmp_path / "run", stream, workers=2, episode_limit_s=1.5)
    run = crl.Run(tmp_path / "run", stream)
    assert run.status == "failed"
    assert not len(run.evals()["seed"])
    # Nothing that hung is left; the workers are free for others.
    fine = corners(1)
    assert len(crl.evaluate(policy_of(fine), fine[0], 2, workers=2)) == 2


def test_what_is_not_finite_is_so_for_both(rays, tmp_path):
    stream = faulty("nan", tmp_path)
    here, there = (crl.evaluate(policy_of(stream), stream[0], 3, workers=workers)
                   for workers in (0, 1))
    assert [e.reward_sum == e.reward_sum for e in here] == [True, False, True]
    assert str(here) == str(there)
    with pytest.raises(crl.UserError, match="not finite at step 9 of the episode with seed"):
        train(tmp_path / "run", stream, workers=2)


def test_policies_go_to_workers_once(rays, tmp_path):
    """Blocks of one evaluation share one object of Ray's."""
    stream, put = corners(2), []
    with Workers(2) as workers:
        original = workers.put
        workers.put = lambda value: put.append(value) or original(value)
        wanted = [Wanted(policy_of(stream, i), stream[i], range(6)) for i in (0, 1)]
        assert len(list(play_all(workers, wanted))) == 12
        assert workers.cpu_s > 0
    assert put == [one.policy for one in wanted]


def test_no_workers_is_this_process():
    with Workers(0) as workers:
        assert list(workers.map(pow, [(2, 3), (3, 2)])) == [8, 9]
        assert workers.put(put := object()) is put
    with pytest.raises(crl.UserError, match="workers must be a whole number from 0"):
        Workers(-1)
