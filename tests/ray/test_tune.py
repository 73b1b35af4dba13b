"""Trials are runs of the command line, whatever dies; what fails is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import differences, read_state

import crl
import crl.tune
from crl import loop
from crl.launch import run_launch
from crl.report import report
from crl.run import read_info

LAUNCH = {
    "stream": {"name": "Pendulum-v1,Pendulum-v1", "steps_per_task": 100, "horizon": 25},
    "agent": {"name": "sac", "hidden": [16, 16], "start_steps": 40, "update_after": 20,
              "batch_size": 16, "replay_size": 100},
    "methods": [{"name": "ewc", "batches": 1, "batch_size": 32}], "seed": 3,
    "train": {"eval_every": 50, "eval_episodes": 2},
}


def killed_once(config):
    """A trial that kills itself, the first time, between two evaluations."""
    mark, original = Path(config.pop("mark")), loop.Loop._train_episode

    def train_episode(trainer, task):
        if trainer.progress.env_step == 125 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), 9)
        original(trainer, task)

    loop.Loop._train_episode = train_episode
    crl.tune.trainable(config)


@pytest.fixture(scope="module")
def killed(rays, tmp_path_factory):
    """The result of a trial that was killed on the way."""
    from ray import tune

    folder = tmp_path_factory.mktemp("tune")
    (result,) = tune.Tuner(
        killed_once, param_space={**LAUNCH, "mark": str(folder / "mark")},
        run_config=tune.RunConfig(
            name="trials", storage_path=str(folder), verbose=0,
            failure_config=tune.FailureConfig(max_failures=1),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1))).fit()
    assert (folder / "mark").exists()
    return result


@pytest.fixture
def folder(killed) -> Path:
    """Its run folder."""
    (checkpoint,) = Path(killed.path).glob("checkpoint_*")
    return checkpoint


def test_a_trial_that_is_killed_ends_as_a_run_of_the_command_line(killed, folder, tmp_path):
    launch = {**LAUNCH, "train": {**LAUNCH["train"], "checkpoint_every": "evaluation"}}
    run = run_launch(launch, tmp_path / "run")
    assert differences(read_state(folder), read_state(run.folder)) == []


def test_every_evaluation_is_reported_once(killed, folder):
    assert killed.metrics["training_iteration"] == 4
    assert (killed.metrics["env_step"], killed.metrics["train_task"]) == (200, 1)
    assert set(killed.metrics["success"]) == {"Pendulum-v1", "Pendulum-v1@2"}
    metrics = crl.Run(folder).metrics()
    assert {name: killed.metrics[name] for name in metrics} == metrics


def test_a_folder_of_trials_is_a_folder_of_runs(killed, folder, tmp_path):
    assert crl.tune.trial_runs(Path(killed.path).parent) == [folder]
    assert crl.tune.trial_runs(folder) == []
    assert report([folder], tmp_path / "report").exists()


def test_tensorboard_shows_what_was_reported(killed, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(killed.path).Reload()
    assert len(events.Scalars("ray/tune/performance")) == 4
    of_run = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [scalar.step for scalar in of_run.Scalars("eval/mean")] == [0, 50, 100, 150, 200]


def test_a_trial_goes_on_from_anothers_checkpoint_with_its_own_settings(tmp_path):
    """As in population-based training."""
    launch = crl.tune._launch_of({**LAUNCH, "train": {}})
    run = run_launch({**launch, "stream": {**launch["stream"], "steps_per_task": 25}},
                     tmp_path / "run")
    methods = [{"name": "ewc", "coefficient": 7.0}]
    crl.tune._configure(run.folder, {**launch, "stream": {"name": "Pendulum-v1,Pendulum-v1"},
                                     "agent": {"name": "sac", "learning_rate": 0.5}, "seed": 9,
                                     "methods": methods})
    agent = crl.Run(run.folder).agent()
    assert agent.config.learning_rate == 0.5
    assert agent.config.hidden == (16, 16)
    assert [(m.config.coefficient, m.config.batches) for m in agent.methods.items] == [(7.0, 1)]
    assert {group["lr"] for part in agent.parts.values()
            for group in part.optimizer.param_groups} == {0.5}
    assert read_info(run.folder)["seed"] == 9


@pytest.mark.parametrize(("config", "hint"), [
    ({"strem": {"name": "cw10"}}, "unknown section 'strem'"),
    ({"agent": {"learning_rate": 1e-3}}, "agent and each method need a name"),
    ({"train": {"workers": 2}}, "leave train.workers out"),
    ({"seed": "zero"}, "seed must be a whole number"),
])
def test_configurations_are_checked_as_launches_are(config, hint):
    with pytest.raises(crl.UserError, match=hint):
        crl.tune._launch_of(config)


def test_a_trial_takes_a_core_and_its_share_of_the_gpus_if_it_wants_one(rays, monkeypatch):
    monkeypatch.setattr(rays, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    for config, share in (({}, 0), ({"device": "cpu"}, 0), ({"device": "cuda"}, 0.25)):
        assert crl.tune._resources(config).required_resources == {
            "CPU": 1, **({"GPU": share} if share else {})}
