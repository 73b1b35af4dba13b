"""``crl tune``: its small language, its errors, and a search that goes on where it stopped."""

from __future__ import annotations

import copy
import json

import pytest
from support import differences, read_state
from test_tune import LAUNCH

import crl
from crl import tune
from crl.cli import main
from crl.launch import run_launch
from crl.search import Axis, check_axes, parse_axis, search


@pytest.mark.parametrize(("text", "axis"), [
    ("agent.learning_rate=loguniform(1e-4,1e-2)",
     Axis("agent.learning_rate", "loguniform", [1e-4, 1e-2])),
    (" seed = grid( 0, 1 ,2 ) ", Axis("seed", "grid", [0, 1, 2])),
    ("agent.hidden=choice([64,64],[128])", Axis("agent.hidden", "choice", [[64, 64], [128]])),
    ("agent.explore=choice(uniform,current)",
     Axis("agent.explore", "choice", ["uniform", "current"])),
    ("agent.batch_size=lograndint(16,1e3)", Axis("agent.batch_size", "lograndint", [16, 1000])),
    ("stream.horizon=grid(null,100)", Axis("stream.horizon", "grid", [None, 100])),
])
def test_a_setting_and_what_it_may_be(text, axis):
    assert parse_axis(text) == axis
    check_axes(copy.deepcopy(LAUNCH), [axis])


@pytest.mark.parametrize(("text", "hint"), [
    ("agent.learning_rate", "--search takes section.name=kind"),
    ("agent.learning_rate=3e-4", "--search takes section.name=kind"),
    ("agent.learning_rate=normal(0,1)", "where kind is uniform"),
    ("agent.learning_rate=loguniform(0,1)", "lower one first and above 0"),
    ("agent.learning_rate=uniform(2,1)", "its two ends, the lower one first"),
    ("agent.learning_rate=uniform(1)", "its two ends"),
    ("agent.batch_size=randint(1,2.5)", "an end must be a whole number"),
    ("agent.explore=choice()", "one value or more"),
    ("agent.learning_rat=choice(1)", "unknown setting of agent 'learning_rat'; did you mean"),
    ("agent.learning_rate=uniform(0,1)", "learning_rate must be above 0"),
    ("learning_rate=choice(1)", "--search takes section.name=value"),
    ("clonex.samples=choice(1)", "method 'clonex' is not in use; add --method clonex"),
    ("agent.name=choice(sac)", "choose it with --agent instead"),
    ("seed=grid(-1)", "seed must be a whole number from 0"),
])
def test_errors_are_those_of_the_command_line(text, hint):
    with pytest.raises(crl.UserError, match=hint) as caught:
        check_axes(copy.deepcopy(LAUNCH), [parse_axis(text)])
    assert len(str(caught.value).splitlines()) == 1


def test_the_end_of_a_range_of_whole_numbers_is_not_reached():
    check_axes(LAUNCH, [Axis("train.threads", "randint", [1, 1025])])
    with pytest.raises(crl.UserError, match="threads must be at most 1024"):
        check_axes(LAUNCH, [Axis("train.threads", "grid", [1025])])


def test_a_setting_stands_in_the_space_once(tmp_path):
    axes = [Axis("seed", "grid", [0]), Axis("seed", "choice", [1])]
    with pytest.raises(crl.UserError, match="seed more than once"):
        search(LAUNCH, axes, tmp_path / "found")
    assert not (tmp_path / "found").exists()


def command(launch: dict, tmp_path) -> list[str]:
    (tmp_path / "launch.json").write_text(json.dumps(launch))
    return ["tune", "--config", str(tmp_path / "launch.json"), "--search", "seed=grid(3,4)",
            "--workers", "2", "--out", str(tmp_path / "found")]


def run(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ending:
        main(words)
    out, err = capsys.readouterr()
    return ending.value.code, out, err


def table(out: str) -> list[list[str]]:
    lines = [line.split() for line in out.splitlines()]
    start = next(i for i, line in enumerate(lines) if line[:1] == ["trial"])
    return lines[start:start + 3]


def test_a_search_on_the_command_line(rays, tmp_path, capsys):
    status, out, _ = run(capsys, *command(LAUNCH, tmp_path))
    assert status == 0
    rows = table(out)
    assert rows[0] == ["trial", "seed", "performance", "forgetting", "env_step"]
    assert [row[:2] for row in rows[1:]] == [["00000", "3"], ["00001", "4"]]
    found = tune.trial_runs(tmp_path / "found")
    launch = {**LAUNCH, "train": {**LAUNCH["train"], "checkpoint_every": "evaluation"}}
    whole = run_launch(launch, tmp_path / "whole")
    assert differences(read_state(found[0]), read_state(whole.folder)) == []
    assert crl.Run(found[1]).info["seed"] == 4

    again = run(capsys, *command(LAUNCH, tmp_path))  # nothing is left to do
    assert again[0] == 0
    assert table(again[1]) == rows
    other = run(capsys, *command({**LAUNCH, "seed": 5}, tmp_path))
    assert other[0] == 2
    assert "exists already, and not from this command" in other[2]

    status, out, _ = run(capsys, "report", str(tmp_path / "found"), "--out",
                         str(tmp_path / "report"))
    assert status == 0
    assert (tmp_path / "report" / "index.html").exists()


def test_trials_that_fail_end_the_command_with_their_message(rays, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tune, "_RESTARTS", 0)
    launch = {**LAUNCH, "agent": {**LAUNCH["agent"], "trunk": "hypernetwork"},
              "stream": {**LAUNCH["stream"], "boundaries": "hidden"}, "methods": []}
    status, _, err = run(capsys, *command(launch, tmp_path))
    assert status == 2
    assert err.startswith("crl: error: 2 of 2 trials failed; trial 00000: a hypernetwork must be")
    assert err.count("\n") == 1
