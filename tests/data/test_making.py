"""``crl data``: a set a task, kept as they are, gone on with after a kill."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path

import minari
import numpy as np
import pytest
from played import CORNER, Toward, same
from rich.console import Console
from support import Driver, listing
from toy import corners

import crl
from crl import bench, cli
from crl.agents.scripted import scripted_policy
from crl.bench import data as bench_data
from crl.data import collect, make_data, read_data
from crl.data.display import DataDisplay, data_table
from crl.data.folder import Made
from crl.data.making import Progress
from crl.run import claim

pytestmark = pytest.mark.filterwarnings("ignore:Constant")
STREAM = ["--stream", "window-close-v3,reach-v3", "--set", "stream.horizon=8"]
DATA = ["data", *STREAM, "--episodes", "3", "--noise", "0.2", "--out", "sets"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder: empty."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)  # main sets its own


def run(*arguments):
    with pytest.raises(SystemExit) as ending:
        cli.main(arguments)
    return ending.value.code


def fails(capsys, *arguments):
    """Runs a command that must fail as a user's error does, and leave nothing; its message."""
    capsys.readouterr()
    before = listing(Path())
    assert run(*arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("crl: error: ")
    assert len(streams.err.splitlines()) == 1
    assert listing(Path()) == before
    return streams.err


def test_a_command_makes_a_set_of_each_task(here, capsys, monkeypatch):
    assert run(*DATA, "--partial", "0.5", "--seed", "4", "--format", "arrow") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("sets/window-close-v3/scripted-v0: 3 episodes, 24 transitions")
    table = [line.split() for line in lines[-3:]]
    assert [row[:3] for row in table] == [
        ["window-close-v3", "3", "24"], ["reach-v3", "3", "24"], ["all", "6", "48"]]
    stream = crl.make_stream("window-close-v3,reach-v3", horizon=8)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(here / "sets"))
    assert len(minari.list_local_datasets()) == 2
    for task in stream:
        expected = collect(scripted_policy(task.name), task, episodes=3, noise=0.2, partial=0.5,
                           seed=4)
        assert same(read_data("sets", task.name, stream), expected)
        metadata = minari.load_dataset(f"{task.name}/scripted-v0").storage.metadata
        assert metadata["crl"]["protocol"] == stream.protocol
        made_with = metadata["crl"]["settings"]
        assert made_with["noise"] == 0.2
        assert made_with["partial"] == 0.5
        assert made_with["seed"] == 4
        assert made_with["stream.horizon"] == 8


def test_sets_that_are_there_stay_as_they_are(here, capsys):
    assert run(*DATA) == 0
    before = listing(Path())
    capsys.readouterr()
    assert run(*DATA) == 0
    assert capsys.readouterr().out.count("was there") == 2
    assert run(*DATA, "--workers", "2") == 0  # of which there is no need
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
    assert listing(Path()) == before
    capsys.readouterr()
    # Another stream may share a task, and other budgets change no episode.
    assert run("data", "--stream", "reach-v3,push-v3", "--set", "stream.horizon=8", "--set",
               "stream.steps_per_task=5", "--episodes", "3", "--noise", "0.2", "--out",
               "sets") == 0
    assert capsys.readouterr().out.count("was there") == 1
    for more, hint in (
        (["--noise", "0.3"], "was made with noise 0.2, not 0.3; choose another --out"),
        (["--episodes", "4"], "episodes 3, not 4"), (["--seed", "1"], "seed 0, not 1"),
        (["--set", "stream.horizon=9"], "stream.horizon 8, not 9"),
        (["--set", "stream.observe_reward=true"], "stream.observe_reward unset, not True"),
        (["--format", "arrow"], "format hdf5, not arrow"),
    ):
        assert hint in fails(capsys, *DATA, *more)


def test_two_visits_make_one_set(tmp_path):
    stream = crl.make_stream("reach-v3,window-close-v3,reach-v3", horizon=5)
    made = make_data(stream, tmp_path, episodes=2)
    assert [m.task for m in made] == ["reach-v3", "window-close-v3"]
    assert same(read_data(tmp_path, "reach-v3@2"), read_data(tmp_path, "reach-v3"))


def test_a_folder_is_one_process_at_a_time(tmp_path):
    stream = crl.make_stream("reach-v3", horizon=5)
    with claim(tmp_path), pytest.raises(crl.UserError, match="another process makes data in"):
        make_data(stream, tmp_path, episodes=1)


def test_progress_is_told(tmp_path):
    seen = []
    stream = crl.make_stream("reach-v3,window-close-v3", horizon=2)
    made = make_data(stream, tmp_path, episodes=11, watch=seen.append)
    assert [(p.task, p.episodes, p.steps) for p in seen] == [
        ("reach-v3", 10, 20), ("reach-v3", 11, 22), ("reach-v3", 11, 22),
        ("window-close-v3", 21, 42), ("window-close-v3", 22, 44), ("window-close-v3", 22, 44)]
    assert {p.of_episodes for p in seen} == {22}
    assert [p.made for p in seen if p.made] == made


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display(terminal):
    made = Made("push-v3", Path("sets/push-v3"), 30, 6000, 0.5, 12.0, 1.5, 2.0)
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with DataDisplay(console) as display:
        display(Progress("push-v3", 10, 60, 2000))
        display(Progress("push-v3", 30, 60, 6000, made))
    text = console.file.getvalue()
    if terminal:
        assert "30/60 episodes, 6,000 transitions" in text
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor
    else:
        assert text == ("sets/push-v3: 30 episodes, 6,000 transitions, success 0.50; "
                        "30/60 episodes in all\n")
    console.print(data_table([made, made._replace(episodes=10, success=0.1, seconds=None)]))
    *_, old, total = console.file.getvalue().splitlines()
    assert "was there" in old
    assert "0.40" in total


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ([], "--out"),
        (["--out", "x"], "crl data needs --stream, or --run; type 'crl data --help'"),
        (["--out", "x", "--stream", "reach-v3", "--run", "y"], "needs --stream, or --run"),
        (["--out", "x", "--stream", "reach-v4"], "did you mean 'reach-v3'"),
        (["--out", "x", "--stream", "reach-v3,arm-plain"], "'arm-plain' has no scripted expert"),
        (["--out", "x", "--stream", "reach-v3", "--episodes", "0"], "a whole number above 0"),
        (["--out", "x", "--stream", "reach-v3", "--noise", "loud"], "--noise"),
        (["--out", "x", "--stream", "reach-v3", "--noise", "-1"], "noise must not be negative"),
        (["--out", "x", "--stream", "reach-v3", "--noise", "nan"], "a finite number"),
        (["--out", "x", "--stream", "reach-v3", "--partial", "2"], "between 0 and 1"),
        (["--out", "x", "--stream", "reach-v3", "--format", "csv"], "'arrow'"),
        (["--out", "x", "--stream", "reach-v3", "--workers", "-2"], "--workers"),
        (["--out", "x", "--stream", "reach-v3", "--set", "agent.gamma=1"], "of the stream here"),
        (["--out", "x", "--stream", "reach-v3", "--set", "stream.horizn=1"], "'horizon'"),
        (["--out", "x", "--stream", "reach-v3", "--set", "stream.frame_stack=2"],
         "leave stream.frame_stack out"),
        (["--out", "x", "--stream", "reach-v3", "--set", "stream.partially_observable=true"],
         "leave stream.partially_observable out"),
        (["--out", "x", "--stream", "reach-v3", "--policy"], "add --run FOLDER"),
        (["--out", "x", "--run", "nowhere"], "nowhere is not a run folder"),
        (["--out", "/proc/x", "--stream", "reach-v3"], "cannot write /proc/x"),
        (["--out", "/dev/null", "--stream", "reach-v3"], "cannot write /dev/null"),
    ],
)
def test_words(arguments, hint, here, capsys):
    assert hint in fails(capsys, "data", *arguments)


def test_a_run_gives_its_replay_or_its_policies(here, capsys):
    stream = crl.make_stream("Pendulum-v1", horizon=20, steps_per_task=60)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    trained = crl.train(agent, stream, out=here / "run", eval_episodes=1)
    assert run("data", "--run", "run", "--out", "sets") == 0
    assert "Pendulum-v1" in capsys.readouterr().out
    replayed = read_data("sets", "Pendulum-v1", stream)
    assert replayed.lengths.tolist() == [20, 20, 20]
    assert replayed.returns == pytest.approx(trained.train()["return"], rel=1e-4)
    assert run("data", "--run", "run", "--policy", "--episodes", "2", "--out", "sets") == 0
    played = read_data("sets", "Pendulum-v1", stream, kind="policy")
    assert same(played, collect(trained.policy("Pendulum-v1"), stream[0], episodes=2))
    info = json.loads(Path("sets/Pendulum-v1/policy-v0/data/metadata.json").read_text())
    assert info["algorithm_name"] == "sac + fine-tuning"
    assert info["crl"]["settings"]["env_step"] == 60
    for more, hint in ((["--episodes", "2"], "leave --episodes out, or add --policy"),
                       (["--set", "stream.horizon=3"], "leave --set out")):
        assert hint in fails(capsys, "data", "--run", "run", "--out", "sets", *more)


def test_policies_of_a_stream_made_in_code(tmp_path):
    stream = corners(2, steps=50)
    agent = crl.make_agent("sac", stream, hidden=(8,))
    trained = crl.train(agent, stream, out=tmp_path / "run", eval_episodes=1)
    make_data(stream, tmp_path / "sets", run=trained, episodes=3)
    assert len(read_data(tmp_path / "sets", "corner-1", stream)) == 3
    folder = tmp_path / "sets" / "corner-1" / "policy-v0" / "data"
    assert "env_spec" not in json.loads((folder / "metadata.json").read_text())


def test_a_kill_at_any_point_is_gone_on_from(tmp_path):
    driver = Driver(tmp_path)
    try:
        points = [
            ("crl.data.making:play", "after", 1),                      # nothing yet
            ("crl.data.minari_store:_hash_files", "after", 1),         # before the rename
            ("crl.data.folder:write_data", "after", 1),                # after it
            ("minari.dataset._storages.hdf5_storage:HDF5Storage.update_episodes", "after", 1),
        ]
        there = []
        for target, when, call in points:
            assert driver(*DATA, kill={"target": target, "when": when, "call": call}).killed
            there.append(sorted(p.parent.name for p in tmp_path.glob("sets/*/scripted-v0")))
        assert there == [[], [], ["window-close-v3"], ["window-close-v3"]]
        assert len(list(tmp_path.glob("sets/*/.*.unfinished"))) == 1
        done = driver(*DATA)
        assert done.status == 0
        assert done.out.count("was there") == 1
    finally:
        driver.close()
    assert not list(tmp_path.glob("sets/*/.*"))
    for task in crl.make_stream("window-close-v3,reach-v3", horizon=8):
        whole = collect(scripted_policy(task.name), task, episodes=3, noise=0.2)
        assert same(read_data(tmp_path / "sets", task.name), whole)


def test_a_disk_without_room_is_one_line_and_leaves_nothing(here, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("crl.data.minari_store._hash_files", full)
    with pytest.raises(crl.UserError, match="No space left on device"):
        make_data(crl.make_stream("reach-v3", horizon=5), here / "new", episodes=1)
    assert list(here.iterdir()) == []


def test_bench(monkeypatch):
    monkeypatch.setattr(bench_data, "_TASKS", ("reach-v3", "push-v3"))
    for name, value in {"_EPISODES": 1, "_STEPS": 5, "_TURNS": 1}.items():
        monkeypatch.setattr(bench_data, name, value)
    rows = list(bench.BENCHES["data"]())
    assert [row["case"] for row in rows] == ["reach-v3", "push-v3", "geometric mean"]
    for row in rows:
        assert row["unit"] == "s/transition"
        assert row["ours/peer"] == row["ours"] / row["peers"]["metaworld"]
    assert rows[-1]["ours"] == pytest.approx(np.sqrt(rows[0]["ours"] * rows[1]["ours"]))


def test_the_toy_is_as_wide_as_it_says():
    """What the tests above count on."""
    assert collect(Toward(), CORNER, episodes=1).obs.shape[1] == 3
