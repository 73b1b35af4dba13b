"""What a report says, and how it answers to folders that are unfinished, odd or wrong."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from synthetic import TASKS, edit_info, write_run

from crl.errors import UserError
from crl.metrics import summarize
from crl.report import report
from crl.report.curves import band, views
from crl.report.load import Section, load, sections
from crl.report.tables import headline, learned_and_kept, score
from crl.rows import MEASURES, Rows
from crl.run import Run

NASTY = '<script>document.title="owned"</script>'


def figures(page: Path) -> dict[str, Any]:
    """The figures of a page, by element id."""
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>',
                      page.read_text(), re.DOTALL)
    assert found
    made: dict[str, Any] = json.loads(found[1])
    return made


def only_section(*folders: Path) -> Section:
    found = sections(load(folders))
    assert len(found) == 1
    return found[0]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A report on two methods with two seeds each, and its runs."""
    root = tmp_path_factory.mktemp("pair")
    runs = [write_run(root / f"{method}-{seed}", method=method, seed=seed)
            for method in (None, "packnet") for seed in (0, 1)]
    return report(runs, root / "out" / "report"), runs


def test_report_has_page_pictures_and_tables(pair: tuple[Path, list[Path]]) -> None:
    page, _ = pair
    assert page.name == "index.html"
    assert {path.name for path in page.parent.iterdir()} == {
        "index.html", "curves.png", "returns.png", "mean.png", "matrix.png", "metrics.csv",
        "curves.csv"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in page.parent.glob("*.png"))
    text = page.read_text()
    assert not re.search(r'(src|href)="(https?:)?//', text.split('id="figures"')[0])
    assert f"--out {page.parent}" in text
    assert 5e6 > len(text) > 4e6  # plotly.js is in it


def test_diagnostics_are_drawn_where_there_are_some(
    pair: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    page, _ = pair
    assert "inside-0" not in figures(page)
    runs = [write_run(tmp_path / f"{method}-{seed}", method=method, seed=seed)
            for method in (None, "packnet") for seed in (0, 1)]
    for number, run in enumerate(runs[:3]):  # the fourth was not diagnosed
        measures = Rows(run / "diagnostics.csv", columns=MEASURES)
        for step, value in ((0, 0.25), (30_000, 0.5 + number)):
            for part in ("actor", "critic"):
                measures.write({"env_step": step, "grad_step": step, "train_task": 0, "part": part,
                                "measure": "dormant", "value": value})
        measures.write({"env_step": 30_000, "grad_step": 0, "train_task": 1, "part": "actor",
                        "measure": "kl_forward", "value": 3.0})
        measures.close()
    made = figures(report(runs, tmp_path / "report"))["inside-0"]
    go.Figure(made)
    titles = [note["text"] for note in made["layout"]["annotations"]]
    assert titles == ["<b>Dormant units · actor</b>", "<b>Dormant units · critic</b>",
                      "<b>KL(at last boundary ‖ now) · actor</b>"]
    lines = {(t["name"], t["yaxis"]): t for t in made["data"] if t["meta"]["role"] == "line"}
    assert {axis for _, axis in lines} == {"y", "y2", "y3"}
    together = [t for (name, axis), t in lines.items() if "packnet" not in name and axis == "y"]
    assert [t["y"] for t in together] == [[0.25, 1.0]]  # the mean of both seeds
    alone = [t for (name, axis), t in lines.items() if "packnet" in name and axis == "y2"]
    assert [t["y"] for t in alone] == [[0.25, 2.5]]
    bands = [t for t in made["data"] if t["meta"]["role"] == "band"]
    assert len(bands) == 3  # of the group with two diagnosed seeds


def test_metrics_table_is_that_of_crl_metrics(pair: tuple[Path, list[Path]]) -> None:
    page, runs = pair
    expected = summarize([Run(run).scores() for run in runs[2:]])
    found = {row["metric"]: row for row in rows(page.parent / "metrics.csv")
             if row["group"] == "sac + packnet"}
    assert {"env_steps", "cpu_s", "wall_s", *expected} == set(found)
    for name, summary in expected.items():
        for part in ("mean", "low", "high"):
            assert float(found[name][part]) == pytest.approx(getattr(summary, part), rel=1e-5)
    assert found["performance"]["seeds"] == "0 1"
    assert found["env_steps"]["mean"] == "90000"
    assert score(expected["min_acc_null"].mean) in page.read_text()


def test_curves_csv_holds_every_evaluation(pair: tuple[Path, list[Path]]) -> None:
    page, runs = pair
    table = rows(page.parent / "curves.csv")
    scores = Run(runs[0]).scores()
    mine = [row for row in table if row["run"] == str(runs[0])]
    assert len(table) == 4 * len(mine) == 4 * scores.values.size
    np.testing.assert_allclose([float(row["success"]) for row in mine], scores.values.ravel())
    np.testing.assert_allclose([float(row["return"]) for row in mine],
                               Run(runs[0]).scores("return").values.ravel(), rtol=1e-5)
    assert mine[-1]["eval_task"] == mine[-1]["train_task"] == TASKS[-1]


def test_figures_are_valid_plotly_with_every_task(pair: tuple[Path, list[Path]]) -> None:
    page, _ = pair
    made = figures(page)
    for figure in made.values():
        go.Figure(figure)  # raises on any attribute that plotly does not know
    curves = made["curves-0"]
    lines = [t for t in curves["data"] if t["meta"]["role"] == "line"]
    assert len(lines) == 2 * len(TASKS)
    assert len([t for t in curves["data"] if t["meta"]["role"] == "band"]) == len(lines)
    assert [s["x0"] for s in curves["layout"]["shapes"] if s["name"] == "boundary"] == [
        30_000, 60_000]
    assert [(s["x0"], s["x1"]) for s in curves["layout"]["shapes"] if s["name"] == "trained"] == [
        (0, 30_000), (30_000, 60_000), (60_000, 90_000)]
    assert np.shape(made["matrix-0-0"]["data"][0]["z"]) == (3, 31)


def test_returns_of_evaluations_are_drawn_for_every_task(pair: tuple[Path, list[Path]]) -> None:
    page, runs = pair
    lines = [t for t in figures(page)["earned-0"]["data"] if t["meta"]["role"] == "line"]
    assert len(lines) == 2 * len(TASKS)
    both = np.mean([Run(run).scores("return").values[:, 0] for run in runs[:2]], axis=0)
    shown = [t["y"] for t in lines if t.get("yaxis", "y") == "y"]
    assert min(np.abs(np.array(y) - both).max() for y in shown) < 1e-3


def test_headline_names_the_method_that_kept_its_tasks(pair: tuple[Path, list[Path]]) -> None:
    section = only_section(*pair[1])
    best, other = section.groups
    sentence, caution = headline(section)
    assert sentence == (f"sac + packnet keeps {score(best.performance)} of the 3 tasks at the end; "
                        f"sac + fine-tuning {score(other.performance)}.")
    assert "do not overlap" in caution
    assert sentence in pair[0].read_text()


def test_learned_and_kept_are_windows_of_the_metrics(pair: tuple[Path, list[Path]]) -> None:
    group = only_section(*pair[1]).groups[0]
    kept = [k for _, k in learned_and_kept(group)]
    lost = [learned - k for learned, k in learned_and_kept(group)]
    assert np.mean(kept) == pytest.approx(group.performance)
    assert np.mean(lost) == pytest.approx(group.summaries["forgetting"].mean)


def test_one_run_has_lines_without_bands(tmp_path: Path) -> None:
    page = report([write_run(tmp_path / "run")], tmp_path / "report")
    assert all(t["meta"]["role"] == "line" for t in figures(page)["curves-0"]["data"])
    assert "A single seed can be luck" in page.read_text()


def test_groups_are_configurations_and_seeds_are_not(tmp_path: Path) -> None:
    section = only_section(
        write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1),
        write_run(tmp_path / "c", seed=0, agent={"learning_rate": 3e-4}),
        write_run(tmp_path / "d", seed=0, method="ewc"))
    assert {group.name: len(group.runs) for group in section.groups} == {
        "sac + packnet (learning_rate=0.001)": 2, "sac + packnet (learning_rate=0.0003)": 1,
        "sac + ewc": 1}


def test_threads_do_not_part_a_group_and_long_names_stay_unique(tmp_path: Path) -> None:
    threads = [write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1)]
    config = Run(threads[1]).config
    edit_info(threads[1], config={**config, "train": {**config["train"], "threads": 8}})
    assert len(only_section(*threads).groups) == 1
    many = {f"a_setting_with_a_long_name_{i}": 0 for i in range(5)}
    long = [write_run(tmp_path / f"long-{i}", agent={**many, "a_setting_with_a_long_name_4": i})
            for i in range(2)]
    long.append(write_run(tmp_path / "long-2", agent=dict.fromkeys(many, 7)))
    names = [group.name for group in only_section(*long).groups]
    assert len(set(names)) == 3
    assert all(len(name) < 100 for name in names)


def test_protocols_are_never_averaged_together(tmp_path: Path) -> None:
    page = report([write_run(tmp_path / "a"), write_run(tmp_path / "b", protocol="other-v2")],
                  tmp_path / "report")
    text = page.read_text()
    assert "2 different protocols" in text
    assert text.count("<section ") == 2
    assert {row["protocol"] for row in rows(page.parent / "metrics.csv")} == {
        "other-v2", "quick3-v1:metaworld-3.1.1:30000"}
    assert (page.parent / "curves-2.png").exists()


def test_same_protocol_name_with_other_tasks_is_another_section(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", protocol="mine"),
            write_run(tmp_path / "b", protocol="mine", tasks=TASKS[:2])]
    assert [len(section.tasks) for section in sections(load(runs))] in ([3, 2], [2, 3])


def test_unfinished_runs_are_apart_and_marked(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1),
            write_run(tmp_path / "c", seed=2, status="interrupted", stop_at=0.4),
            write_run(tmp_path / "d", seed=3, status="running", stop_at=0)]
    section = sections(load(runs))[0]
    done, rest = section.groups
    assert (done.finished, len(done.runs), rest.finished, len(rest.runs)) == (True, 2, False, 1)
    assert done.colour == rest.colour
    text = report(runs, tmp_path / "report").read_text()
    assert "sac + packnet · unfinished" in text
    assert "at 36,000 of 90,000 steps" in text
    assert "1 run without any evaluation yet" in text
    assert "running, or killed, no evaluation yet" in text


def test_only_unfinished_runs_make_a_page_without_a_winner(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", status="running", stop_at=0.5)
    assert "No run has finished yet" in report([run], tmp_path / "report").read_text()


def test_repeated_seeds_are_noticed_and_repeated_folders_are_not(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", seed=5), write_run(tmp_path / "b", seed=5)]
    assert "more than one run with seed 5" in report(runs, tmp_path / "report").read_text()
    assert len(load([runs[0], runs[0] / ".." / "a", Run(runs[0])])) == 1


def test_mixed_commits_are_noticed(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1)]
    edit_info(runs[1], commit=None)
    text = report(runs, tmp_path / "report").read_text()
    assert "mixes 2 versions of the code" in text


def test_evaluations_at_other_steps_are_averaged_by_their_turn(tmp_path: Path) -> None:
    section = only_section(*(write_run(tmp_path / f"{s}", seed=s, jitter=150) for s in range(3)))
    view = views(section)[0]
    assert len(view.tasks) == 1
    assert view.tasks[0].low is not None
    stack = np.stack([Run(tmp_path / f"{s}").scores().values for s in range(3)])
    np.testing.assert_allclose(view.tasks[0].y, stack.mean(axis=0))


def test_runs_evaluated_unequally_often_are_drawn_one_by_one(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", seed=0), write_run(tmp_path / "b", seed=1)]
    evals = runs[1] / "evals.csv"
    lines = evals.read_text().splitlines(keepends=True)
    evals.write_text("".join(line for line in lines if not line.startswith("3000,")))
    view = views(only_section(*runs))[0]
    assert [line.low for line in view.tasks] == [None, None]
    assert [len(line.x) for line in view.tasks] == [31, 30]
    assert [line.name for line in view.tasks] == ["seed 0", "seed 1"]


def test_long_curves_are_thinned_but_keep_every_boundary(tmp_path: Path) -> None:
    section = only_section(write_run(tmp_path / "a", evaluations=100, eval_episodes=1))
    view = views(section, budget=120)[0]
    assert len(view.steps) < 60
    assert view.every > 1
    assert {0, 30_000, 60_000, 90_000} <= set(view.steps.tolist())


def test_band_is_the_interval_of_the_mean() -> None:
    stack = np.random.default_rng(1).random((6, 4, 2))
    mean, low, high = band(stack)
    np.testing.assert_allclose(mean, stack.mean(axis=0))
    assert ((low < mean) & (mean < high)).all()
    assert ((low > stack.min(axis=0)) & (high < stack.max(axis=0))).all()


def test_text_from_run_json_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", label=NASTY, tasks=[NASTY, "b$c$", "%{x}"])
    text = report([run], tmp_path / "report").read_text()
    assert NASTY not in text
    assert "&lt;script&gt;document.title=&quot;owned&quot;&lt;/script&gt;" in text


def test_nothing_to_show_is_one_line(tmp_path: Path) -> None:
    empty = write_run(tmp_path / "a", status="running", stop_at=0)
    bare = write_run(tmp_path / "b", status="running", stop_at=0)
    (bare / "evals.csv").unlink()
    for runs, message in (([], "no run to report on"), ([empty, bare], "no evaluation yet in"),
                          ([tmp_path], "not a run folder")):
        with pytest.raises(UserError, match=message) as error:
            report(runs, tmp_path / "report")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "report").exists()


def test_damaged_evaluations_name_their_file(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    lines = (run / "evals.csv").read_text().splitlines(keepends=True)
    values = lines[1].split(",")
    lines[1] = ",".join([*values[:5], "99", *values[6:]])  # eval_task
    (run / "evals.csv").write_text("".join(lines))
    with pytest.raises(UserError, match=r"evals\.csv is damaged"):
        report([run], tmp_path / "report")


def test_unwritable_out_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "a")
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UserError, match="is a file"):
        report([run], file / "report")

    def full(path: Path, content: bytes) -> None:
        if path.name == "index.html":
            raise OSError(28, "No space left on device")
        path.write_bytes(content)

    monkeypatch.setattr("crl.outputs.replace_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        report([run], tmp_path / "deep" / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file"]


def test_files_in_out_are_replaced_and_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "report"
    out.mkdir()
    (out / "index.html").write_text("old")
    (out / "notes.txt").write_text("mine")
    page = report([write_run(tmp_path / "a")], str(out))
    assert page.read_text().startswith("<!doctype html>")
    assert (out / "notes.txt").read_text() == "mine"


def test_partial_evaluations_still_make_a_page(tmp_path: Path) -> None:
    """Streams may be evaluated on the tasks seen so far only: then some scores do not exist."""
    runs = [write_run(tmp_path / f"{s}", seed=s) for s in range(2)]
    for run in runs:
        lines = (run / "evals.csv").read_text().splitlines(keepends=True)
        seen = [line for line in lines[1:] if int(line.split(",")[5]) <= int(line.split(",")[4])]
        (run / "evals.csv").write_text("".join([lines[0], *seen]))
    made = figures(report(runs, tmp_path / "report"))
    third = next(t for t in made["curves-0"]["data"]
                 if t["meta"]["role"] == "line" and t["yaxis"] == "y3")
    assert third["y"][0] is None
    assert third["y"][-1] is not None


def test_one_task_and_current_task_only_evaluations(tmp_path: Path) -> None:
    single = write_run(tmp_path / "single", tasks=TASKS[:1], protocol="one")
    current = write_run(tmp_path / "current")
    lines = (current / "evals.csv").read_text().splitlines(keepends=True)
    now = [line for line in lines[1:] if line.split(",")[5] == line.split(",")[4]]
    (current / "evals.csv").write_text("".join([lines[0], *now]))
    (current / "train.csv").unlink()
    page = report([current, single], tmp_path / "report")
    text = page.read_text()
    assert "leave out tasks" in text
    assert "of its task at the end" in text
    assert "returns-0" not in figures(page)
    assert "returns-1" in figures(page)
