"""Resume is bit-exact: runs killed at any instant end as runs that were never stopped.

Real processes are stopped by SIGKILL at chosen instants (before, within and after every write,
rename and removal, every phase of the loop), at random executed lines and at random times, some of
them again and again. What they leave behind in the end is compared with an uninterrupted run, read
without crl: every array bit by bit, every other value, every row of the CSV files but the times.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import (
    METHODS,
    Driver,
    Result,
    copy_run,
    differences,
    fill_disk,
    finish,
    listing,
    read_rows,
    read_state,
    train_arguments,
)
from toy import corners

import crl
from crl import checkpoint, launch, loop, seeding
from crl.cli import main
from crl.nn import state as trees
from crl.replay import Replay
from crl.rows import Rows
from crl.run import Run, claim


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    driver = Driver(tmp_path_factory.mktemp("runs"))
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def reference(driver: Driver) -> Callable[[str], dict[str, Any]]:
    """The state of an uninterrupted run of a method, made once."""
    states: dict[str, dict[str, Any]] = {}

    def state(method: str) -> dict[str, Any]:
        if method not in states:
            result = driver(*train_arguments(method, f"reference-{method}"))
            assert result.status == 0, result.err
            states[method] = read_state(driver.folder / f"reference-{method}")
        return states[method]

    return state


@pytest.fixture
def folder(driver: Driver) -> Iterator[str]:
    yield "run"
    shutil.rmtree(driver.folder / "run", ignore_errors=True)


# ---- killed ----

SAC, STORE = "crl.agents.sac:SAC", "crl.checkpoint:CheckpointStore"
LOOP, ROWS = "crl.loop:Loop", "crl.rows:Rows"

# While a run is created; in order. The second write of a process that creates is tree.json.
CREATING = [
    (f"{LOOP}.create", "before", 1), (f"{ROWS}.__init__", "after", 2),
    ("crl.checkpoint:write_synced", "half", 1), ("crl.checkpoint:write_synced", "half", 3),
    ("os:rename", "before", 1), ("os:rename", "after", 1),
    ("crl.checkpoint:replace_file", "before", 2), ("pathlib:Path.rename", "before", 1),
    ("pathlib:Path.rename", "after", 1),
]
# While it trains. A resumed process first replaces run.json: write 1 and replacement 1 are that.
TRAINING = [
    (f"{LOOP}.open", "before", 1), (f"{ROWS}.cut", "after", 1),
    ("crl.checkpoint:write_synced", "half", 1), ("os:replace", "before", 1),
    ("crl.loop:run_episode", "before", 2), ("crl.loop:run_episode", "after", 3),
    (f"{LOOP}._evaluate", "after", 1),
    (f"{SAC}.act", "before", 17), (f"{SAC}.observe", "after", 33),
    (f"{ROWS}.write", "before", 1), (f"{ROWS}.write", "half", 2), (f"{ROWS}.write", "after", 1),
    (f"{SAC}._gradient_step", "before", 7), (f"{SAC}.backward", "after", 11),
    ("crl.nn.adam:Adam.step", "before", 14), ("crl.nn.adam:Adam.step", "after", 13),
    (f"{LOOP}._save", "before", 1), (f"{ROWS}.sync", "after", 2),
    (f"{STORE}.save", "before", 1), ("crl.checkpoint:save_tree", "before", 1),
    ("crl.checkpoint:write_synced", "before", 2), ("crl.checkpoint:write_synced", "half", 2),
    ("crl.checkpoint:write_synced", "after", 2), ("crl.checkpoint:write_synced", "half", 3),
    ("crl.checkpoint:write_synced", "half", 4), ("crl.checkpoint:write_synced", "after", 4),
    ("os:rename", "before", 1), ("os:rename", "after", 1),
    ("crl.checkpoint:write_synced", "half", 5), ("os:replace", "before", 2),
    ("os:replace", "after", 2), ("shutil:rmtree", "before", 2), ("shutil:rmtree", "after", 2),
    (f"{STORE}.save", "after", 1),
]
CONSOLIDATING = {
    "packnet": [("crl.methods.packnet:prune", "after", 1), (f"{SAC}.learn", "before", 1),
                (f"{SAC}.learn", "half", 1), (f"{SAC}.learn", "after", 1)],
    "ewc": [("crl.methods.ewc:fisher", "before", 1), ("crl.methods.ewc:fisher", "after", 1),
            ("crl.methods.anchors:Anchors.add", "after", 1)],
    "clonex": [("crl.methods.clonex:ClonEx.end_task", "before", 1),
               ("crl.methods.clonex:ClonEx.end_task", "after", 1),
               ("crl.methods.clonex:ClonEx.divergence", "after", 9)],
    "fine-tuning": [],
}
ENDING = [
    (f"{SAC}.end_task", "before", 1), (f"{SAC}.end_task", "after", 1),
    (f"{SAC}.begin_task", "before", 1), (f"{SAC}.begin_task", "after", 1),
    ("crl.recorder:Recorder.set_status", "before", 1),
    ("crl.recorder:Recorder.set_status", "after", 1),
]


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_chosen_instants(
    method: str, driver: Driver, reference: Callable[[str], dict[str, Any]], folder: str
) -> None:
    rng = random.Random(f"instants of {method}")
    if method == "packnet":
        kills = CREATING + TRAINING
    else:
        kills = rng.sample(CREATING, 2) + rng.sample(TRAINING, 10)
    for target, when, call in [*kills, *CONSOLIDATING[method], *ENDING]:
        kill = {"target": target, "when": when, "call": call}
        result = finish(driver, method, folder, kill=kill)
        assert result.killed, (kill, result)
    result = finish(driver, method, folder)
    assert result.status == 0, result.err
    assert differences(read_state(driver.folder / folder), reference(method)) == []


def test_the_calls_that_are_cut_short_are_those_meant(driver: Driver, folder: str) -> None:
    """Write 2 of a resumed process is tree.json, 3 the arrays, 4 done, 5 latest."""
    assert driver(*train_arguments("packnet"), kill=at(f"{SAC}.act", "before", 30)).killed
    left = []
    for number in range(1, 6):
        kill = {"target": "crl.checkpoint:write_synced", "when": "half", "call": number}
        assert driver("resume", folder, kill=kill).killed
        newest = max((p for p in (driver.folder / folder).rglob("*") if p.is_file()),
                     key=lambda p: p.stat().st_mtime_ns)
        left.append(newest.name)
    assert left == [".run.json.unfinished", "tree.json", "arrays.safetensors", "done",
                    ".latest.unfinished"]


def test_killed_at_random_lines(
    driver: Driver, reference: Callable[[str], dict[str, Any]], folder: str
) -> None:
    """Twice in a row, anywhere in the code that writes."""
    result = driver(*train_arguments("packnet"), count=["lines"])
    assert result.status == 0
    lines = result.counts["lines"]
    assert lines > 500
    shutil.rmtree(driver.folder / folder)
    rng = random.Random("lines")
    kills = 0
    for _ in range(7):
        first = driver(*train_arguments("packnet"), kill={"line": rng.randint(1, lines)})
        assert first.killed
        second = finish(driver, "packnet", folder, kill={"line": rng.randint(1, lines)})
        assert second.killed or second.status == 0
        kills += 1 + second.killed
        assert finish(driver, "packnet", folder).status == 0
        assert differences(read_state(driver.folder / folder), reference("packnet")) == []
        shutil.rmtree(driver.folder / folder)
    assert kills >= 8


def test_killed_at_random_times(
    driver: Driver, reference: Callable[[str], dict[str, Any]], folder: str
) -> None:
    rng = random.Random("times")
    kills = 0
    for number in range(6):
        method = list(METHODS)[number % len(METHODS)]
        for _ in range(4):
            kills += finish(driver, method, folder, after_s=rng.uniform(0.03, 0.6)).killed
        assert finish(driver, method, folder).status == 0
        assert differences(read_state(driver.folder / folder), reference(method)) == []
        shutil.rmtree(driver.folder / folder)
    assert kills >= 3


def test_processes_of_their_own(
    driver: Driver, reference: Callable[[str], dict[str, Any]], folder: str
) -> None:
    """Without the driver: other hash seeds, other addresses, nothing shared."""
    command = [sys.executable, "-m", "crl"]
    quiet = {"cwd": driver.folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE,
             "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
    killed = subprocess.Popen([*command, *train_arguments("packnet")], **quiet)
    rows = driver.folder / folder / "train.csv"
    while killed.poll() is None and not (rows.exists() and len(read_rows(rows)) >= 6):
        time.sleep(0.005)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert Run(driver.folder / folder).status == "running"
    subprocess.run([*command, "resume", folder], check=True, **quiet)
    assert differences(read_state(driver.folder / folder), reference("packnet")) == []


def test_asked_to_stop(
    driver: Driver, reference: Callable[[str], dict[str, Any]], folder: str
) -> None:
    """SIGTERM and Ctrl-C: status "interrupted", a line that says how to go on, exit status 130."""
    for name, command in (("TERM", train_arguments("packnet")), ("INT", ["resume", folder])):
        result = driver(*command, kill={**at(f"{SAC}.act", "before", 60), "signal": name})
        assert result.status == 130
        assert result.err.startswith("crl: stopped; type 'crl resume")
        assert result.err.count("\n") == 1
        assert Run(driver.folder / folder).status == "interrupted"
    assert driver("resume", folder).status == 0
    assert differences(read_state(driver.folder / folder), reference("packnet")) == []


def test_asked_to_stop_while_a_run_is_created(driver: Driver) -> None:
    for target in ("crl.checkpoint:save_tree", f"{ROWS}.__init__", "crl.recorder:write_info"):
        result = driver(*train_arguments("packnet", "new/run"),
                        kill={**at(target, "after", 1), "signal": "TERM"})
        assert result.status == 130
        assert not (driver.folder / "new").exists()


def test_tensorboard_shows_each_scalar_once(driver: Driver, folder: str) -> None:
    driver(*train_arguments("ewc", "whole"))
    for target in (f"{SAC}.act", f"{LOOP}._evaluate", f"{SAC}.end_task", f"{SAC}.act"):
        assert finish(driver, "ewc", folder, kill=at(target, "after", 2 + 40 * ("act" in target))
                      ).killed
    assert finish(driver, "ewc", folder).status == 0
    assert read_scalars(driver.folder / folder) == read_scalars(driver.folder / "whole")
    assert len(list((driver.folder / folder / "tensorboard").iterdir())) > 1


def at(target: str, when: str, call: int) -> dict[str, Any]:
    return {"target": target, "when": when, "call": call}


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {tag: [(e.step, e.value) for e in events.Scalars(tag)]
               for tag in events.Tags()["scalars"]}
    assert "train/return" in scalars
    assert "eval/mean" in scalars
    return scalars


# ---- stopped within a process ----

SETTINGS: dict[str, Any] = {"eval_every": 50, "eval_episodes": 2, "checkpoint_every": 40}


def toy_run(out: Path, boundaries: str = "known", seed: int = 0, stop_at: int | None = None,
            methods: tuple[str, ...] = ("packnet",), **settings: Any) -> Run | None:
    """A run of three corners; ``stop_at`` presses Ctrl-C at the so-manieth sign of progress."""
    stream = corners(3, 100, boundaries)
    try:
        return crl.train(toy_agent(stream, seed), stream,
                         methods if boundaries == "known" else [], seed, out,
                         watch=Stop(stop_at), **{**SETTINGS, **settings})
    except KeyboardInterrupt:
        return None


def toy_agent(stream: crl.TaskStream, seed: int = 0) -> crl.Agent:
    return crl.make_agent("sac", stream, seed=seed, hidden=(16, 16), start_steps=30,
                          update_after=20, batch_size=16, replay_size=150)


class Stop:
    """A watcher that presses Ctrl-C."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.calls = 0

    def __call__(self, progress: loop.Progress) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = toy_run(tmp_path_factory.mktemp("toy") / "run")
    assert run is not None
    return run.folder


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped in its second task, with a checkpoint of that task and rows beyond it."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    assert toy_run(folder, stop_at=12) is None
    assert len(read_rows(folder / "train.csv")) == 7
    return folder


@pytest.mark.parametrize(
    ("boundaries", "settings"),
    [("known", {"eval_tasks": "seen", "eval_deterministic": False}),
     ("hidden", {"eval_tasks": "current", "eval_every": None})],
)
def test_interrupted_again_and_again(
    boundaries: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    reference = toy_run(tmp_path / "whole", boundaries, **settings)
    assert toy_run(tmp_path / "run", boundaries, stop_at=5, **settings) is None
    stream = corners(3, 100, boundaries)
    for stop_at in (1, 6, 9):
        assert Run(tmp_path / "run").status == "interrupted"
        with pytest.raises(KeyboardInterrupt):
            crl.resume(tmp_path / "run", stream, watch=Stop(stop_at))
    run = crl.resume(tmp_path / "run", stream)
    assert run.status == "finished"
    assert reference is not None
    assert differences(read_state(run.folder), read_state(reference.folder)) == []


def test_a_reader_that_has_seen_enough_interrupts_a_run(whole: Path, tmp_path: Path) -> None:
    """As rich does when the pipe that it prints to is closed."""
    def leave(progress: loop.Progress) -> None:
        if progress.env_step > 120:
            raise SystemExit(1)

    stream = corners(3, 100)
    with pytest.raises(SystemExit):
        crl.train(toy_agent(stream), stream, ["packnet"], 0, tmp_path / "run", watch=leave,
                  **SETTINGS)
    assert Run(tmp_path / "run").status == "interrupted"
    crl.resume(tmp_path / "run", stream)
    assert differences(read_state(tmp_path / "run"), read_state(whole)) == []


def test_a_checkpoint_that_is_replaced_while_it_is_read(
    stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`crl eval` of a run in progress: the newest checkpoint goes while its files are opened."""
    run = Run(copy_run(stopped, tmp_path / "run"), corners(3, 100))
    store = checkpoint.CheckpointStore(run.folder / "checkpoints")
    reads = []
    really = checkpoint.load_tree

    def load(folder: Path) -> Any:
        reads.append(folder.name)
        if len(reads) == 1:
            store.save(really(folder), "newer")
        return really(folder)

    monkeypatch.setattr(checkpoint, "load_tree", load)
    assert run.policy(0) is not None
    assert reads == ["150-1", "newer"]


def test_a_finished_run_is_left_alone(whole: Path) -> None:
    before = listing(whole)
    assert crl.resume(whole, corners(3, 100)).status == "finished"
    assert crl.resume(whole, corners(3, 100)).status == "finished"
    assert listing(whole) == before


def test_the_same_seed_gives_the_same_run_and_another_does_not(whole: Path, tmp_path: Path) -> None:
    toy_run(tmp_path / "same")
    assert differences(read_state(tmp_path / "same"), read_state(whole)) == []
    toy_run(tmp_path / "other", seed=1)
    different = differences(read_state(tmp_path / "other"), read_state(whole))
    assert {"tree", "train", "evals"} <= set(different)


def test_two_processes_cannot_train_in_one_folder(
    stopped: Path, whole: Path, tmp_path: Path
) -> None:
    run = copy_run(stopped, tmp_path / "run")
    before = listing(run)
    with claim(run), pytest.raises(crl.UserError, match="by another process; stop that first"):
        crl.resume(run, corners(3, 100))
    assert listing(run) == before
    crl.resume(run, corners(3, 100))
    assert differences(read_state(run), read_state(whole)) == []


def test_a_run_in_progress_cannot_be_resumed_beside_it(tmp_path: Path) -> None:
    refused = []

    def resume_too(progress: loop.Progress) -> None:
        if not refused:
            with pytest.raises(crl.UserError, match="another process") as error:
                crl.resume(tmp_path / "run", corners(1, 50))
            refused.append(error)

    stream = corners(1, 50)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    run = crl.train(agent, stream, out=tmp_path / "run", watch=resume_too)
    assert refused
    assert run.status == "finished"


def nothing(*arguments: Any, **options: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("owner", "name", "expected"),
    [
        (seeding, "restore_generator", "/agent/parts/actor"),
        (trees, "load_generator", "/agent/parts/actor"),
        (trees, "load_optimizer", "/agent/optimizers"),
        (trees, "load_parameters", "/agent/parts/actor"),
        (Replay, "load_state_dict", "/agent/replay"),
        (Rows, "cut", "train"),
    ],
)
def test_the_comparison_sees_what_is_not_restored(
    owner: Any, name: str, expected: str, stopped: Path, whole: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Controls: without any one piece of the state, the end is another."""
    run = copy_run(stopped, tmp_path / "run")
    stream = corners(3, 100)
    monkeypatch.setattr(owner, name, nothing)
    if name == "load_optimizer" or owner is Replay:
        with pytest.raises(crl.UserError, match="does not fit"):  # seen at once
            crl.resume(run, stream)
        monkeypatch.setattr(checkpoint, "same_structure", lambda a, b: True)
    crl.resume(run, stream)
    assert any(expected in name for name in differences(read_state(run), read_state(whole)))


def test_without_a_control_it_is_equal(stopped: Path, whole: Path, tmp_path: Path) -> None:
    run = copy_run(stopped, tmp_path / "run")
    crl.resume(run, corners(3, 100))
    assert differences(read_state(run), read_state(whole)) == []


def test_progress_goes_on_where_it_was(stopped: Path, tmp_path: Path) -> None:
    run = copy_run(stopped, tmp_path / "run")
    seen: list[tuple[str, int, int, float]] = []

    def watch(p: loop.Progress) -> None:
        seen.append((p.phase, p.task, p.env_step, p.wall_s))

    before = Run(run).train()["wall_s"]
    crl.resume(run, corners(3, 100), watch=watch)
    assert seen[0][1] == 1
    assert 100 < seen[0][2] < 200
    assert seen[0][3] >= 0
    assert seen[-1][:3] == ("finished", 3, 300)
    after = Run(run).train()["wall_s"]
    assert (after[1:] >= after[:-1]).all()  # time between stop and resume is left out, not negative
    assert after[-1] > before[-1] / 2


# ---- obstacles ----


@pytest.fixture
def small_disk(driver: Driver) -> Iterator[Path]:
    """A file system of one megabyte; needs root."""
    mount = driver.folder / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        mount.rmdir()
        pytest.skip("cannot mount a small disk here; needs root")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)
    mount.rmdir()


def assert_one_line(result: Result, *words: str) -> None:
    assert result.status == 2, result
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("crl: error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("target", "call"),
    [(f"{ROWS}.write", 4), (f"{ROWS}.write", 20), (f"{STORE}.save", 2), (f"{STORE}.save", 5),
     ("os:replace", 4), (f"{LOOP}._evaluate", 3), ("crl.board:Board.flush", 2),
     ("crl.recorder:Recorder.set_status", 1)],
)
def test_the_disk_fills_up(
    target: str, call: int, driver: Driver, reference: Callable[[str], dict[str, Any]],
    small_disk: Path
) -> None:
    """Nothing is lost: with room again, the run goes on and ends as if nothing had happened."""
    filler = small_disk / "filler"
    arguments = train_arguments("packnet", "disk/run")
    kill = {"target": target, "when": "fill", "call": call, "file": str(filler)}
    result = driver(*arguments, kill=kill)
    assert filler.exists()
    assert_one_line(result, "disk/run", "No space left on device", "crl resume disk/run")
    state = small_disk / "run" / "checkpoints"
    before = listing(state)
    again = driver("resume", "disk/run")  # still full: refused, and nothing lost
    assert_one_line(again, "No space left on device", "crl resume disk/run")
    assert listing(state) == before
    filler.unlink()
    assert driver("resume", "disk/run").status == 0
    assert differences(read_state(small_disk / "run"), reference("packnet")) == []


def test_a_run_is_not_begun_on_a_full_disk(driver: Driver, small_disk: Path) -> None:
    fill_disk(small_disk / "filler")
    result = driver(*train_arguments("packnet", "disk/new/run"))
    assert_one_line(result, "cannot write disk/new/run", "No space left on device")
    assert list(listing(small_disk)) == ["filler"]


def test_the_disk_fills_up_while_a_run_is_created(driver: Driver, small_disk: Path) -> None:
    for target, call in (("crl.recorder:write_info", 1), (f"{STORE}.save", 1), ("os:replace", 1),
                         (f"{ROWS}.__init__", 2)):
        kill = {"target": target, "when": "fill", "call": call, "file": str(small_disk / "filler")}
        result = driver(*train_arguments("packnet", "disk/new/run"), kill=kill)
        assert_one_line(result, "No space left on device")
        assert list(listing(small_disk)) == ["filler"]
        (small_disk / "filler").unlink()


def test_a_folder_that_cannot_be_written(
    driver: Driver, reference: Callable[[str], dict[str, Any]], small_disk: Path
) -> None:
    assert driver(*train_arguments("packnet", "disk/run"), kill=at(f"{SAC}.act", "after", 70)
                  ).killed
    remount(small_disk, "ro")
    before = listing(small_disk)
    assert_one_line(driver("resume", "disk/run"), "disk/run", "Read-only file system")
    assert_one_line(driver(*train_arguments("packnet", "disk/other")), "Read-only file system")
    assert_one_line(driver(*train_arguments("packnet", "disk/run")), "exists already")
    shown = driver("eval", "disk/run", "--episodes", "1", "--task", "Pendulum-v1")
    assert shown.status == 0, shown.err  # reading needs no more than reading
    assert "Pendulum-v1" in shown.out
    assert listing(small_disk) == before
    remount(small_disk, "rw")
    assert driver("resume", "disk/run").status == 0
    assert differences(read_state(small_disk / "run"), reference("packnet")) == []


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def test_the_folder_disappears_while_it_trains(tmp_path: Path) -> None:
    def remove(progress: loop.Progress) -> None:
        if progress.env_step > 60:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    stream = corners(1, 200)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    with pytest.raises(crl.UserError, match=r"cannot write .*run: No such file") as error:
        crl.train(agent, stream, out=tmp_path / "run", watch=remove, checkpoint_every=50)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def damage(content: bytes, how: str) -> bytes | None:
    middle = len(content) // 2
    return {
        "half": content[:middle],
        "empty": b"",
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1:],
        "longer": content + b" more",
        "garbage": bytes(range(128, 256)),
        "other type": b'["a", 1]',
        "missing": None,
    }[how]


HOWS = ("half", "empty", "one bit", "longer", "garbage", "other type", "missing")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("name", ["tree.json", "arrays.safetensors", "done", "latest"])
def test_a_damaged_checkpoint_is_refused(
    name: str, how: str, stopped: Path, tmp_path: Path
) -> None:
    run = copy_run(stopped, tmp_path / "run")
    store = run / "checkpoints"
    path = store / name if name == "latest" else store / (store / "latest").read_text() / name
    replace(path, damage(path.read_bytes(), how))
    before = listing(run)
    with pytest.raises(crl.UserError) as error:
        crl.resume(run, corners(3, 100))
    assert "\n" not in str(error.value)
    assert str(run) in str(error.value)
    assert listing(run) == before
    with pytest.raises(crl.UserError):
        Run(run, corners(3, 100)).policy(0)


def test_a_repaired_checkpoint_goes_on(stopped: Path, whole: Path, tmp_path: Path) -> None:
    run = copy_run(stopped, tmp_path / "run")
    store = run / "checkpoints"
    path = store / (store / "latest").read_text() / "arrays.safetensors"
    content = path.read_bytes()
    path.write_bytes(damage(content, "one bit") or b"")
    with pytest.raises(crl.UserError, match=r"arrays\.safetensors was truncated or edited"):
        crl.resume(run, corners(3, 100))
    path.write_bytes(content)
    crl.resume(run, corners(3, 100))
    assert differences(read_state(run), read_state(whole)) == []


@pytest.mark.parametrize(
    "lacking", ["agent", "loop", "rows", "rows.train", "agent.replay", "loop.task"])
def test_a_checkpoint_of_something_else_is_refused(
    lacking: str, stopped: Path, tmp_path: Path
) -> None:
    """Whole and with the right hashes, but not what a run holds."""
    run = copy_run(stopped, tmp_path / "run")
    store = checkpoint.CheckpointStore(run / "checkpoints")
    latest = store.latest()
    assert latest is not None
    tree = checkpoint.load_tree(latest)
    owner = tree
    *owners, name = lacking.split(".")
    for part in owners:
        owner = owner[part]
    del owner[name]
    store.save(tree, "other")
    with pytest.raises(crl.UserError, match="the checkpoint of ") as error:
        crl.resume(run, corners(3, 100))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", ["half", "empty", "missing"])
@pytest.mark.parametrize("name", ["train", "evals"])
def test_rows_that_a_checkpoint_counts_on_are_missed(
    name: str, how: str, stopped: Path, whole: Path, tmp_path: Path
) -> None:
    run = copy_run(stopped, tmp_path / "run")
    path = run / f"{name}.csv"
    content = path.read_bytes()
    replace(path, damage(content, how))
    before = listing(run)
    with pytest.raises(crl.UserError, match=rf"{name}\.csv is shorter .* restore it from a copy"):
        crl.resume(run, corners(3, 100))
    assert {k: v for k, v in listing(run).items() if k != "run.json"} == {
        k: v for k, v in before.items() if k != "run.json"}
    path.write_bytes(content)
    if how == "half":
        crl.resume(run, corners(3, 100))
        assert differences(read_state(run), read_state(whole)) == []


def replace(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def edit(**changes: Any) -> Callable[[bytes], bytes]:
    def edited(content: bytes) -> bytes:
        info = json.loads(content)
        for path, value in changes.items():
            owner = info
            *owners, name = path.split("__")
            for part in owners:
                owner = owner[part]
            if value is ...:
                del owner[name]
            else:
                owner[name] = value
        return json.dumps(info).encode()
    return edited


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda content: content[:100], "not valid JSON"),
        (lambda content: b"", "not valid JSON"),
        (lambda content: bytes(range(256)), "not valid JSON"),
        (lambda content: b"[" * 100_000, "not valid JSON"),
        (lambda content: b"1" * 5_000, "not valid JSON"),
        (lambda content: b"[1, 2]", "no schema version"),
        (lambda content: b"{}", "no schema version"),
        (edit(schema=2), "this crl reads 1"),
        (edit(schema="one"), "this crl reads 1"),
        (edit(config=...), "'config' is missing"),
        (edit(config=[]), "'config' is missing or of the wrong kind"),
        (edit(config__agent=...), "'config'"),
        (edit(config__agent__name=5), "'config'"),
        (edit(config__methods={}), "'config'"),
        (edit(config__methods=["packnet"]), "'config'"),
        (edit(config__train=None), "'config'"),
        (edit(config__train__eval_every=-1), "eval_every must be above 0"),
        (edit(config__train__colour="red"), "unknown setting of train 'colour'"),
        (edit(config__agent__hidden=[32, 32]), "does not fit the configuration"),
        (edit(config__agent__hidden=[16]), "does not fit the configuration"),
        (edit(config__agent__hidden="wide"), "agent.hidden must be"),
        (edit(config__agent__name="sca"), "did you mean 'sac'"),
        (edit(config__methods=[{"name": "ewc"}]), "does not fit the configuration"),
        (edit(config__methods=[{"name": "packnot"}]), "did you mean 'packnet'"),
        (edit(tasks=[]), "'tasks'"),
        (edit(tasks=[{"name": 1, "steps": 5}]), "'tasks'"),
        (edit(tasks=["corner-0"]), "'tasks'"),
        (edit(seed=-1), "'seed'"),
        (edit(seed="zero"), "'seed'"),
        (edit(seed=True), "'seed'"),
        (edit(status="done"), "'status'"),
        (edit(status=[]), "'status'"),
        (edit(protocol="other"), "was trained under protocol 'other'"),
        (edit(hardware=...), "'hardware'"),
        (edit(hardware__device="tpu"), "tpu"),
    ],
)
def test_a_damaged_run_json_is_refused(
    change: Callable[[bytes], bytes], hint: str, stopped: Path, tmp_path: Path
) -> None:
    run = copy_run(stopped, tmp_path / "run")
    path = run / "run.json"
    path.write_bytes(change(path.read_bytes()))
    before = listing(run)
    with pytest.raises(crl.UserError) as error:
        crl.resume(run, corners(3, 100))
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
    assert listing(run) == before


def test_a_run_on_a_stream_made_in_code_needs_it(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(stopped)
    with pytest.raises(SystemExit) as ending:
        main(["resume", str(stopped)])
    assert ending.value.code == 2
    error = capsys.readouterr().err
    assert "crl.resume(folder, stream=...)" in error
    assert error.count("\n") == 1
    with pytest.raises(crl.UserError, match="was trained under protocol"):
        crl.resume(stopped, corners(3, 200))
    with pytest.raises(crl.UserError, match="made in code"):
        launch.read_launch(stopped / "run.json")
    assert listing(stopped) == before
