"""Whatever a user gets wrong is one line that says what to type, exit status 2, and no trace."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from support import listing
from toy import Corner, corners

import crl
from crl import cli, config, loop, registry, train_config
from crl.cli import main
from crl.evaluation import evaluate
from crl.run import Run
from crl.stream import Task, TaskStream

PENDULUM = ["--stream", "Pendulum-v1", "--set", "stream.horizon=20",
            "--set", "stream.steps_per_task=40", "--set", "agent.hidden=[8]"]


class TrainedError(Exception):
    """A bad input was taken for a good one."""


@pytest.fixture(autouse=True)
def nothing_trains(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(trainer: object) -> None:
        raise TrainedError

    monkeypatch.setattr(loop.Loop, "run", refuse)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)  # main sets its own


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    stream = crl.make_stream("Pendulum-v1", horizon=20, steps_per_task=40)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    return crl.train(agent, stream, out=folder, eval_episodes=1).folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs a command that must fail as a user's error does; returns its message."""
    capsys.readouterr()
    before = listing(Path())
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    streams = capsys.readouterr()
    assert ending.value.code == 2
    assert streams.out == ""
    assert streams.err.startswith("crl: error: ")
    assert streams.err.endswith("\n")
    assert len(streams.err.splitlines()) == 1
    assert len(streams.err) < 1000
    assert "Traceback" not in streams.err
    assert listing(Path()) == before
    return streams.err


# ---- words of the command line ----


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "'train'"),
        (["--versoin"], "crl --help"),
        ([""], "crl --help"),
        (["train", "--stream"], "crl train --help"),
        (["train", "extra"], "unrecognized arguments: extra; type 'crl --help'"),
        (["train", "--metod", "ewc"], "--metod"),
        (["train", "--meth", "ewc"], "--meth"),  # no abbreviations
        (["train", "--stream", "quick4"], "unknown stream or task 'quick4'"),
        (["train", "--stream", ""], "'quick3'"),
        (["train", "--stream", "  "], "'quick3'"),
        (["train", "--stream", ","], "unknown stream or task ''"),
        (["train", "--stream", "Pendulum-v1,"], "unknown stream or task ''"),
        (["train", "--stream", "push-v2"], "did you mean 'push-v3'"),
        (["train", "--stream", "window-close-v3,pussh-v3"], "did you mean 'push-v3'"),
        (["train", "--stream", "Pendulum-v1 Pendulum-v1"], "did you mean 'Pendulum-v1'"),
        (["train", "--stream", "Ｐendulum-v1"], "did you mean 'Pendulum-v1'"),
        (["train", "--stream", "two\nlines"], "crl list streams"),
        (["train", "--stream", "../../etc"], "crl list tasks"),
        (["train", "--agent", "sacc"], "did you mean 'sac'"),
        (["train", "--agent", ""], "crl list agents"),
        (["train", "--agent", "crl.agents.sac:SAC"], "crl list agents"),
        (["train", "--method", "packnot"], "did you mean 'packnet'"),
        (["train", "--method", ""], "crl list methods"),
        (["train", "--method", "packnet,ewc"], "crl list methods"),
        (["train", *PENDULUM, "--method", "ewc", "--method", "ewc"], "each method can be given"),
        (["train", "--seed", "-1"], "--seed"),
        (["train", "--seed=-1"], "a whole number from 0, got '-1'"),
        (["train", "--seed", "1.5"], "a whole number from 0, got '1.5'"),
        (["train", "--seed", "two"], "a whole number from 0, got 'two'"),
        (["train", "--seed", ""], "a whole number from 0"),
        (["train", "--seed", "１２"], "a whole number from 0"),
        (["train", "--seed", "²"], "a whole number from 0"),
        (["train", "--seed", "1_000"], "a whole number from 0"),
        (["train", "--seed", "9" * 5000], "a whole number from 0"),
        (["train", *PENDULUM, "--device", "gpu"], "cpu, cuda"),
        (["train", *PENDULUM, "--device", ""], "cpu, cuda"),
        (["train", *PENDULUM, "--device", "cuda:-1"], "cuda"),
        (["train", *PENDULUM, "--device", "meta"], "cpu, cuda"),
        (["train", "--config", "missing.json"], "No such file"),
        (["train", "--config", ""], "cannot read"),
        (["train", "--config", "a\nb.json"], "No such file"),
        (["train", *PENDULUM, "--out", "."], "exists already; type 'crl resume"),
        (["train", *PENDULUM, "--out", ""], "exists already"),
        (["train", *PENDULUM, "--out", "/"], "exists already"),
        (["train", *PENDULUM, "--out", "n" * 300], "File name too long"),
        (["train", *PENDULUM, "--out", "new/" + "n" * 300], "File name too long"),
        (["train", *PENDULUM, "--out", "n" * 250], "File name too long"),
        (["train", *PENDULUM, "--out", "/proc/nowhere/run"], "cannot write /proc/nowhere/run"),
        (["train", *PENDULUM, "--out", "/dev/null/a/b/run"], "Not a directory"),
        (["resume"], "crl resume --help"),
        (["resume", "missing"], "missing is not a run folder"),
        (["resume", "."], "it has no run.json"),
        (["resume", "/dev/null"], "Not a directory"),
        (["eval", "missing"], "is not a run folder"),
        (["eval", ".", "--episodes", "0"], "above 0, got '0'"),
        (["eval", ".", "--episodes", "000"], "above 0, got '000'"),
        (["eval", ".", "--episodes", "-3"], "--episodes"),
        (["eval", ".", "--episodes", "many"], "above 0, got 'many'"),
        (["eval", ".", "--episodes", "１"], "above 0"),
        (["eval", ".", "--video", "film.mp4"], "add --task"),
        (["report"], "crl report --help"),
        (["report", "missing"], "is not a run folder"),
        (["report", ".", "--out", "page"], "is not a run folder"),
        (["list"], "crl list --help"),
        (["list", "robots"], "'tasks'"),
        (["bench", "flight"], "unknown benchmark 'flight'"),
        (["demo", "--seed", "x"], "a whole number from 0"),
    ],
)
def test_words(
    arguments: list[str], hint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint in fails(capsys, *arguments)


# ---- settings ----

DEEP = "[" * 100_000
HUGE = "9" * 5_000


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("", "--set takes section.name=value, such as agent.learning_rate=3e-4"),
        ("=", "--set takes"),
        ("=5", "--set takes"),
        ("agent", "--set takes"),
        ("agent=5", "--set takes"),
        ("agent.=5", "--set takes"),
        (".hidden=5", "unknown section ''"),
        ("agent.hidden", "--set takes"),
        ("agnet.hidden=[64]", "did you mean 'agent'"),
        ("agent.hiden=[64]", "did you mean 'hidden'"),
        ("agent.hidden.first=64", "unknown setting of agent 'hidden.first'"),
        ("agent. hidden=[64]", "did you mean 'hidden'"),
        ("agent.HIDDEN=[64]", "unknown setting of agent 'HIDDEN'"),
        ("agent.__class__=5", "unknown setting of agent '__class__'"),
        ("agent.name=sac", "choose it with --agent instead"),
        ("agent.seed=3", "unknown setting of agent 'seed'"),
        ("agent.device=cuda", "unknown setting of agent 'device'"),
        ("agent.stream=quick3", "unknown setting of agent 'stream'"),
        ("agent.hidden=[]", "hidden must be widths above 0"),
        ("agent.hidden=", "agent.hidden must be"),
        ("agent.hidden=[64,-1]", "hidden must be widths above 0"),
        ("agent.hidden=[64,0]", "hidden must be widths above 0"),
        ("agent.hidden=[64,1.5]", "agent.hidden must be a whole number"),
        ("agent.hidden=[64,true]", "agent.hidden must be a whole number"),
        ("agent.hidden=[[64],[64]]", "agent.hidden must be a whole number"),
        ("agent.hidden=[64 64]", "agent.hidden must be a whole number"),
        ('agent.hidden={"a": 64}', "agent.hidden must be a whole number"),
        ("agent.hidden=null", "agent.hidden must be a whole number"),
        ("agent.hidden=wide", "agent.hidden must be a whole number"),
        ("agent.hidden=１６", "agent.hidden must be a whole number"),
        (f"agent.hidden={HUGE}", "agent.hidden must be a whole number"),
        (f"agent.hidden={DEEP}", "agent.hidden must be"),
        ("agent.hidden=[100000000000]", "cannot be made with these settings"),
        ("agent.hidden=[1000000,1000000]", "cannot be made with these settings"),
        (f"agent.hidden=[{10**30}]", "must be a whole number below 2**63"),
        (f"agent.hidden=[{2**63 - 1}]", "cannot be made with these settings"),
        ("agent.replay_size=1000000000000000", "cannot be made with these settings"),
        (f"agent.replay_size={2**63 - 1}", "cannot be made with these settings"),
        ("agent.learning_rate=0", "learning_rate must be above 0"),
        ("agent.learning_rate=-3e-4", "learning_rate must be above 0"),
        ("agent.learning_rate=NaN", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=nan", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=Infinity", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=-inf", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=1e400", "agent.learning_rate must be a finite number"),
        (f"agent.learning_rate={10**400}", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=fast", "agent.learning_rate must be a finite number, got 'fast'"),
        ("agent.learning_rate=１", "agent.learning_rate must be a finite number"),
        ("agent.learning_rate=true", "agent.learning_rate must be a finite number, got True"),
        ("agent.learning_rate=3e-4,1e-3", "agent.learning_rate must be a finite number"),
        ("agent.gamma=1.5", "gamma must be between 0 and 1"),
        ("agent.gamma=-0.1", "gamma must be between 0 and 1"),
        ("agent.batch_size=0", "batch_size must be above 0"),
        ("agent.batch_size=64.5", "agent.batch_size must be a whole number"),
        ("agent.multi_head=1", "agent.multi_head must be true or false"),
        ("agent.multi_head=yes", "agent.multi_head must be true or false"),
        ("agent.start_steps=-1", "start_steps must not be negative"),
        ("agent.explore=randomly", "one of uniform, current, previous, best_return"),
        ("agent.explore=1", "one of uniform, current"),
        ("agent.explore=[uniform]", "one of uniform, current"),
        ("agent.reset=[replay,everything]", "got 'everything'"),
        ("agent.reset=5", "agent.reset must be"),
        ("train.eval_tasks=foo", "one of all, seen, current, got 'foo'"),
        ("train.eval_episodes=0", "eval_episodes must be above 0"),
        ("train.eval_episodes=-3", "eval_episodes must be above 0"),
        ("train.eval_every=0", "eval_every must be above 0"),
        ("train.eval_every=often", "a whole number, got 'often'"),
        ("train.checkpoint_every=0", "checkpoint_every must be above 0"),
        ("train.checkpoint_every=null", "train.checkpoint_every must be a whole number"),
        ("train.threads=0", "threads must be above 0"),
        ("train.threads=1000000", "threads must be at most 1024"),
        (f"train.threads={10**30}", "a whole number below 2**63"),
        ("train.name=mine", "unknown setting of train 'name'"),
        ("train.seed=3", "unknown setting of train 'seed'"),
        ("train.out=run", "unknown setting of train 'out'"),
        ("train.methods=packnet", "unknown setting of train 'methods'"),
        ("train.watch=5", "unknown setting of train 'watch'"),
        ("stream.horizon=0", "horizon must be a whole number above 0"),
        ("stream.horizon=-5", "horizon must be a whole number above 0"),
        ("stream.horizon=1.5", "stream.horizon must be a whole number"),
        ("stream.horizon=true", "stream.horizon must be a whole number"),
        ("stream.horizon=1e400", "stream.horizon must be a whole number"),
        ("stream.steps_per_task=0", "steps_per_task must be a whole number above 0"),
        ("stream.steps_per_task=-100", "steps_per_task must be a whole number above 0"),
        ("stream.steps_per_task=many", "stream.steps_per_task must be a whole number"),
        ("stream.partially_observable=maybe", "true or false, got 'maybe'"),
        ("stream.goal_shown=1", "set partially_observable to true"),
        ("stream.goal_shown=-1", "a whole number from 0"),
        ("stream.partially_observable=true", "partially_observable works on Meta-World tasks"),
        ("stream.name=cw10", "choose it with --stream instead"),
        ("stream.options=5", "unknown setting of stream 'options'"),
        ("stream.custom=true", "unknown setting of stream 'custom'"),
        ("stream.colour=red", "known: boundaries, frame_stack, goal_shown"),
        ("packnet.retrain_share=0.2", "add --method packnet"),
        ("ewc.seed=3", "unknown setting of ewc 'seed'"),
        ("ewc.name=mas", "choose it with --method instead"),
        ("ewc.coefficient=-1", "must not be negative"),
        ("ewc.coefficient=strong", "ewc.coefficient must be a finite number"),
        ("ewc.parts=[actor,brain]", "needs a part 'brain'; this agent has actor, critic"),
        ("ewc.parts=5", "ewc.parts must be a word"),
        ("ewc.batches=0", "batches and batch_size must be above 0"),
        ("ewc.lambda=3", "unknown setting of ewc 'lambda'"),
    ],
)
def test_settings(
    setting: str, hint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint in fails(capsys, "train", *PENDULUM, "--method", "ewc", "--set", setting)


def test_the_settings_of_these_tests_are_good_without_the_bad_one(here: Path) -> None:
    """Control: the commands above fail for the reason given, not for what they share."""
    with pytest.raises(TrainedError):
        main(["train", *PENDULUM, "--method", "ewc", "--set", "ewc.coefficient=1"])


# ---- tasks that do not go together, or that no agent here can learn ----


@pytest.mark.parametrize(
    ("stream", "settings", "hint"),
    [
        ("CartPole-v1", [], "chooses continuous actions, and stream 'CartPole-v1' has Discrete(2)"),
        ("push-v3,CartPole-v1", [], "of shape"),
        ("t-maze-5", ["stream.horizon=9"], "is what its name says; leave stream.horizon out"),
        ("t-maze-5", ["stream.partially_observable=true"], "works on Meta-World tasks, not on"),
        ("memory-length-5", ["stream.hide_velocities=true"], "does not know which numbers of"),
        ("FrozenLake-v1", [], "has observations Discrete(16); expected a flat Box"),
        ("Blackjack-v1", ["stream.horizon=10"], "has observations Tuple"),
        ("Blackjack-v1", [], "no time limit; set one with --set stream.horizon=1000"),
        ("Pendulum-v1,MountainCarContinuous-v0", [], "observations of shape (2,), the first"),
        ("MountainCarContinuous-v0,Pendulum-v1", [], "all must have one shape"),
        ("Pendulum-v1,CartPole-v1", [], "observations of shape (4,), the first"),
        ("Pendulum-v1,push-v3", [], "shape"),
        ("phys2d/Pendulum-v0", [], "cannot be made here: "),
    ],
)
def test_streams(
    stream: str, settings: list[str], hint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for s in settings for word in ("--set", s)]
    assert hint in fails(capsys, "train", "--stream", stream, *words)


# ---- configuration files ----


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"stream: quick3", "is not valid JSON"),
        (bytes(range(256)), "is not valid JSON"),
        (b"\xff\xfe{\x00}\x00", "is not valid JSON"),
        (b"\x00" * 100, "is not valid JSON"),
        (DEEP.encode(), "is not valid JSON"),
        (HUGE.encode(), "is not valid JSON"),
        ([], "must hold an object with stream, agent, methods, train, seed, device"),
        ("quick3", "must hold an object"),
        (None, "must hold an object"),
        (5, "must hold an object"),
        ({"steam": {}}, "did you mean 'stream'"),
        ({"schema": 1}, "unknown section 'schema'"),
        ({"schema": 1, "config": []}, "unknown section"),
        ({"schema": 1, "config": {"agent": 5}}, "agent must be an object"),
        ({"schema": 1, "config": {}, "seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"stream": "quick3"}, "stream must be an object, got 'quick3'"),
        ({"stream": {}}, 'need a name, such as {"name": "sac"}'),
        ({"stream": {"name": 5}}, "need a name"),
        ({"stream": {"name": ""}}, "such as 'quick3'"),
        ({"stream": {"name": "quick3", "steps": 5}}, "unknown setting of stream 'steps'"),
        ({"stream": {"name": "mine", "custom": True}}, "on a stream made in code"),
        ({"agent": "sac"}, "agent must be an object"),
        ({"agent": {"name": "sac", "seed": 1}}, "unknown setting of agent 'seed'"),
        ({"agent": {"name": "sac", "hidden": {"a": 1}}}, "agent.hidden must be"),
        ({"agent": {"name": "sac", "gamma": math.nan}}, "agent.gamma must be a finite number"),
        ({"agent": {"name": "sac", "": 1}}, "unknown setting of agent ''"),
        ({"agent": {"name": ["sac"]}}, "need a name"),
        ({"methods": "packnet"}, "methods must be a list, got 'packnet'"),
        ({"methods": {"name": "packnet"}}, "methods must be a list"),
        ({"methods": [5]}, "need a name"),
        ({"methods": [None]}, "need a name"),
        ({"methods": [["packnet"]]}, "need a name"),
        ({"methods": [{"retrain_share": 1}]}, "need a name"),
        ({"methods": [{"name": 5}]}, "need a name"),
        ({"methods": ["packnot"]}, "did you mean 'packnet'"),
        ({"methods": [{"name": "ewc", "seed": "x"}]}, "unknown setting of ewc 'seed'"),
        ({"methods": ["ewc", {"name": "ewc"}]}, "each method can be given once"),
        ({"train": []}, "train must be an object"),
        ({"train": {"stream": 1}}, "unknown setting of train 'stream'"),
        ({"train": {"eval_every": "often"}}, "train.eval_every must be"),
        ({"seed": "0"}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"device": 0}, "device must be a word"),
        ({"device": "gpu"}, "cpu, cuda"),
    ],
)
def test_configuration_files(
    content: Any, hint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not isinstance(content, bytes):
        if isinstance(content, dict):
            base = {"stream": {"name": "Pendulum-v1", "horizon": 20, "steps_per_task": 40}}
            content = content if "schema" in content else {**base, **content}
        content = json.dumps(content).encode()
    Path("bad.json").write_bytes(content)
    assert hint in fails(capsys, "train", "--config", "bad.json")


def test_a_folder_is_no_configuration_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    assert "Is a directory" in fails(capsys, "train", "--config", "folder")


# ---- folders ----


def test_what_exists_is_never_overwritten(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("folder/file").write_text("mine")
    for out in ("file", "folder", "folder/file", "./folder/../file"):
        error = fails(capsys, "train", *PENDULUM, "--out", out)
        assert "exists already; type 'crl resume" in error
    assert "Not a directory" in fails(capsys, "train", *PENDULUM, "--out", "file/run")
    assert "Not a directory" in fails(capsys, "train", *PENDULUM, "--out", "file/a/b/run")


def test_a_long_list_of_tasks_still_has_a_folder_name(here: Path) -> None:
    with pytest.raises(TrainedError):
        main(["train", "--stream", ",".join(["Pendulum-v1"] * 30), "--set", "agent.hidden=[8]"])
    runs = list(Path("runs").iterdir())
    assert len(runs) == 1
    assert (runs[0] / "run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--task", "push-v3"], "unknown task 'push-v3'; known: Pendulum-v1"),
        (["--task", "pendulum-v1"], "did you mean 'Pendulum-v1'"),
        (["--task", ""], "unknown task ''"),
        (["--task", "0"], "unknown task '0'"),
        (["--video", "film.mp4"], "--video shows one task; add --task"),
        (["--task", "Pendulum-v1", "--video", "film.avi"], "writes .mp4 files, got 'film.avi'"),
        (["--task", "Pendulum-v1", "--video", "nowhere/film.mp4"], "cannot write nowhere/film.mp4"),
        (["--task", "Pendulum-v1", "--video", "."], "writes .mp4 files"),
    ],
)
def test_evaluation(
    arguments: list[str], hint: str, finished: Path, here: Path,
    capsys: pytest.CaptureFixture[str]
) -> None:
    assert hint in fails(capsys, "eval", str(finished), *arguments)


def test_a_film_that_cannot_be_made_leaves_no_file(
    finished: Path, here: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gymnasium.envs.classic_control.pendulum import PendulumEnv

    pictures = 0

    def render(env: object) -> Any:
        nonlocal pictures
        pictures += 1
        if pictures > 5:
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed")
        return np.zeros((64, 64, 3), np.uint8)

    monkeypatch.setattr(PendulumEnv, "render", render)
    arguments = ["eval", str(finished), "--task", "Pendulum-v1", "--video", "film.mp4"]
    assert "pygame is not installed" in fails(capsys, *arguments)
    monkeypatch.setattr(PendulumEnv, "render", lambda env: None)
    assert "render() gives no picture" in fails(capsys, *arguments)


def test_a_plugin_that_cannot_be_loaded(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, option in ((registry.agents, "--agent"), (registry.methods, "--method")):
        for target in ("no_such_module:Thing", "crl.agents.sac:Nothing", "crl.agents.sac", ":x"):
            monkeypatch.setattr(kind, "_targets", {**kind._targets, "mine": target})
            error = fails(capsys, "train", *PENDULUM, option, "mine")
            assert f"{kind.kind} 'mine' cannot be loaded from {target!r}" in error
    with pytest.raises(crl.UserError, match="exists already; choose another name"):
        registry.agents.add("sac", "my:SAC")


def test_processes_of_their_own(tmp_path: Path) -> None:
    """What a shell sees of it."""
    for arguments, hint in (
        (["train", "--stream", "quick4"], b"unknown stream or task 'quick4'"),
        (["train", *PENDULUM, "--set", "agent.hidden=[64,-1]"], b"widths above 0"),
        (["resume", "nowhere"], b"nowhere is not a run folder"),
        (["report", "nowhere"], b"nowhere is not a run folder"),
    ):
        ended = subprocess.run([sys.executable, "-m", "crl", *arguments], cwd=tmp_path,
                               capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        assert ended.returncode == 2
        assert ended.stdout == b""
        assert ended.stderr.startswith(b"crl: error: ")
        assert ended.stderr.count(b"\n") == 1
        assert hint in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m crl list tasks | head -1"
    ended = subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path,
                           capture_output=True)
    assert ended.stderr == b""
    assert ended.stdout.count(b"\n") == 1


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    """What is printed, not the run folder, meets the full disk here."""
    train = ["train", *PENDULUM, "--set", "train.eval_episodes=1", "--out", "run"]
    for arguments, message in (
        (["list", "methods"], b"crl: error: [Errno 28] No space left on device\n"),
        (train, b"crl: error: cannot show progress: No space left on device; type "
                b"'crl resume run' to go on\n"),
    ):
        with open("/dev/full", "wb") as full:
            ended = subprocess.run([sys.executable, "-m", "crl", *arguments], cwd=tmp_path,
                                   stdout=full, stderr=subprocess.PIPE)
        assert (ended.returncode, ended.stderr) == (2, message)
    assert Run(tmp_path / "run").status == "failed"


def test_the_end_of_a_message_is_the_end_of_the_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: object) -> None:
        raise crl.UserError("one\ntwo\r\nthree\u2028four")

    monkeypatch.setattr(cli, "_list", fail)
    with pytest.raises(SystemExit):
        main(["list", "tasks"])
    assert capsys.readouterr().err == "crl: error: one two three four\n"


def test_bugs_are_not_hidden(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: only a user's errors become one line; a bug keeps its traceback."""
    def fail(options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_list", fail)
    with pytest.raises(ZeroDivisionError):
        main(["list", "tasks"])


# ---- from Python ----


def agent(stream: TaskStream | None = None) -> Any:
    return crl.make_agent("sac", stream or corners(2, 50), hidden=(8,))


class Wide(Corner):
    """A corner whose actions have other bounds."""

    action_space = Box(-1, 1, (2,), np.float32)


class Tall(Corner):
    """A corner with more to see."""

    observation_space = Box(-2, 2, (4,), np.float32)


class Free(Corner):
    """A corner with actions that have no bounds."""

    action_space = Box(-np.inf, np.inf, (2,), np.float32)


class Wrong(Corner):
    """A corner whose reward is not a number after three steps."""

    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        return obs, math.nan if self.steps > 3 else reward, *rest


class Missing(Corner):
    """A corner that cannot be made."""

    def __init__(self, corner: int, render_mode: str | None = None) -> None:
        raise FileNotFoundError(2, "No such file or directory", "assets/corner.xml")


def of(*kinds: type[Corner], steps: int = 50) -> TaskStream:
    return TaskStream([Task(f"task-{i}", partial(kind, 0), steps, i)
                       for i, kind in enumerate(kinds)])


@pytest.mark.parametrize(
    ("call", "hint"),
    [
        (lambda out: crl.make_stream("nope-v3"), "crl list tasks"),
        (lambda out: crl.make_stream(5), "such as 'quick3', got 5"),
        (lambda out: crl.make_stream(None), "such as 'quick3'"),
        (lambda out: crl.make_stream("quick3", steps=5), "did you mean 'steps_per_task'"),
        (lambda out: crl.make_stream("quick3", steps_per_task=0), "above 0"),
        (lambda out: crl.make_stream("quick3", horizon=2.5), "a whole number, got 2.5"),
        (lambda out: crl.make_agent("sca", corners()), "did you mean 'sac'"),
        (lambda out: crl.make_agent("sac", corners(), seed=-1), "seed must be a whole number"),
        (lambda out: crl.make_agent("sac", corners(), seed=1.0), "seed must be a whole number"),
        (lambda out: crl.make_agent("sac", corners(), seed=True), "seed must be a whole number"),
        (lambda out: crl.make_agent("sac", corners(), hidden=()), "widths above 0"),
        (lambda out: crl.make_agent("sac", corners(), hidden=(8, "8")), "a whole number, got '8'"),
        (lambda out: crl.make_agent("sac", corners(), device="tpu"), "cpu, cuda"),
        (lambda out: crl.make_agent("sac", corners(), device=None), "cpu, cuda"),
        (lambda out: crl.make_method("packnot"), "did you mean 'packnet'"),
        (lambda out: crl.make_method("packnet", share=1), "did you mean 'retrain_share'"),
        (lambda out: crl.make_method("packnet", retrain_share=-1), "must not be negative"),
        (lambda out: TaskStream([]), "at least one task"),
        (lambda out: TaskStream([Task("a", Corner, 5, 0)] * 2), "'push-v3@2' for a second visit"),
        (lambda out: corners(boundaries="fuzzy"), "'known' or 'hidden', got 'fuzzy'"),
        (lambda out: Task("", Corner, 5, 0), "task name ''"),
        (lambda out: Task("..", Corner, 5, 0), "task name '..'"),
        (lambda out: Task("../up", Corner, 5, 0), "task name '../up'"),
        (lambda out: Task("a/b/c", Corner, 5, 0), "task name 'a/b/c'"),
        (lambda out: Task("a b", Corner, 5, 0), "task name 'a b'"),
        (lambda out: Task("a\n", Corner, 5, 0), "task name 'a\\n'"),
        (lambda out: Task("a", None, 5, 0), "make must be a function"),
        (lambda out: Task("a", Corner, 0, 0), "steps must be a whole number above 0"),
        (lambda out: Task("a", Corner, True, 0), "steps must be a whole number above 0"),
        (lambda out: Task("a", Corner, 1e5, 0), "steps must be a whole number above 0"),
        (lambda out: Task("a", Corner, 5, -1), "head must be a whole number from 0"),
        (lambda out: Task("a", Corner, 5, None), "head must be a whole number from 0"),
        (lambda out: corners()["corner-9"], "unknown task 'corner-9'"),
        (lambda out: corners().index(3), "unknown task 3"),
        (lambda out: of(Missing).observation_space, "cannot be made here: "),
        (lambda out: agent(of(Corner, Missing)), None),
        (lambda out: crl.train(agent(), corners(2, 50), out=out, seed=-1), "seed must be"),
        (lambda out: crl.train(agent(), corners(2, 50), out=out, seed="0"), "seed must be"),
        (lambda out: crl.train(agent(), corners(2, 50), out=out, eval_every=0), "eval_every"),
        (lambda out: crl.train(agent(), corners(2, 50), out=out, colour=1), "'colour'"),
        (lambda out: crl.train("sac", corners(2, 50), out=out), "crl.make_agent('sac', stream)"),
        (lambda out: crl.train(agent(), "quick3", out=out), "crl.make_stream('quick3')"),
        (lambda out: crl.train(agent(), corners(2, 50), "packnet", out=out), "['packnet']"),
        (lambda out: crl.train(agent(), corners(2, 50), [5], out=out), "['packnet']"),
        (lambda out: crl.train(agent(), corners(2, 50), ["pack"], out=out), "crl list methods"),
        (lambda out: crl.train(agent(), corners(2, 50), ["ewc", "ewc"], out=out), "once"),
        (lambda out: crl.train(agent(), corners(2, 50, "hidden"), ["ewc"], out=out), "boundaries"),
        (lambda out: crl.train(agent(), of(Tall), out=out), "make the agent for this stream"),
        (lambda out: crl.train(agent(), of(Corner, Tall), out=out), "all must have one shape"),
        (lambda out: crl.train(agent(), of(Corner, Wide), out=out), "same bounds"),
        (lambda out: crl.train(agent(), of(Corner, Missing), out=out), "'task-1' cannot be made"),
        (lambda out: agent(of(Free)), "expected a flat Box with bounds"),
        (lambda out: crl.train(agent(), corners(2, 50), out=out / "a\0b"), "null"),
        (lambda out: crl.resume(out), "is not a run folder"),
        (lambda out: Run(out), "is not a run folder"),
        (lambda out: evaluate(agent().policy(corners()[0]), corners()[0], 0), "episodes must be"),
        (lambda out: evaluate(agent().policy(corners()[0]), corners()[0], 2.5), "episodes must be"),
        (lambda out: evaluate(agent().policy(corners()[0]), corners()[0], seed=-1), "seed must be"),
        (lambda out: evaluate(agent().policy(corners()[0]), "corner-0"), "stream['push-v3']"),
        (lambda out: evaluate(agent().policy(corners()[0]), of(Tall)[0]), "shape (3,)"),
        (lambda out: agent().policy(corners()[0]).predict(np.zeros(4)), "expected (3,)"),
        (lambda out: agent().policy(corners()[0]).predict(np.zeros((2, 2, 3))), "expected (3,)"),
        (lambda out: config.build(train_config.TrainConfig, {"threads": "all"}, "x"), "x.threads"),
    ],
)
def test_python(call: Callable[[Path], Any], hint: str | None, here: Path) -> None:
    if hint is None:  # made for its first task only, which is good
        call(here / "new" / "run")
        return
    with pytest.raises(ValueError, match=r".") as error:
        call(here / "new" / "run")
    assert hint in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert listing(here) == {}


def test_a_reward_that_is_not_a_number_is_the_tasks_fault(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    stream = of(Wrong)
    with pytest.raises(crl.UserError, match=r"task 'task-0' gave a reward .* step 3 .* seed") as e:
        crl.train(agent(stream), stream, out=here / "run", eval_episodes=1)
    assert "\n" not in str(e.value)
    assert Run(here / "run").status == "failed"


def test_a_method_whose_state_cannot_be_kept_leaves_nothing(here: Path) -> None:
    """A bug in somebody's method is an error of its own kind, and no half of a run stays."""
    class Forgetful(crl.Method):
        name = "forgetful"

        def state_dict(self) -> dict[str, Any]:
            return {"memory": {1, 2}}

    stream = corners(1, 50)
    with pytest.raises(TypeError, match="a checkpoint cannot hold set at '/agent/methods"):
        crl.train(agent(stream), stream, [Forgetful(crl.Method.Config(), 0)], out=here / "a" / "b")
    assert listing(here) == {}
