"""Any agent on any stream with any methods → a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from crl import config, seeding
from crl.agent import Agent, ExploringAgent, OfflineAgent
from crl.config import require, require_whole
from crl.errors import UserError
from crl.loop import Loop, Watch
from crl.methods.base import Method, make_method
from crl.run import Run, claim
from crl.stream import TaskStream
from crl.train_config import TrainConfig


def train(
    agent: Agent,
    stream: TaskStream,
    methods: Sequence[str | Method] = (),
    seed: int = 0,
    out: str | Path = "runs/run",
    *,
    watch: Watch | None = None,
    **settings: Any,
) -> Run:
    """Trains an agent on a stream.

    Args:
        agent: A new agent, made for this stream.
        stream: The tasks.
        methods: Names (``crl list methods``) or :class:`Method` objects, applied in this order.
        seed: Seed of episodes, evaluations and methods.
        out: The run folder; must not exist.
        watch: Called with a :class:`Progress` after every episode and change of phase.
        **settings: Fields of :class:`TrainConfig`.

    Returns:
        The finished run.

    Raises:
        UserError: A setting is wrong, ``out`` exists or cannot be written, or a method lacks a part
            of the agent. Nothing is left behind.
    """
    checked = config.build(TrainConfig, settings, "train")
    _check_arguments(agent, stream, methods)
    require_whole("seed", seed, least=0)
    made = [make_method(m, seeding.integer(seed, "method", m)) if isinstance(m, str) else m
            for m in methods]
    for method in made:
        if "boundaries" in method.needs and stream.boundaries == "hidden":
            raise UserError(f"method {method.name!r} needs to know task boundaries, and stream "
                            f"{stream.name!r} hides them; use another method or stream")
    if checked.round_episodes:
        _check_rounds(agent, checked)
    agent.attach(made)
    if isinstance(agent, OfflineAgent):
        agent.check_records()
    with Loop(agent, stream, seed, checked, watch, Path(out)) as loop:
        loop.create(made)
        loop.run()
    return Run(out, stream)


def resume(folder: str | Path, stream: TaskStream | None = None, *,
           watch: Watch | None = None) -> Run:
    """Goes on with a run that was stopped, bit-identical to never having stopped.

    Args:
        folder: The run folder.
        stream: The stream of the run; needed only if it was made by the caller's own code.
        watch: As in :func:`train`.

    Raises:
        UserError: Not a run folder, another schema, or a damaged checkpoint; nothing is changed.
    """
    with claim(Run(folder).folder):
        run = Run(folder, stream)
        if run.status == "finished":
            return run
        settings = config.build(TrainConfig, run.config["train"], "train")
        agent = run.agent(run.info["hardware"]["device"])
        with Loop(agent, run.stream, run.info["seed"], settings, watch, run.folder) as loop:
            loop.open(run)
            loop.run()
    return Run(folder, run.stream)


def _check_arguments(agent: Any, stream: Any, methods: Any) -> None:
    require(isinstance(stream, TaskStream),
            f"stream must be a TaskStream, such as crl.make_stream('quick3'), got {stream!r}")
    require(hasattr(agent, "policy") and hasattr(agent, "attach"),
            f"agent must be an agent, such as crl.make_agent('sac', stream), got {agent!r}")
    require(isinstance(methods, (list, tuple))
            and all(isinstance(m, (str, Method)) for m in methods),
            f"methods must be a list of names or methods, such as ['packnet'], got {methods!r}")
    for task in stream:
        expected = agent.policy(task).spec.observation_low.shape
        require(expected == stream.observation_space.shape,
                f"the agent takes observations of shape {expected}, stream {stream.name!r} gives "
                f"{stream.observation_space.shape}; make the agent for this stream")


def _check_rounds(agent: Agent, settings: TrainConfig) -> None:
    require(isinstance(agent, ExploringAgent) and not isinstance(agent, OfflineAgent),
            f"agent {agent.name!r} has no explorers that could play rounds; leave "
            "train.round_episodes at 0")
    exploring = cast(ExploringAgent, agent)
    exploring.check_explorers()
    require(not (exploring.on_policy and settings.rounds_ahead),
            f"agent {agent.name!r} learns from its newest policy alone; leave train.rounds_ahead "
            "at 0")
