"""Rounds that workers play: one process's run, whatever dies; and clear words when it cannot."""

from __future__ import annotations

import pytest
from faulty import faulty
from support import differences, read_state
from test_explorers import SMALL, StopError, make, rings
from toy import corners

import crl

ROUNDS = {"eval_episodes": 2, "eval_every": 1000, "round_episodes": 3}


def train(out, stream, name="sac", workers=0, watch=None, **settings):
    ahead = 0 if name == "recurrent-ppo" else 1
    return crl.train(make(name, stream, seed=1), stream, [], 1, out, workers=workers, watch=watch,
                     **{**ROUNDS, "rounds_ahead": ahead, **settings})


def state(run: crl.Run):
    found = read_state(run.folder)
    found["info"]["config"]["train"].pop("workers")
    return found


@pytest.mark.parametrize("name", SMALL)
def test_a_run_is_the_same_whoever_plays(rays, name, tmp_path):
    here, there = (train(tmp_path / str(workers), rings(200), name, workers)
                   for workers in (0, 2))
    assert differences(state(here), state(there)) == []


def test_a_worker_that_is_killed_loses_nothing(rays, tmp_path):
    """An episode of each task kills who plays it, once."""
    undisturbed, killed = (train(tmp_path / fault, faulty(fault, tmp_path), workers=workers)
                           for fault, workers in (("none", 0), ("kill", 2)))
    assert {path.name for path in tmp_path.glob("kill-*")} == {"kill-0", "kill-1"}
    for name in ("return", "seed", "length", "success_once", "env_step", "episode"):
        assert undisturbed.train()[name].tolist() == killed.train()[name].tolist()
        assert undisturbed.evals()[name].tolist() == killed.evals()[name].tolist()


def test_a_run_that_is_stopped_while_workers_play_ahead_can_go_on(rays, tmp_path):
    def stop(progress):
        if progress.env_step >= 100:
            raise StopError

    whole = train(tmp_path / "whole", corners(2, 150), checkpoint_every=50)
    with pytest.raises(StopError):
        train(tmp_path / "stopped", corners(2, 150), workers=2, watch=stop, checkpoint_every=50)
    again = crl.resume(tmp_path / "stopped", corners(2, 150))
    assert differences(state(whole), state(again)) == []


@pytest.mark.parametrize(("fault", "error", "message"), [
    ("raise", ZeroDivisionError, "a bug of the environment's"),
    ("nan", crl.UserError, r"not finite at step 9 of the episode with seed \d+"),
    ("hang", crl.UserError, r"'corner-0' has not ended within 2 s, of seeds \d+"),
])
def test_a_fault_stops_the_run_with_its_whereabouts(rays, fault, error, message, tmp_path):
    stream = faulty(fault, tmp_path)
    with pytest.raises(error, match=message):
        train(tmp_path / "run", stream, workers=2, eval_episodes=1, episode_limit_s=2)
    assert crl.Run(tmp_path / "run", stream).status == "failed"
    assert len(crl.evaluate(make("sac", corners(1)).policy(corners(1)[0]), corners(1)[0], 2,
                            workers=2)) == 2  # the workers are free for others
