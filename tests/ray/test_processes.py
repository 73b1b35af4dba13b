"""Real processes: a search from somebody's project, killed and interrupted; nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support import differences, read_rows, read_state
from test_scripts import SLOW

PROJECT = {
    "envs/__init__.py": "",
    "envs/ramp.py": '''
import gymnasium
import numpy as np
from functools import partial
from crl import Task, TaskStream

class Ramp(gymnasium.Env):
    """A ball on a ramp, to be held at 0."""

    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, slope, render_mode=None):
        self.slope = slope

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-1, 1, 2), 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        position, speed = self.state
        speed = speed + 0.1 * (float(action[0]) - self.slope)
        self.state = np.clip([position + 0.1 * speed, speed], -9, 9)
        self.steps += 1
        info = {"success": abs(position) < 0.2}
        return self.state.astype(np.float32), -abs(position), False, self.steps >= 25, info

def make(name, options):
    return TaskStream([Task(f"ramp-{slope}", partial(Ramp, slope), options.steps_per_task, head)
                       for head, slope in enumerate((0.1, 0.3))], name=name)
''',
    "agents/__init__.py": '''
from crl import registry

registry.streams.add("ramps", "envs.ramp:make")
registry.agents.add("mine", "agents.mine:Mine")
''',
    "agents/mine.py": '''
from crl.agents.sac import SAC

class Mine(SAC):
    """An agent of the project's own."""

    name = "mine"
''',
    "start.py": '''
from pathlib import Path

import crl
import crl.tune
from crl.launch import run_launch
from crl.ray_session import session

LAUNCH = {"stream": {"name": "ramps", "steps_per_task": 150}, "seed": 3,
          "methods": [{"name": "ewc"}],
          "agent": {"name": "mine", "hidden": [16], "batch_size": 16, "start_steps": 40,
                    "update_after": 20},
          "train": {"eval_every": 50, "eval_episodes": 2}}

def trial(config):
    import agents  # whose names are then known
    crl.tune.trainable(config)

if __name__ == "__main__":
    import agents
    with session(2):
        from ray import tune
        folder = str(Path("found").resolve())
        if tune.Tuner.can_restore(folder):
            tuner = tune.Tuner.restore(folder, trial)
        else:
            tuner = tune.Tuner(trial, param_space=LAUNCH, run_config=tune.RunConfig(
                name="found", storage_path=str(Path.cwd()), verbose=0))
        crl.tune.check(tuner.fit())
        stream = crl.make_stream("ramps", steps_per_task=50)
        policy = crl.make_agent("mine", stream).policy(stream[1])
        assert (crl.evaluate(policy, stream[1], 4, workers=2)
                == crl.evaluate(policy, stream[1], 4))
    train = {**LAUNCH["train"], "checkpoint_every": "evaluation"}
    run_launch({**LAUNCH, "train": train}, Path("whole"))
''',
}


@pytest.fixture
def project(tmp_path) -> Path:
    for name, content in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *command], cwd=folder, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def when(happened, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Waits until something has happened; what the process has started by then."""
    while not happened():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    return psutil.Process(process.pid).children(recursive=True)


def nobody_is_left(started: list[psutil.Process], before: set[Path]) -> bool:
    _, alive = psutil.wait_procs(started, timeout=10)
    left = [process for process in alive
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    return not left and not set(Path("/tmp").glob("crl-ray-*")) - before


def test_a_search_from_a_project_whose_driver_is_killed(project, monkeypatch):
    before = set(Path("/tmp").glob("crl-ray-*"))
    first = start(project, "start.py")
    started = when(lambda: [*project.glob("found/*/checkpoint_000001/run.json")], first)
    first.kill()
    first.communicate()
    assert len(started) > 5
    assert nobody_is_left(started, before)

    second = start(project, "start.py")
    _, errors = second.communicate()
    assert second.returncode == 0, errors
    assert not set(Path("/tmp").glob("crl-ray-*")) - before
    trial = max(project.glob("found/*/checkpoint_*"))

    assert differences(read_state(trial), read_state(project / "whole")) == []
    assert len(read_rows(trial / "evals.csv")) == 2 * 2 * 7


def test_a_search_that_is_interrupted(tmp_path):
    before = set(Path("/tmp").glob("crl-ray-*"))
    settings = [word for name in ("stream.steps_per_task=2000", "stream.horizon=25",
                                  "agent.hidden=[16]", "train.eval_every=50")
                for word in ("--set", name)]
    process = start(tmp_path, "-m", "crl", "tune", "--stream", "Pendulum-v1", *settings,
                    "--search", "seed=grid(0,1)", "--workers", "2", "--out", "found")
    started = when(lambda: [*tmp_path.glob("found/*/checkpoint_*")], process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert errors == "crl: stopped; type the same command again to go on\n"
    assert nobody_is_left(started, before)


def printed(tmp_path, monkeypatch, script, *arguments):
    """What a script beside this file prints, which starts a Ray of its own."""
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(here.parent), prepend=os.pathsep)
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    out, errors = start(tmp_path, str(here / script), *arguments).communicate()
    return out or errors


@SLOW
def test_a_node_that_is_lost_loses_nothing(tmp_path, monkeypatch):
    assert "nodes 2, equal True" in printed(tmp_path, monkeypatch, "cluster.py", str(tmp_path))


def test_an_object_store_that_is_nearly_full_changes_nothing(tmp_path, monkeypatch):
    assert "left 0.05, equal True" in printed(tmp_path, monkeypatch, "scarce.py", "full")


@SLOW
def test_an_environment_that_leaks_costs_its_workers_alone(tmp_path, monkeypatch):
    """Nothing else may need much memory meanwhile."""
    folder = tmp_path / "processes"
    folder.mkdir()
    out = printed(tmp_path, monkeypatch, "scarce.py", "leak", str(folder))
    assert out.endswith(", equal True\n")
    assert len(list(folder.iterdir())) > 1
