"""Numbers quoted on the pages are those of the committed results."""

from __future__ import annotations

import csv
import importlib
import re
from pathlib import Path

import pytest

import crl
from crl import registry
from crl.metrics import summarize

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
RESULTS = EXPERIMENTS / "results" / "quick3"
ROW = re.compile(r"^\| (\S+) \| (-?[\d.]+) \[.*?\] \| (-?[\d.]+) \| (-?[\d.]+) \| (\d+) \|$", re.M)


def test_the_readmes_table_is_that_of_the_results():
    rows = {row[0]: row[1:] for row in ROW.findall((ROOT / "README.md").read_text())}
    assert set(rows) == {"packnet", "clonex", "ewc", "fine-tuning"}
    for name, (performance, forgetting, min_acc, cpu) in rows.items():
        runs = [crl.Run(folder) for folder in sorted(RESULTS.glob(f"{name.replace('-', '')}-*"))]
        assert len(runs) == 3
        assert all(run.status == "finished" for run in runs)
        summary = summarize([run.scores() for run in runs])
        assert float(performance) == pytest.approx(summary["performance"].mean, abs=0.005)
        assert float(forgetting) == pytest.approx(summary["forgetting"].mean, abs=0.005)
        assert float(min_acc) == pytest.approx(summary["min_acc"].mean, abs=0.005)
        seconds = [run.evals()["cpu_s"][-1] for run in runs]
        assert int(cpu) == pytest.approx(sum(seconds) / 3, abs=1)


def test_results_are_of_one_protocol_and_of_committed_code():
    infos = [crl.Run(folder).info for folder in RESULTS.iterdir()]
    assert len({info["protocol"] for info in infos}) == 1
    assert infos[0]["protocol"] == crl.make_stream("quick3").protocol
    assert not any(info["commit"].endswith("+dirty") for info in infos)


def on_page(page: str, name: str) -> str:
    """The table between the lines of its name."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- end -->", (ROOT / page).read_text(), re.S)
    assert found is not None, name
    return found[1]


def test_the_table_of_arm4_is_that_of_its_runs(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    made, pages = (importlib.import_module(name) for name in ("arm4_table", "pages"))
    table = made.rows()
    assert on_page("docs/methods.md", "arm4") == pages.markdown(made.shown(table))
    with open(EXPERIMENTS / "results" / "arm4" / "table.csv", newline="") as file:
        written = {row["method"]: row for row in csv.DictReader(file)}
    assert set(written) == {row["method"] for row in table}
    for row in table:
        for name, value in row.items():
            if name != "method":
                assert float(written[row["method"]][name]) == pytest.approx(value, rel=2e-3)
    # What the table is for: the ranking makes sense.
    performance = {row["method"]: row["performance"] for row in table}
    for keeps in ("packnet", "clonex", "ewc"):
        for forgets in ("finetuning", "a-gem", "redo"):
            assert performance[keeps] > performance[forgets] + 0.2


def test_the_page_says_which_methods_go_with_which_agents(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    made = importlib.import_module("agents_table")
    header, _, *lines = (line.strip("| ").split(" | ") for line in
                         on_page("docs/methods.md", "agents").splitlines())
    assert header == ["method", *made.AGENTS]
    assert [line[0].strip("`") for line in lines] == registry.methods.names()
    for name, *cells in lines:
        for agent, cell in zip(made.AGENTS, cells, strict=True):
            remedies = cell.split(", ") if cell not in "✓–" else []
            assert made.works(agent, name.strip("`"), []) == (cell == "✓"), (name, agent)
            assert not remedies or made.works(agent, name.strip("`"), remedies), (name, agent)


CLAIMS = {"which weights are whose": "kernels", "the form of layers": "layers",
          "activations": "activations", "which weights are deployed": "policy",
          "what is rehearsed": "rehearsal", "inputs": "inputs"}


def test_the_page_of_methods_has_all_of_them_and_what_they_claim():
    text = (ROOT / "docs" / "methods.md").read_text()
    sections = dict(re.findall(r"^### `(\S+)`\n(.*?)(?=^##)", text, re.M | re.S))
    methods = {name: registry.methods.load(name) for name in registry.methods.names()}
    assert list(sections) == list(sections | methods)
    for name, method in methods.items():
        assert method.paper in " ".join(sections[name].split())
        assert "$$" in sections[name] or "$" in sections[name]
    for row, claim in CLAIMS.items():
        found = re.search(rf"^\| {row} \| (.*) \|$", text, re.M)
        assert found is not None, row
        assert set(re.findall(r"`(\S+?)`", found[1])) == {
            name for name, method in methods.items() if claim in method.claims}


def test_the_page_of_l2m_says_what_slots_keep(monkeypatch):
    tables = tables_on("l2m.md", "l2m_table", monkeypatch)
    rows = {(row["method"], row["told by"]): row for row in tables["six-four"]}
    before, lora = rows["pretrained", "–"], rows["lora", "prototypes"]
    assert lora["seeds"] == before["seeds"] == 3
    assert (lora["old"], lora["old_end"]) == (before["old"], before["old_end"])  # to the last bit
    assert lora["match"] == lora["new"] == 1.0
    assert lora["new"] > before["new"] + 0.5
    assert rows["full", "–"]["old"] < before["old"] - 0.5
    rows = {(row["method"], row["told by"]): row for row in tables["forty-ten"]}
    lora, before = rows["lora", "prototypes"], rows["pretrained", "–"]
    assert lora["seeds"] == before["seeds"] == 3
    assert before["old"] > 0.9
    assert lora["old"] > before["old"] - 0.01
    assert lora["new"] > 0.9 > rows["full", "–"]["new"] + 0.4
    assert lora["match"] > 0.95


MADE = re.compile(r"^\| `(results/\S+)` \| (\d+) \| ([\d.]+) \| `(experiments/\S+\.py)", re.M)


def test_the_page_says_what_results_have_cost():
    rows = MADE.findall((ROOT / "docs" / "reproducibility.md").read_text())
    for name, count, hours, script in rows:
        runs = [crl.Run(path.parent) for path in (EXPERIMENTS / name).glob("*/run.json")]
        assert len(runs) == int(count), name
        spent = sum(run.evals()["cpu_s"][-1] for run in runs) / 3600
        assert float(hours) == pytest.approx(spent, abs=0.006), name
        assert (ROOT / script).exists()


TEN = re.compile(r"^\| ([a-z-]+)" + r" \| ([\d.]+|–)" * 6 + r" \|$", re.M)


def test_the_page_of_experiments_says_what_the_ten_tasks_gave():
    with open(EXPERIMENTS / "results" / "settings" / "ten.csv", newline="") as file:
        written = {(row["setting"], row["task"]): row for row in csv.DictReader(file)}
    quoted = TEN.findall((EXPERIMENTS / "README.md").read_text())
    assert len(quoted) == 10
    for task, *values in quoted:
        for setting, shown in (("plain", values[:3]), ("defaults", values[3:])):
            row = written[setting, f"{task}-v3"]
            expected = (row["final_success"], row["solved_cpu_s"], row["return_area"])
            for text, value in zip(shown, expected, strict=True):
                assert text == "–" if value == "nan" else float(text) == pytest.approx(
                    float(value), abs=0.51 if "." not in text else 0.006)


def tables_on(page, module, monkeypatch):
    """The tables that an experiment's results give; they are on its page and beside its results."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    made, pages = (importlib.import_module(name) for name in (module, "pages"))
    text, tables = (ROOT / "docs" / page).read_text(), made.tables()
    for name, table in tables.items():
        if f"<!-- {name} -->" in text:
            assert pages.markdown(table) in text, name
        with open(made.FOLDER / f"{name}.csv", newline="") as file:
            assert [list(row) for row in csv.DictReader(file)] == [list(row) for row in table]
    return tables


def test_the_tables_of_planners_are_those_of_their_runs(monkeypatch):
    tables = tables_on("planning.md", "hypercrl_table", monkeypatch)
    for name, table in tables.items():
        rows = {row["method"]: row for row in table}
        assert (rows["hypercrl"]["kept"] > 0.9) == (name != "door")
        assert rows["finetuning"]["kept"] < 0.5
        assert rows["finetuning"]["average"] < min(
            rows[other]["average"] for other in ("coreset", "ewc", "si"))
    pusher = {row["method"]: row for row in tables["pusher"]}
    assert pusher["hypercrl"]["average"] > max(
        pusher[name]["average"] for name in ("coreset", "ewc", "si"))


def test_the_tables_of_memories_are_those_of_their_runs(monkeypatch):
    tables = tables_on("memories.md", "memory_table", monkeypatch)
    # What they are for: memories beat none, and what is learned in a row is forgotten or kept.
    remembered = {row["memory"]: row["success_at_100"] for row in tables["t-maze"]}
    assert min(remembered[memory] for memory in ("ffm", "bilinear", "gru")) >= 0.95
    assert remembered["mlp"] < 0.65
    earned = {row["memory"]: row["return"] for row in tables["repeat-previous"]}
    assert min(earned[memory] for memory in ("gru", "lstm", "s5", "gtrxl")) > 0.9
    assert earned["mlp"] < 0
    pendulum = {row["memory"]: row for row in tables["pendulum"]}
    assert len(pendulum) == 12
    assert all(row["seeds"] == 3 for row in pendulum.values())
    assert max(pendulum[memory]["good_cpu_s"] for memory in ("ffm", "s5")) < (
        pendulum["gru"]["good_cpu_s"])
    assert pendulum["mlp"]["good_cpu_s"] == float("inf")
    lost = {row["method"]: row["t-maze-10_then"] - row["t-maze-10_now"]
            for row in tables["memory3"]}
    assert lost["finetuning"] > 1 > 0.1 > lost["packnet"]
    with_memory, *without = tables["hidden-goal"]
    for task in ("reach-v3", "reach-wall-v3"):
        assert with_memory[f"{task}_success"] > 2 * max(r[f"{task}_success"] for r in without)


def test_the_tables_of_world_models_are_those_of_their_runs(monkeypatch):
    tables = tables_on("world-models.md", "r2i_table", monkeypatch)
    rows = {row["memory"]: row for row in tables["memory-length-15"]}
    assert rows["r2i"]["seeds"] == 3
    assert rows["r2i"]["return"] > 0.8
    for forgetful in ("no memory", "gru rssm"):
        assert rows[forgetful]["seeds"] == 3
        assert abs(rows[forgetful]["return"]) < 0.5
    pendulum = {row["memory"]: row for row in tables["pendulum"]}
    assert pendulum["r2i"]["seeds"] == 3
    assert pendulum["r2i"]["return"] > -400
    cards = {row["memory"]: row for row in tables["repeat-previous"]}
    assert all(row["seeds"] == 3 for row in cards.values())
    assert cards["r2i"]["return"] >= 0.5
    assert cards["no memory"]["return"] <= -0.35
    last = {row["model"]: row for row in tables["recall-curve"]}["r2i"]
    assert last["seeds"] == 3
    assert last["worst"] > 0.95
    assert last["control"] < 0.6


def test_the_table_of_rounds_is_that_of_its_runs(monkeypatch):
    (table,) = tables_on("ray.md", "rounds_table", monkeypatch).values()
    assert [row["runs"] for row in table] == [6] * 4


def test_the_tables_of_action_flow_matching_are_those_of_their_runs(monkeypatch):
    tables = tables_on("afm.md", "afm_table", monkeypatch)
    of_flow = {row["transform"]: row for row in tables["flow"]}
    assert of_flow["flow"]["worst_gains"] > 0.5
    assert of_flow["flow"]["wide"] > 0.8
    assert of_flow["flow"]["noise"] < of_flow["least squares"]["noise"]
    for robot in ("unicycle", "ugv"):
        reached = {row["method"]: row["success"] for row in tables[robot]}
        learn_on = max(reached[name] for name in ("online", "replay", "snapshot"))
        assert reached["afm"] > 1.342 * learn_on  # the goal: 34.2 % more than the best of them
        assert reached["afm"] > 0.95 * reached["oracle"]
