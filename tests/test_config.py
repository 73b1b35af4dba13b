"""Dataclasses, dictionaries and what a user types."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import differences, read_state

from crl import config
from crl.agents.sac import SACConfig
from crl.config import build, parse_value, require, to_dict
from crl.errors import UserError, unknown
from crl.launch import apply_settings, default_launch, default_out, read_launch, run_launch
from crl.stream import StreamOptions
from crl.train_config import TrainConfig


@dataclass(frozen=True)
class Sample:
    """Every kind of setting."""

    needed: int
    number: float = 0.5
    whole: int = 3
    flag: bool = False
    word: str = "w"
    choice: Literal["red", "green", 1] = "red"
    widths: tuple[int, ...] = (4,)
    words: tuple[str, ...] = ()
    limit: float | None = None
    either: int | str = 0

    def __post_init__(self) -> None:
        require(self.whole >= 0, "whole must not be negative")


GOOD: list[tuple[str, Any, Any]] = [
    ("number", 2, 2.0), ("number", -1e-300, -1e-300), ("number", 10**300, 1e300),
    ("whole", 7, 7), ("whole", 1e5, 100_000), ("whole", 2**63 - 1, 2**63 - 1),
    ("flag", True, True), ("word", "", ""),
    ("choice", "green", "green"), ("choice", 1, 1), ("widths", [1, 2], (1, 2)),
    ("widths", (1,), (1,)), ("widths", 5, (5,)), ("widths", [], ()), ("words", "one", ("one",)),
    ("words", ["a", "b"], ("a", "b")), ("limit", None, None), ("limit", 3, 3.0),
    ("either", "x", "x"), ("either", 4, 4),
]
BAD: list[tuple[str, Any]] = [
    ("number", True), ("number", "2"), ("number", None), ("number", math.nan),
    ("number", -math.inf), ("number", 10**400), ("number", [1.0]), ("whole", True),
    ("whole", 2.5), ("whole", 1e300),
    ("whole", "2"), ("whole", None), ("whole", -1), ("whole", 2**63), ("whole", -(2**63)),
    ("flag", 1), ("flag", "true"), ("flag", None), ("word", 5), ("word", None), ("word", True),
    ("choice", "blue"), ("choice", True), ("choice", None), ("choice", ["red"]), ("choice", 1.5),
    ("widths", [1.5]), ("widths", [True]), ("widths", ["1"]), ("widths", None),
    ("widths", {"a": 1}), ("widths", "12"), ("widths", [[1]]), ("words", [1]),
    ("limit", "none"), ("limit", False), ("either", 1.5), ("either", None), ("either", True),
]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_good_values(name: str, value: Any, expected: Any) -> None:
    got = getattr(build(Sample, {"needed": 1, name: value}, "sample"), name)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_values(name: str, value: Any) -> None:
    with pytest.raises(UserError) as error:
        build(Sample, {"needed": 1, name: value}, "sample")
    assert str(error.value).startswith(("sample.", "sample: "))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_names() -> None:
    with pytest.raises(UserError, match=r"^sample: missing setting 'needed'$"):
        build(Sample, {}, "sample")
    with pytest.raises(UserError, match="unknown setting of sample 'nummber'; did you mean "):
        build(Sample, {"needed": 1, "nummber": 2}, "sample")
    assert build(Sample, {"needed": 1}, "sample") == Sample(1)


def test_a_bug_in_a_check_is_not_a_users_error() -> None:
    @dataclass(frozen=True)
    class Broken:
        value: int = 1

        def __post_init__(self) -> None:
            len(self.value)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="has no len"):
        build(Broken, {}, "broken")


def test_a_message_shows_no_more_than_the_beginning_of_a_value() -> None:
    with pytest.raises(UserError) as error:
        build(Sample, {"needed": "x" * 10_000}, "sample")
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("settings", [SACConfig(), TrainConfig(), StreamOptions(), Sample(2)])
def test_defaults_survive_json(settings: Any) -> None:
    """What run.json holds makes the same configuration again."""
    plain = json.loads(json.dumps(to_dict(settings)))
    assert build(type(settings), plain, "x") == settings
    assert set(plain) == {f.name for f in fields(settings)}


@given(
    st.builds(Sample, needed=st.integers(-(2**62), 2**62), number=st.floats(
        allow_nan=False, allow_infinity=False), whole=st.integers(0, 2**62), flag=st.booleans(),
        word=st.text(), choice=st.sampled_from(["red", "green", 1]),
        widths=st.lists(st.integers(-99, 99)).map(tuple), words=st.lists(st.text()).map(tuple),
        limit=st.none() | st.floats(-1e9, 1e9), either=st.integers(0, 9) | st.text())
)
def test_round_trip(sample: Sample) -> None:
    assert build(Sample, json.loads(json.dumps(to_dict(sample))), "x") == sample


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_json_is_read_as_json(value: Any) -> None:
    assert parse_value(json.dumps(value)) == value


@given(st.text(max_size=30))
def test_anything_can_be_typed(text: str) -> None:
    """No text is an error of its own: it is a value, which a setting takes or refuses."""
    parse_value(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("64", 64), ("-3", -3), ("3e-4", 3e-4), (".5", 0.5), ("1e-4.", "1e-4."), ("1.", 1.0),
        ("1e5", 100000.0), ("true", True), ("True", True), ("False", False), ("null", None),
        ("None", None), ("red", "red"), ('"64"', "64"), ("[64,64]", [64, 64]),
        ("[64, 64]", [64, 64]), ("(64, 64)", [64, 64]), ("64,64", [64, 64]), ("(64,)", [64]),
        ("[red]", ["red"]), ("[red, green]", ["red", "green"]), ("red,green", ["red", "green"]),
        ("[]", []), ("", ""), ("１", "１"), ("[" * 5000, "[" * 5000), ("1" * 5000, math.inf),
        ('{"a": [1]}', {"a": [1]}), ("push-v3", "push-v3"), ("[1.5,null]", [1.5, None]),
    ],
)
def test_what_a_user_means(text: str, value: Any) -> None:
    got = parse_value(text)
    assert got == value
    assert type(got) is type(value)


def test_describe() -> None:
    words = {hint: config.describe(hint) for hint in
             (int, float, bool, str, Literal["a", "b"], tuple[int, ...], int | None)}
    assert list(words.values()) == [
        "a whole number", "a finite number", "true or false", "a word", "one of a, b",
        "a list such as [a, b], each a whole number", "a whole number or null"]


def test_unknown_names() -> None:
    assert str(unknown("agent", "sca", ["sac", "r2i"], "type 'crl list agents'")) == (
        "unknown agent 'sca'; did you mean 'sac'?; type 'crl list agents'")
    assert str(unknown("agent", "zzz", ["sac", "r2i"])) == "unknown agent 'zzz'; known: r2i, sac"
    assert str(unknown("agent", "zzz", [])) == "unknown agent 'zzz'"
    assert "known" not in str(unknown("task", "zzz", map(str, range(50)))).replace("unknown", "")


# ---- launches ----


def test_settings_go_to_their_sections() -> None:
    started = {**default_launch(), "methods": [{"name": "ewc"}, {"name": "packnet"}]}
    apply_settings(started, ["agent.hidden=[8, 8]", " ewc.coefficient = 3 ", "train.threads=2",
                             "stream.horizon=9", "packnet.parts=actor", "agent.gamma=0.5"])
    assert started["agent"] == {"name": "sac", "hidden": [8, 8], "gamma": 0.5}
    assert started["methods"] == [{"name": "ewc", "coefficient": 3},
                                  {"name": "packnet", "parts": "actor"}]
    assert started["train"] == {"threads": 2}
    assert started["stream"] == {"name": "quick3", "horizon": 9}


def test_names_of_folders() -> None:
    def name(stream: str, *methods: str) -> str:
        return str(default_out({"stream": {"name": stream}, "agent": {"name": "sac"}, "seed": 3,
                                "methods": [{"name": m} for m in methods]}))

    assert name("quick3", "packnet") == "runs/quick3-sac-packnet-3"
    assert name("cw10") == "runs/cw10-sac-finetuning-3"
    assert name("a,b,ALE/c", "ewc", "clonex") == "runs/a+b+ALE-c-sac-ewc-clonex-3"
    assert len(Path(name(",".join(["peg-unplug-side-v3"] * 50))).name) < 200


def test_a_file_of_settings_may_leave_out_what_it_likes(tmp_path: Path) -> None:
    path = tmp_path / "launch.json"
    path.write_text('{"methods": ["ewc", {"name": "packnet", "retrain_share": 0.5}], "seed": 4}')
    assert read_launch(path) == {
        "stream": {"name": "quick3"}, "agent": {"name": "sac"}, "train": {}, "seed": 4,
        "methods": [{"name": "ewc"}, {"name": "packnet", "retrain_share": 0.5}], "device": "cpu"}
    path.write_text("{}")
    assert read_launch(path)["methods"] == []


def test_the_run_json_of_a_run_makes_the_run_again(tmp_path: Path) -> None:
    launch = {"stream": {"name": "Pendulum-v1,Pendulum-v1", "horizon": 20, "steps_per_task": 60},
              "agent": {"name": "sac", "hidden": [8], "start_steps": 20, "update_after": 10},
              "methods": [{"name": "ewc", "batches": 1, "batch_size": 8}], "seed": 5,
              "train": {"eval_episodes": 1}}
    first = run_launch(launch, tmp_path / "first")
    again = run_launch(read_launch(first.folder / "run.json"), tmp_path / "again")
    assert differences(read_state(first.folder), read_state(again.folder)) == []
    other = run_launch({**read_launch(first.folder / "run.json"), "seed": 6}, tmp_path / "other")
    assert "evals" in differences(read_state(first.folder), read_state(other.folder))
