"""What a leaderboard says, what it refuses, and with whom its numbers agree."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import write_entry, write_run

import crl
from crl.bootstrap import bootstrap_interval, interquartile_mean, probability_of_improvement
from crl.cli import main
from crl.config import build
from crl.leaderboard import check, leaderboard, protocols
from crl.leaderboard.entries import read_entries, scores_of
from crl.leaderboard.protocols import PROTOCOLS, TOLD, Protocol
from crl.leaderboard.ranking import COLUMNS, performance_profile, rank
from crl.leaderboard.references import read_references, write_references
from crl.metrics import min_acc, min_acc_null, summarize
from crl.train_config import TrainConfig

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
NASTY = '<script>document.title="owned"</script>'


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_say_what_their_streams_are(name: str) -> None:
    protocol = PROTOCOLS[name]
    stream = crl.make_stream(**protocol.stream)
    assert stream.protocol == protocol.fixed  # else the stream has changed: a new version
    assert (stream.boundaries == "hidden") == (protocol.told == "domain")
    assert protocol.told in TOLD
    build(TrainConfig, protocol.train, "train")
    page = (RESULTS.parents[1] / "docs" / "leaderboard.md").read_text()
    assert (f"| `{name}` | {protocol.version} | {len(stream)} × {stream[0].steps:,} | every "
            f"{protocol.train['eval_every']:,}, {protocol.train['eval_episodes']} episodes | "
            f"{protocol.seeds} | {protocol.told} | {protocol.score} |") in page
    assert len(protocol.scale) in (0, len(stream))
    assert protocol.seeds >= 3


def test_no_two_protocols_are_of_one_stream() -> None:
    assert len({protocol.fixed for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)


# ---- from training to the table


TINY = Protocol(
    "tiny", 1, {"name": "Pendulum-v1,Pendulum-v1", "steps_per_task": 50, "horizon": 25},
    "tasks-v1,Pendulum-v1,Pendulum-v1:steps=50:horizon=25",
    {"eval_every": 25, "eval_episodes": 2, "eval_tasks": "seen", "eval_deterministic": True},
    seeds=1, told="task", about="For this test.", scale=((-200.0, 0.0),) * 2)


def test_a_run_of_a_protocol_is_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PROTOCOLS, "tiny", TINY)
    monkeypatch.chdir(tmp_path)

    def crl_says(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ending:
            main(arguments)
        assert ending.value.code == 0, capsys.readouterr().err
        return capsys.readouterr().out

    crl_says("train", "--protocol", "tiny", "--agent", "sac", "--method", "ewc", "--set",
             "agent.start_steps=90", "--out", "entry/0")
    info = crl.Run("entry/0").info
    assert info["protocol"] == TINY.fixed
    assert TINY.train.items() <= info["config"]["train"].items()
    assert set(info["sha256"]) == {"evals.csv", "train.csv"}
    assert info["kept"]["networks"] > 0
    assert "may be submitted: tiny v1: sac + ewc, seeds 0 to 0" in crl_says(
        "leaderboard", "--check", "entry")
    assert "leaderboard/index.html" in crl_says("leaderboard", "entry")
    assert {path.name for path in Path("leaderboard").iterdir()} == {
        "index.html", "leaderboard.csv", "leaderboard.md", "tasks.csv"}
    performance = summarize([scores_of(crl.Run("entry/0"), TINY)])["performance"].mean
    row = next(csv.DictReader(Path("leaderboard/leaderboard.csv").read_text().splitlines()))
    assert float(row["performance"]) == pytest.approx(performance, rel=1e-5)
    assert "tiny" in crl_says("list", "protocols")


@pytest.mark.parametrize(("arguments", "says"), [
    (["--protocol", "laptop"], "unknown protocol 'laptop'; did you mean"),
    (["--protocol", "arm4", "--stream", "arm4"], "leave --stream out"),
    (["--protocol", "arm4", "--set", "stream.horizon=9"], "settles stream.horizon; leave --set"),
    (["--protocol", "arm4", "--set", "train.eval_episodes=1"], "settles train.eval_episodes"),
])
def test_a_protocol_is_not_trained_otherwise(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ending:
        main(["train", *arguments])
    assert ending.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- refusals


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def set_train(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        edit(folder / "run.json", lambda info: {**info, "config": {
            **info["config"], "train": {**info["config"]["train"], name: value}}})
    return change


def set_info(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "run.json", lambda info: {**info, **changes})


def without_hash(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Changes rows of a run that recorded no hash."""
    def changed(folder: Path) -> None:
        edit(folder / "run.json", lambda info: {k: v for k, v in info.items() if k != "sha256"})
        path = folder / "evals.csv"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    return changed


def relabel(folder: Path) -> None:
    shutil.rmtree(folder.parent / "ewc-1")
    shutil.copytree(folder, folder.parent / "ewc-1")
    set_info(seed=1)(folder.parent / "ewc-1")


@pytest.mark.parametrize(("change", "says"), [
    (set_info(status="running"), "is running; type 'crl resume"),
    (lambda f: (f / "evals.csv").write_text((f / "evals.csv").read_text().replace("0,40", "1,40")),
     "was edited: its SHA-256 is not what"),
    (without_hash(lambda rows: rows[:-20]), "it goes from step 0 to 19,500, not from 0 to 20,000"),
    (without_hash(lambda rows: rows[:-5]), "an evaluation is not of all its tasks"),
    (without_hash(lambda rows: rows[:-4]), "are no evaluations of 5 episodes each"),
    (without_hash(lambda rows: rows[:21] + rows[41:]), "evaluation 1 is not of seed 0"),
    (without_hash(lambda rows: [*rows[:22], rows[23], rows[22], *rows[24:]]), "out of order"),
    (set_info(seed=5), "is not of seed 5"),
    (relabel, "is not of seed 1"),
    (set_info(protocol="arm4-v1:steps=99:horizon=default"), "which is of no protocol; type 'crl"),
    (set_train("eval_episodes", 10), "train.eval_episodes is 10, and protocol 'arm4' says 5"),
    (lambda f: write_run(f.parent / "quick", protocol="laptop-3"),
     "runs of different protocols, which must not stand in one table: arm4 (5) and laptop-3 (1)"),
    (lambda f: shutil.rmtree(f), "lacks seed 0 of 0 to 4; type 'crl train --config"),
    (lambda f: shutil.rmtree(f.parent / "ewc-4"), "lacks seed 4 of 0 to 4"),
    (lambda f: write_run(f.parent / "late", seed=7), "lacks seeds 5, 6 of 0 to 7"),
    (lambda f: write_run(f.parent / "again", skill=0.8), "are both seed 0 of 'sac + ewc'; take"),
    (lambda f: shutil.copytree(f, f.parent / "copy"), "are the same run twice; take one out"),
    (lambda f: (f / "evals.csv").unlink(), "cannot read"),
])
def test_what_must_not_stand_in_a_table_is_refused(
    change: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    folder = write_entry(tmp_path / "entry")
    assert check(folder) == "arm4 v1: sac + ewc, seeds 0 to 4"
    change(folder / "ewc-0")
    for command in (check, lambda source: leaderboard(source, tmp_path / "board")):
        with pytest.raises(crl.UserError, match=re.escape(says)) as error:
            command(folder)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "board").exists()


def test_a_run_without_hashes_is_shown_with_a_notice_and_cannot_be_submitted(
    tmp_path: Path
) -> None:
    folder = write_entry(tmp_path / "entry")
    without_hash(lambda rows: rows)(folder / "ewc-3")
    page = leaderboard(folder, tmp_path / "board").read_text()
    assert "1 run of 5 recorded no SHA-256" in page
    with pytest.raises(crl.UserError, match=r"ewc-3 was made by a crl that recorded no SHA-256"):
        check(folder)


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(crl.UserError, match="holds no run folder"):
        check(tmp_path)
    with pytest.raises(crl.UserError, match="there is no folder"):
        check(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(crl.UserError, match="choose another --out"):
        leaderboard(write_entry(tmp_path / "entry"), tmp_path / "file")


# ---- numbers


def test_the_table_of_arm4_is_that_of_its_runs() -> None:
    rows = {row.group.name: row for row in rank(read_entries(RESULTS / "arm4"))}
    with open(RESULTS / "arm4" / "table.csv", newline="") as file:
        written = {row["method"]: row for row in csv.DictReader(file)}
    for name in ("packnet", "gem", "redo"):
        row = rows[f"sac + {name}"]
        for key, column in (("performance", "performance"), ("forgetting", "forgetting"),
                            ("transfer", "forward_transfer"), ("cpu_s", "cpu_s")):
            assert row.values[key].mean == pytest.approx(float(written[name][column]), rel=2e-3)
        runs = [crl.Run(RESULTS / "arm4" / f"{name}-{seed}").scores() for seed in range(5)]
        gap = np.mean([min_acc_null(run) - min_acc(run) for run in runs])
        assert row.values["gap"].mean == pytest.approx(gap)
        kept = json.loads((RESULTS / "arm4" / f"{name}-0" / "run.json").read_text())["kept"]
        assert row.values["kept"].per_run[0] == pytest.approx(sum(kept.values()) / 4e3)
        assert row.kept.mean() == pytest.approx(row.values["performance"].mean)
        assert (row.learned - row.kept).mean() == pytest.approx(row.values["forgetting"].mean)
    order = [row.values["performance"].mean for row in rows.values()]
    assert order == sorted(order, reverse=True)


def test_returns_are_scaled_as_the_protocol_says() -> None:
    entries = read_entries(RESULTS / "hypercrl" / "pusher")
    row = rank(entries)[0]
    runs = [crl.Run(RESULTS / "hypercrl" / "pusher" / f"hypercrl-{seed}") for seed in range(3)]
    returns = np.mean([run.scores("return").values[-1] for run in runs])
    assert row.group.name == "hypercrl"
    assert row.values["performance"].mean == pytest.approx(returns / 300)
    assert all(np.isnan(row.values[key].mean) for key in ("transfer", "gap"))


def test_references_are_the_single_task_curves(tmp_path: Path) -> None:
    arm4 = PROTOCOLS["arm4"]
    tasks = ["arm-plain", "arm-swapped", "arm-plain@2"]
    references = read_references(arm4, tasks)
    assert references is not None
    for task, curves in zip(tasks, references, strict=True):
        single = [crl.Run(RESULTS / "arm4-single" / f"{task.partition('@')[0]}-{seed}").scores()
                  for seed in range(5)]
        for curve, run in zip(curves, single, strict=True):
            np.testing.assert_allclose(curve.values, run.values, atol=1e-6)
            np.testing.assert_array_equal(curve.env_step, run.env_step)
            assert curve.episodes == run.episodes == 5
    assert read_references(PROTOCOLS["cw20"], ["push-v3"]) is None
    runs = [crl.Run(folder) for folder in sorted((RESULTS / "arm4-single").iterdir())]
    write_references(arm4, runs, tmp_path / "arm4.csv")
    file = Path(protocols.__file__).parent / "references" / "arm4.csv"
    assert sorted((tmp_path / "arm4.csv").read_text().split()) == sorted(file.read_text().split())
    with pytest.raises(crl.UserError, match="no finished run of a single task"):
        write_references(arm4, [crl.Run(RESULTS / "arm4" / "ewc-0")], tmp_path / "x.csv")
    with pytest.raises(crl.UserError, match=r"its train.eval_every is 500"):
        write_references(PROTOCOLS["laptop-3"], runs, tmp_path / "x.csv")


# rliable 1.2.0 with arch 7.2.0, scipy 1.17.1, numpy 2.4.6, pandas 2.3.3 in a throwaway environment:
# get_interval_estimates({"a": A, "b": B}, [aggregate_iqm, aggregate_mean], reps=50_000,
# confidence_interval_size=.9, random_state=RandomState(1)); create_performance_profile of B, and of
# its second task, reps=10_000; probability_of_improvement, and of the first task with
# get_interval_estimates, reps=20_000.
A = np.array([[0.85, 0.5, 0.22], [0.83, 0.67, 0.15], [0.62, 0.34, 0.28], [0.87, 0.56, 0.13],
              [0.96, 0.54, 0.48]])
B = np.array([[0.8, 0.4, 0.23], [0.58, 0.35, 0.17], [0.63, 0.55, 0.29], [0.92, 0.23, 0.11],
              [0.59, 0.69, 0.1]])
RLIABLE_IQM = {"a": (0.53555556, 0.46888889, 0.59777778), "b": (0.42777778, 0.36555556, 0.5)}
RLIABLE_MEAN = {"a": (0.53333333, 0.484, 0.58266667), "b": (0.44266667, 0.38933333, 0.49866667)}
RLIABLE_BETTER, RLIABLE_BETTER_ON_ONE = 0.66666667, (0.76, 0.44, 1.0)
TAU = [0.1, 0.25, 0.5, 0.65, 0.8]
RLIABLE_PROFILE = [0.93333333, 0.66666667, 0.46666667, 0.2, 0.06666667]
RLIABLE_PROFILE_OF_ONE = ([1.0, 0.8, 0.4, 0.2, 0.0], [1.0, 0.4, 0.0, 0.0, 0.0],
                          [1.0, 1.0, 0.8, 0.6, 0.0])


def test_agrees_with_rliable() -> None:
    for scores, name in ((A, "a"), (B, "b")):
        for statistic, expected in ((interquartile_mean, RLIABLE_IQM[name]),
                                    (np.mean, RLIABLE_MEAN[name])):
            found = bootstrap_interval(scores, statistic, stratified=True, resamples=50_000)
            assert (statistic(scores), *found) == pytest.approx(expected, abs=0.002)
    assert probability_of_improvement(A, B)[0] == pytest.approx(RLIABLE_BETTER)
    # Of one task there is nothing to stratify: whole runs are what rliable draws too.
    found = probability_of_improvement(A[:, :1], B[:, :1], resamples=50_000)
    assert found == pytest.approx(RLIABLE_BETTER_ON_ONE, abs=1e-6)
    assert performance_profile(B, TAU)[0] == pytest.approx(RLIABLE_PROFILE)
    profile = performance_profile(B[:, 1:2], TAU, resamples=50_000)
    for ours, theirs in zip(profile, RLIABLE_PROFILE_OF_ONE, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert np.isnan(performance_profile(B[:1], TAU)[1]).all()


# ---- page and tables


def test_tables_agree_with_each_other(tmp_path: Path) -> None:
    for method, kept in (("packnet", 0.9), ("ewc", 0.6), (None, 0.2)):
        write_entry(tmp_path / "runs", method, kept=kept)
    page = leaderboard(tmp_path / "runs", tmp_path / "board")
    with open(page.parent / "leaderboard.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["entry"] for row in rows] == ["sac + packnet", "sac + ewc", "sac + fine-tuning"]
    assert all(row["protocol"] == "arm4 v1" and row["seeds"] == "5" for row in rows)
    assert {f"{c.key}{end}" for c in COLUMNS for end in ("", "_low", "_high")} < set(rows[0])
    with open(page.parent / "tasks.csv", newline="") as file:
        tasks = list(csv.DictReader(file))
    assert len(tasks) == 3 * 5 * 4
    ewc = [float(row["kept"]) for row in tasks if row["entry"] == "sac + ewc"]
    assert float(rows[1]["performance"]) == pytest.approx(np.mean(ewc), abs=1e-5)
    lines = (page.parent / "leaderboard.md").read_text().splitlines()
    assert lines[0].startswith("arm4 v1, success")
    assert f"| 2 | sac + ewc | 5 | {float(rows[1]['performance']):.2f} [" in lines[5]
    text = page.read_text()
    assert not re.search(r'(src|href)="(https?:)?//', text)
    assert len(text) < 1e6
    assert "sac + packnet leads arm4 with 0.9" in text


def test_text_from_users_is_escaped(tmp_path: Path) -> None:
    write_entry(tmp_path / "runs", agent={"name": NASTY})
    text = leaderboard(tmp_path / "runs", tmp_path / "board").read_text()
    assert NASTY not in text
    assert "&lt;script&gt;document" in text


def test_more_seeds_than_asked_for_count(tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "runs", seeds=7)
    assert check(folder).endswith("seeds 0 to 6")
    assert len(rank(read_entries(folder))[0].group.runs) == 7


def test_a_new_version_of_a_protocol_is_another(monkeypatch: pytest.MonkeyPatch,
                                                tmp_path: Path) -> None:
    folder = write_entry(tmp_path / "runs")
    changed = dataclasses.replace(PROTOCOLS["arm4"], version=2, fixed="arm4-v2:steps=5000")
    monkeypatch.setitem(PROTOCOLS, "arm4", changed)
    with pytest.raises(crl.UserError, match="of no protocol"):
        check(folder)


def test_evidence_is_of_what_can_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(RESULTS.parent)
    evidence = importlib.import_module("evidence")
    streams = {name: crl.make_stream(**PROTOCOLS[name].stream) for name in evidence.ROWS}
    tried = []

    def try_out(launch: dict[str, Any], *args: object, **options: object) -> crl.Run:
        agent = crl.make_agent(stream=streams[name], **launch["agent"])
        agent.attach([crl.make_method(**method) for method in launch["methods"]])
        assert PROTOCOLS[name].train.items() <= launch["train"].items()
        tried.append(row)
        return crl.Run(RESULTS / "arm4" / "ewc-0")

    monkeypatch.setattr("crl.launch.run_launch", try_out)
    for name, rows in evidence.ROWS.items():
        for row, arguments in evidence.jobs(name, 1).items():
            with pytest.raises(SystemExit) as ending:
                main(["train", *arguments])
            assert ending.value.code == 0, row
        assert len(tried) == len(rows)
        tried.clear()
        assert len(evidence.jobs(name, 3)) == 3 * len(rows)
    elsewhere = {"dream-rehearsal"}  # wants a world model
    assert set(crl.registry.methods.names()) - elsewhere <= set(evidence.ROWS["laptop-3"])
