"""The demo's watcher: progress is read from run folders, and a child's error is passed on."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from toy import corners

import crl
from crl import demo
from crl.loop import Progress


def test_progress_is_read_from_a_run_folder_while_it_grows(tmp_path):
    stream = corners(2, 100)
    folder = tmp_path / "run"
    assert demo.watch(folder, stream) is None
    seen: list[tuple[Progress, Progress]] = []

    def compare(progress: Progress) -> None:
        read = demo.watch(folder, stream)
        assert read is not None
        if progress.phase == "training":
            assert (read.env_step, read.task) == (progress.env_step, progress.task)
            assert read.train_success == pytest.approx(progress.train_success)
            assert read.eval_success == pytest.approx(progress.eval_success)
        seen.append((progress, read))

    agent = crl.make_agent("sac", stream, hidden=(8,), start_steps=1000, update_after=1000)
    crl.train(agent, stream, out=folder, watch=compare, eval_episodes=2)
    assert math.isnan(seen[0][1].train_success)
    assert seen[-1][1].phase == "finished"


def test_an_error_of_a_child_is_passed_on(tmp_path, monkeypatch):
    def start(folder, options, seed, errors):
        if options:  # the other run: it would go on for an hour
            return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        return subprocess.Popen([sys.executable, "-m", "crl", "train", "--stream", "no-such"],
                                stdout=subprocess.DEVNULL, stderr=errors, cwd=tmp_path)

    monkeypatch.setattr(demo, "_start", start)
    with pytest.raises(crl.UserError, match="stopped: unknown stream or task 'no-such'"):
        demo.demo(tmp_path / "demo", seed=0)
