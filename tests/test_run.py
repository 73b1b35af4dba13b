"""The run folder: what is written, and what is read from it, finished or not."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import listing
from toy import HORIZON, corners

import crl
from crl import provenance
from crl.evaluation import evaluate
from crl.loop import Progress
from crl.provenance import describe_machine
from crl.rows import COLUMNS, SCHEMA, Rows, read_columns
from crl.run import Run

HEADER = ",".join(COLUMNS)
ROW = {"env_step": 5, "grad_step": 2, "wall_s": 1.25, "cpu_s": 0.5, "train_task": 0,
       "eval_task": 1, "episode": 3, "seed": 2**31 - 1, "return": -1.5, "success_once": True,
       "success_end": np.False_, "length": 25}


def test_the_columns_are_those_of_the_design() -> None:
    assert HEADER == ("env_step,grad_step,wall_s,cpu_s,train_task,eval_task,episode,seed,return,"
                      "success_once,success_end,length")


# ---- rows ----


def test_a_row_is_in_the_file_when_write_returns(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = Rows(path)
    assert path.read_text() == HEADER + "\n"
    assert rows.size == path.stat().st_size
    for number in range(3):
        rows.write({**ROW, "episode": number})
        assert len(path.read_text().splitlines()) == number + 2  # not yet closed
        assert rows.size == path.stat().st_size
    rows.sync()
    rows.close()
    with open(path, newline="") as file:
        read = list(csv.DictReader(file))
    assert read[2] == {"env_step": "5", "grad_step": "2", "wall_s": "1.25", "cpu_s": "0.5",
                       "train_task": "0", "eval_task": "1", "episode": "2", "seed": "2147483647",
                       "return": "-1.5", "success_once": "1", "success_end": "0", "length": "25"}


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(FileExistsError):
        Rows(tmp_path / "train.csv")
    assert (tmp_path / "train.csv").read_text() == "mine"


def test_rows_are_cut_back_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = Rows(path)
    rows.write(ROW)
    size = rows.size
    whole = path.read_bytes()
    rows.write({**ROW, "return": 9.0})
    rows.close()
    path.write_bytes(path.read_bytes() + b"5,2,1.2")  # and a line that a kill cut short
    longer = path.read_bytes()
    rows = Rows(path, keep=size)
    assert path.read_bytes() == longer  # nothing is lost before it is certain
    rows.cut()
    assert path.read_bytes() == whole
    assert rows.size == size
    rows.write({**ROW, "return": 7.0})
    rows.close()
    assert path.read_bytes().startswith(whole)
    assert read_columns(path)["return"].tolist() == [-1.5, 7.0]


@pytest.mark.parametrize("missing", [True, False])
def test_rows_that_are_not_there_cannot_be_kept(missing: bool, tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    if not missing:
        path.write_text(HEADER[:50])
    with pytest.raises(crl.UserError, match=r"train\.csv is shorter .* restore it from a copy"):
        Rows(path, keep=60)


row = st.fixed_dictionaries({
    name: (st.integers(0, 2**62) if kind is int else
           st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e-9, 123456.789]))
    for name, kind in COLUMNS.items()
})


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(row, max_size=5))
def test_columns_are_what_was_written(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    file = Rows(path)
    for values in rows:
        file.write(values)
    file.close()
    columns = read_columns(path)
    assert list(columns) == list(COLUMNS)
    for name, kind in COLUMNS.items():
        assert columns[name].dtype == kind
        expected = [values[name] for values in rows]
        if kind is int:
            assert columns[name].tolist() == expected
        else:
            np.testing.assert_allclose(columns[name], expected, rtol=5e-6)


def test_an_unfinished_last_line_is_left_out_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    rows = Rows(path)
    for number in range(2):
        rows.write({**ROW, "episode": number})
    rows.close()
    content = path.read_bytes()
    starts = [0, *(m.end() for m in re.finditer(b"\n", content))]
    for end in range(starts[1], len(content) + 1):
        path.write_bytes(content[:end])
        whole = sum(start - 1 <= end for start in starts[2:])  # lines end with \r\n: \r will do
        assert read_columns(path)["episode"].tolist() == list(range(whole))
    path.write_bytes(content[: starts[1] - 2])  # not even the header is finished
    with pytest.raises(crl.UserError, match="does not have the columns of schema"):
        read_columns(path)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "does not have the columns"),
        (b"a,b,c\n1,2,3\n", "does not have the columns"),
        (HEADER.encode()[:-3] + b"\n", "does not have the columns"),
        (HEADER.encode() + b"\n1,2,3\n", "a row that is not 12 numbers"),
        (HEADER.encode() + b"\n" + b"1," * 12 + b"1\n", "a row that is not 12 numbers"),
        (HEADER.encode() + b"\n" + b",".join([b"1"] * 11) + b",x\n", "not 12 numbers"),
        (HEADER.encode() + b"\n" + b",".join([b"1.5"] * 12) + b"\n", "not 12 numbers"),
        (HEADER.encode() + b"\n" + b",".join([b"9" * 30] * 12) + b"\n", "not 12 numbers"),
        (HEADER.encode() + b"\n" + b",".join([b"1"] * 12) + b"\n\n1\n", "not 12 numbers"),
        (HEADER.encode() + b"\n" + b'"' + b"1" * 200_000 + b"\n", "not 12 numbers"),
        (bytes(range(256)), "it is not text"),
    ],
)
def test_damaged_rows(content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / "evals.csv").write_bytes(content)
    with pytest.raises(crl.UserError) as error:
        read_columns(tmp_path / "evals.csv")
    assert hint in str(error.value)
    assert str(tmp_path / "evals.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(crl.UserError, match=r"cannot read .*train\.csv: No such file"):
        read_columns(tmp_path / "train.csv")


# ---- a run ----

TASKS, STEPS, EVERY, EPISODES = 3, 110, 50, 2


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Any, set[str]]:
    """A run, what a watcher saw of it, and the states that its run.json went through."""
    stream = corners(TASKS, STEPS)
    agent = crl.make_agent("sac", stream, seed=3, hidden=(16,), start_steps=20, update_after=30,
                           update_to_data=1.0, batch_size=8, n_step=2)
    folder = tmp_path_factory.mktemp("runs") / "a" / "b" / "run"
    seen: list[tuple[Any, ...]] = []
    states: set[str] = set()

    def watch(p: Progress) -> None:
        seen.append((p.phase, p.task, p.task_step, p.env_step, p.wall_s, list(p.eval_success)))
        states.add(Run(folder).status)

    run = crl.train(agent, stream, ["packnet"], 3, folder, watch=watch, eval_every=EVERY,
                    eval_episodes=EPISODES, checkpoint_every=60)
    return run, seen, states


def test_training_rows(watched: tuple[Run, Any, Any]) -> None:
    """Every step of the budget is in one episode, and a task's last one is cut where it ends."""
    rows = watched[0].train()
    assert rows["length"].tolist() == [25, 25, 25, 25, 10] * TASKS
    assert rows["env_step"].tolist() == np.cumsum(rows["length"]).tolist()
    assert rows["train_task"].tolist() == rows["eval_task"].tolist() == [
        i for i in range(TASKS) for _ in range(5)]
    assert rows["episode"].tolist() == list(range(5 * TASKS))
    assert len(set(rows["seed"])) == 5 * TASKS
    # After 30 steps of a task a gradient step each, and PackNet's retraining before the next one.
    retraining = round(0.1 * 80)
    ends = rows["grad_step"][rows["env_step"] % STEPS == 0]
    assert ends.tolist() == [80, 160 + retraining, 240 + 2 * retraining]
    assert (np.diff(rows["wall_s"]) >= 0).all()
    assert (np.diff(rows["cpu_s"]) >= 0).all()
    assert (rows["success_end"] <= rows["success_once"]).all()


def test_evaluation_rows(watched: tuple[Run, Any, Any]) -> None:
    """Before the first step, at the episode ends after each 50 steps of a task, at its end."""
    rows = watched[0].evals()
    moments = [0, 50, 100, 110, 160, 210, 220, 270, 320, 330]
    expected = [(step, (step - 1) // STEPS if step else 0, task, episode)
                for step in moments for task in range(TASKS) for episode in range(EPISODES)]
    got = list(zip(*(rows[c].tolist() for c in ("env_step", "train_task", "eval_task", "episode")),
                   strict=True))
    assert got == expected
    assert len(set(rows["seed"])) == len(got)
    assert (rows["length"] == HORIZON).all()


def test_a_row_can_be_played_again(watched: tuple[Run, Any, Any]) -> None:
    """The seed of the last evaluation and the newest policy give its return again."""
    run = watched[0]
    rows = run.evals()
    for task in range(TASKS):
        policy, env = run.policy(task), run.stream[task].make()
        for i in np.flatnonzero((rows["eval_task"] == task) & (rows["env_step"] == 330)):
            obs, _ = env.reset(seed=int(rows["seed"][i]))
            total, done = 0.0, False
            while not done:
                action, _ = policy.predict(obs)
                obs, reward, terminated, truncated, _ = env.step(action)
                total, done = total + reward, terminated or truncated
            assert total == pytest.approx(rows["return"][i], rel=1e-5)


def test_policies_by_name_and_position_are_one(watched: tuple[Run, Any, Any]) -> None:
    run = watched[0]
    task = run.stream[1]
    assert evaluate(run.policy("corner-1"), task, 2) == evaluate(run.policy(1), task, 2)
    assert evaluate(run.policy(0), task, 2) != evaluate(run.policy(1), task, 2)


def test_what_a_watcher_sees(watched: tuple[Run, Any, Any]) -> None:
    run, seen, states = watched
    phases = [s[0] for s in seen]
    assert phases[0] == "evaluating"
    assert phases[-1] == "finished"
    assert phases.count("training") == 5 * TASKS
    assert phases.count("consolidating") == TASKS
    assert phases.count("evaluating") == 1 + 3 * TASKS
    steps = [s[3] for s in seen]
    assert steps == sorted(steps)
    assert steps[-1] == TASKS * STEPS == run.stream.steps
    assert all(s[3] == s[1] * STEPS + s[2] for s in seen)
    assert [s[4] for s in seen] == sorted(s[4] for s in seen)
    assert len(seen[-1][5]) == TASKS
    assert states == {"running", "finished"}
    assert run.status == "finished"


def test_run_json(watched: tuple[Run, Any, Any]) -> None:
    info = json.loads((watched[0].folder / "run.json").read_text())
    assert info["schema"] == SCHEMA == 1
    assert (info["status"], info["seed"]) == ("finished", 3)
    assert info["protocol"] == corners(TASKS, STEPS).protocol
    assert info["tasks"] == [{"name": f"corner-{i}", "steps": STEPS, "head": i}
                             for i in range(TASKS)]
    assert info["config"]["stream"] == {"name": "corners", "custom": True}
    assert info["config"]["agent"]["name"] == "sac"
    assert info["config"]["agent"]["hidden"] == [16]  # what was set
    assert info["config"]["agent"]["gamma"] == 0.99  # and what was not
    assert info["config"]["methods"][0]["name"] == "packnet"
    assert info["config"]["train"]["eval_every"] == EVERY
    assert info["hardware"]["threads"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", info["started"])


def test_what_a_run_says_of_itself(watched: tuple[Run, Any, Any]) -> None:
    run = watched[0]
    assert run.name == "run"
    assert run.label == "sac + packnet"
    assert run.tasks == ["corner-0", "corner-1", "corner-2"]
    assert run.boundaries == [110, 220, 330]
    assert "sac + packnet, finished" in repr(run)
    assert Run(run.folder / ".." / "run" / ".").name == "run"
    scores = run.scores()
    assert scores.values.shape == (10, TASKS)
    assert set(run.metrics()) >= {"performance", "forgetting"}


@pytest.mark.parametrize(("agent", "methods", "label"), [
    ({"name": "sac", "trunk": "mlp"}, [], "sac + fine-tuning"),
    ({"name": "sac", "trunk": "mlp"}, ["ewc", "clonex"], "sac + ewc + clonex"),
    ({"name": "hypercrl", "trunk": "hypernetwork"}, [], "hypercrl"),
    ({"name": "mine"}, [], "mine + fine-tuning"),
])
def test_a_run_is_called_by_what_keeps_its_tasks(
    agent: dict[str, str], methods: list[str], label: str
) -> None:
    config = {"agent": agent, "methods": [{"name": name} for name in methods]}
    made = Run.__new__(Run)
    made.__dict__["info"] = {"config": config}
    assert made.label == label


def test_the_folder_holds_what_the_design_says(watched: tuple[Run, Any, Any]) -> None:
    folder = watched[0].folder
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoints", "evals.csv", "run.json", "tensorboard", "train.csv"]
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["330-3", "latest"]
    assert list(folder.parent.iterdir()) == [folder]
    before = listing(folder)
    run = Run(folder, corners(TASKS, STEPS))
    run.train(), run.evals(), run.metrics(), run.policy(0)
    assert listing(folder) == before  # reading changes nothing


def test_a_failing_run_says_so(tmp_path: Path) -> None:
    def fail(progress: Progress) -> None:
        if progress.phase == "consolidating":
            raise ZeroDivisionError("a bug of the caller's")

    stream = corners(1, 50)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    with pytest.raises(ZeroDivisionError):
        crl.train(agent, stream, out=tmp_path / "run", watch=fail, eval_episodes=1)
    assert Run(tmp_path / "run").status == "failed"
    assert crl.resume(tmp_path / "run", stream).status == "finished"


def test_threads_are_set_for_the_run_alone(tmp_path: Path) -> None:
    seen = []
    stream = corners(1, 25)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    before = torch.get_num_threads()
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, threads=before + 1,
              watch=lambda p: seen.append(torch.get_num_threads()))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    assert Run(tmp_path / "run").info["hardware"]["threads"] == before + 1


def test_rows_are_on_the_disk_before_the_checkpoint_that_counts_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    original = os.fsync

    def fsync(number: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{number}")).name)
        original(number)

    stream = corners(1, 100)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    monkeypatch.setattr(os, "fsync", fsync)
    crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1, checkpoint_every=50)
    first = ["tree.json", "arrays.safetensors", "done", ".latest.unfinished"]
    info = [".run.json.unfinished"]
    assert events == [*info, *first, *info, *(["train.csv", "evals.csv", *first] * 2), *info]


# ---- the machine ----


def test_describe_machine() -> None:
    described = describe_machine(3, "cpu")
    assert described["versions"]["python"] == platform.python_version()
    for package in ("crl", "torch", "numpy", "gymnasium", "mujoco", "metaworld"):
        assert described["versions"][package] == importlib.metadata.version(package)
    hardware = described["hardware"]
    assert (hardware["threads"], hardware["device"]) == (3, "cpu")
    assert hardware["cores"] == os.cpu_count()
    assert hardware["cpu"]
    assert json.loads(json.dumps(described)) == described


def test_the_commit_and_whether_there_are_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True,
                              capture_output=True, text=True).stdout.strip()

    module = tmp_path / "crl" / "run.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(module))
    assert provenance._commit() is None  # an installed package: no checkout
    git("init")
    assert provenance._commit() is None  # no commit yet
    git("add", ".")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance._commit() == commit
    (tmp_path / "note").write_text("files that are not tracked do not count")
    assert provenance._commit() == commit
    module.write_text("# changed")
    assert provenance._commit() == commit + "+dirty"
    monkeypatch.setenv("PATH", "/nowhere")  # no git here
    assert provenance._commit() is None
