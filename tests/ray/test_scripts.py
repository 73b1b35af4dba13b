"""The scripts that users copy, on a pendulum; and the rows of the benchmark."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest
from test_tune import LAUNCH

import crl
from crl.tune import trial_runs

SLOW = pytest.mark.skipif("CRL_SLOW" not in os.environ, reason="slow; type: CRL_SLOW=1 pytest")
ONE = {"name": "Pendulum-v1", "steps_per_task": 200, "horizon": 25}


def script(name: str, monkeypatch, **constants):
    """An experiment's module, with other constants."""
    path = Path(__file__).parents[2] / "experiments" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for constant, value in constants.items():
        assert hasattr(module, constant)
        monkeypatch.setattr(module, constant, value)
    return module


def test_a_grid(rays, tmp_path, monkeypatch):
    script("tune_grid", monkeypatch, STREAM=LAUNCH["stream"], AGENT=LAUNCH["agent"],
           METHODS=("", "packnet"), SEEDS=(3,), OUT=tmp_path / "grid").main()
    runs = [crl.Run(folder) for folder in trial_runs(tmp_path / "grid")]
    assert {run.label for run in runs} == {"sac + fine-tuning", "sac + packnet"}
    assert all(run.status == "finished" for run in runs)


@SLOW
def test_those_that_lag_are_stopped(rays, tmp_path, monkeypatch):
    module = script("tune_search", monkeypatch, TASKS=("Pendulum-v1",), STEPS=300, SAMPLES=4,
                    OUT=tmp_path)
    module.asha()
    lengths = [crl.Run(run).evals()["env_step"][-1] for run in trial_runs(
        tmp_path / "asha-Pendulum-v1")]
    assert len(lengths) == 4
    assert max(lengths) == 300


@SLOW
def test_those_that_lag_take_over_from_others(rays, tmp_path, monkeypatch):
    module = script("tune_search", monkeypatch, SAMPLES=4, OUT=tmp_path, STREAM=ONE)
    module.pbt()
    runs = [crl.Run(run) for run in trial_runs(tmp_path / "pbt")]
    assert [run.status for run in runs] == ["finished"] * 4
    assert [run.evals()["env_step"][-1] for run in runs] == [200] * 4
    *_, note = (tmp_path / "pbt" / "pbt_global.txt").read_text().splitlines()
    *_, changed = json.loads(note)  # of the last that took over: the settings from then on
    assert changed["agent"]["learning_rate"] in [run.config["agent"]["learning_rate"]
                                                 for run in runs]


@SLOW
def test_the_benchmark(rays, monkeypatch):
    from crl.bench import BENCHES, rollout

    for name, value in {"_STEPS": 20, "_FRAGMENTS": 2, "_TURNS": 1}.items():
        monkeypatch.setattr(rollout, name, value)
    rows = list(BENCHES["rollout"]())
    assert [(row["case"].partition(",")[0], row["unit"], *row["peers"]) for row in rows] == [
        ("1 worker", "s/step", "one process"), ("1 worker", "CPU-s/step", "one process"),
        ("this process", "CPU-s/step", "its worker"), ("2 workers", "s/step", "one process"),
        ("2 workers", "s/step", "AsyncVectorEnv"), ("2 workers", "s/step", "SubprocVecEnv")]
    assert all(row["ours"] > 0 for row in rows)
