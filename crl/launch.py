"""A plain nested dictionary → a training run. What the command line and configuration files use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crl import config, registry, seeding
from crl.agent import make_agent
from crl.config import parse_value, require_whole
from crl.envs.catalog import make_stream
from crl.errors import UserError, unknown
from crl.loop import Watch
from crl.methods.base import make_method
from crl.run import Run
from crl.train_config import TrainConfig
from crl.training import train

Launch = dict[str, Any]
_SECTIONS: dict[str, type] = {"stream": dict, "agent": dict, "methods": list, "train": dict,
                              "seed": int, "device": str}
_LONGEST_NAME = 100


def default_launch() -> Launch:
    """The second half of the demo: PackNet on quick3."""
    return {"stream": {"name": "quick3"}, "agent": {"name": "sac"},
            "methods": [{"name": "packnet"}], "train": {}, "seed": 0, "device": "cpu"}


def read_launch(path: Path) -> Launch:
    """Reads a JSON file: a launch, or the run.json of an earlier run.

    Raises:
        UserError: The file is missing, not JSON, or has a section that does not exist.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {str(error).splitlines()[0]}") from None
    is_run = isinstance(content, dict) and "schema" in content
    if is_run and isinstance(content.get("config"), dict):
        content = {**content["config"], "seed": content.get("seed", 0)}
    check_launch(content, str(path))
    if content.get("stream", {}).get("custom"):
        raise UserError(f"{path} is of a run on a stream made in code; train on that stream with "
                        "crl.train, or choose a stream by name")
    launch = {**default_launch(), "methods": [], **content}
    launch["methods"] = [{"name": m} if isinstance(m, str) else m for m in launch["methods"]]
    return launch


def check_launch(content: Any, where: str) -> None:
    """Raises ``UserError`` unless ``content`` has the shape of a launch."""
    if not isinstance(content, dict):
        raise UserError(f"{where} must hold an object with {', '.join(_SECTIONS)}")
    for name, value in content.items():
        if name not in _SECTIONS:
            raise unknown("section", name, _SECTIONS, f"in {where}")
        if not isinstance(value, _SECTIONS[name]) or isinstance(value, bool):
            kind = {dict: "an object", list: "a list", int: "a whole number", str: "a word"}
            raise UserError(f"{where}: {name} must be {kind[_SECTIONS[name]]}, got {value!r}")
    for entry in [content.get("stream", {"name": ""}), content.get("agent", {"name": ""}),
                  *content.get("methods", [])]:
        if not isinstance(entry, str) and not (
            isinstance(entry, dict) and isinstance(entry.get("name"), str)
        ):
            raise UserError(f'{where}: stream, agent and each method need a name, such as '
                            f'{{"name": "sac"}}; got {entry!r}')


def apply_settings(launch: Launch, assignments: Sequence[str]) -> None:
    """Applies ``section.name=value`` assignments in place.

    Sections are ``stream``, ``agent``, ``train`` and the name of each method in use.
    """
    methods = {m["name"]: m for m in launch["methods"]}
    sections: dict[str, Any] = {**methods, **{s: launch[s] for s in ("stream", "agent", "train")}}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        section, dot, name = path.strip().partition(".")
        if not equals or not dot or not name:
            raise UserError(f"--set takes section.name=value, such as agent.learning_rate=3e-4; "
                            f"got {assignment!r}")
        if section in registry.methods and section not in sections:
            raise UserError(f"--set {assignment}: method {section!r} is not in use; add "
                            f"--method {section}")
        if section not in sections:
            raise unknown("section", section, sections, f"in --set {assignment}")
        if name == "name" and section != "train":
            option = "method" if section in methods else section
            raise UserError(f"--set {assignment}: choose it with --{option} instead")
        sections[section][name] = parse_value(text.strip())


def default_out(launch: Mapping[str, Any]) -> Path:
    """``runs/<stream>-<agent>-<methods>-<seed>``."""
    methods = [m["name"] for m in launch["methods"]] or ["finetuning"]
    stream = launch["stream"]["name"].replace(",", "+").replace("/", "-")
    if len(stream) > _LONGEST_NAME:
        stream = stream[:_LONGEST_NAME] + "…"
    parts = [stream, launch["agent"]["name"].replace(":", "-"), *methods, str(launch["seed"])]
    return Path("runs") / "-".join(parts)


def run_launch(launch: Launch, out: Path | None = None, watch: Watch | None = None) -> Run:
    """Makes everything that a launch names, and trains."""
    launch = {**default_launch(), "methods": [], **launch}
    seed = launch["seed"]
    require_whole("seed", seed, least=0)
    check_settings(launch)
    stream = make_stream(**launch["stream"])
    methods = [make_method(seed=seeding.integer(seed, "method", m["name"]), **m)
               for m in launch["methods"]]
    try:
        agent = make_agent(stream=stream, seed=seed, device=launch["device"], **launch["agent"])
    except UserError:
        raise
    except (MemoryError, OverflowError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"agent {launch['agent']['name']!r} cannot be made with these settings: "
                        f"{reason}") from error
    return train(agent, stream, methods, seed, out or default_out(launch), watch=watch,
                 **launch["train"])


def check_settings(launch: Launch) -> None:
    """Checks names and types of all settings, before anything is made and before a setting called
    ``seed`` or ``out`` could be taken for the argument of that name.
    """
    config.build(TrainConfig, launch["train"], "train")
    agent = registry.agents.load(launch["agent"]["name"])
    methods = [(m["name"], registry.methods.load(m["name"]), m) for m in launch["methods"]]
    for where, cls, section in [("agent", agent, launch["agent"]), *methods]:
        config.build(cls.Config, {k: v for k, v in section.items() if k != "name"}, where)
