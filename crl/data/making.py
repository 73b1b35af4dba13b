"""``crl data``: a data set for each task, played anew or taken from the replay of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from crl import config
from crl.agent import Policy
from crl.agents.scripted import scripted_policy
from crl.checkpoint import Tree
from crl.config import require, require_whole
from crl.data.collection import CollectConfig, blocks, play
from crl.data.episodes import Episodes
from crl.data.folder import DataFolder, Format, Made
from crl.data.names import visited
from crl.run import Run
from crl.stream import TaskStream
from crl.workers import side_by_side

_EXPERTS_NEED = {"partially_observable": False, "hide_velocities": False, "unify": False,
                 "frame_stack": 1}


class Progress(NamedTuple):
    """How far the making of data sets is.

    Attributes:
        task: The one that is being played.
        episodes, of_episodes: Played so far, and to play in all.
        steps: Played so far.
        made: The task's set, when it is finished.
    """

    task: str
    episodes: int
    of_episodes: int
    steps: int
    made: Made | None = None


def make_data(stream: TaskStream, out: str | Path, *, run: Run | None = None,
              data_format: Format = "hdf5", workers: int = 0,
              watch: Callable[[Progress], None] = lambda progress: None,
              **settings: Any) -> list[Made]:
    """Plays every task of a stream and keeps a data set of each.

    Sets that are there already stay as they are: after a kill, the same call goes on.

    Args:
        stream: The tasks; one that is visited twice is played once.
        out: The folder of all sets.
        run: Whose newest policies play; None: Meta-World's scripted experts.
        data_format: Minari's ``"hdf5"`` or ``"arrow"``.
        workers: Ray workers; 0: this process. The sets are the same.
        watch: Called after every few episodes, and when a set is finished.
        **settings: Fields of :class:`~crl.data.collection.CollectConfig`.

    Returns:
        The sets, in the order of the tasks.

    Raises:
        UserError: A setting is wrong, a task has no expert, or a set is there that was made with
            other settings.
    """
    checked = config.build(CollectConfig, settings, "data")
    require_whole("workers", workers, least=0)
    policies: dict[str, Policy]
    if run is None:
        for name, value in _EXPERTS_NEED.items():
            require((stream.options or {}).get(name, value) == value,
                    f"experts must see all of a task; leave stream.{name} out")
        policies = {t.name: scripted_policy(t.name, stream.observation_space) for t in stream}
        source, algorithm = {}, "Meta-World's scripted policy"
    else:
        agent = run.agent()
        policies = {t.name: agent.policy(t) for t in stream}
        source, algorithm = _source(run, run.checkpoint()), run.label
    folder = DataFolder(Path(out), stream, "policy" if run else "scripted", algorithm,
                        {**config.to_dict(checked), **source}, data_format)
    missing = folder.missing()
    jobs = {t.name: list(blocks(policies[t.name], t, checked)) for t in missing}
    made: dict[str, Made] = {}
    start, steps, episodes, of_episodes = perf_counter(), 0, 0, checked.episodes * len(missing)
    in_turn = side_by_side(play, chain.from_iterable(jobs.values()), workers)
    with folder.claimed(), contextlib.closing(in_turn) as played:
        for task in missing:
            parts = []
            for part in islice(played, len(jobs[task.name])):
                parts.append(part)
                steps, episodes = steps + part.steps, episodes + len(part)
                watch(Progress(task.name, episodes, of_episodes, steps))
            folder.write(task, Episodes.join(parts))
            made[task.name] = now = folder.made(task, perf_counter() - start)
            start = perf_counter()
            watch(Progress(task.name, episodes, of_episodes, steps, now))
    return [made.get(task.name) or folder.made(task) for task in folder.tasks]


def make_replay_data(run: Run, out: str | Path, *, data_format: Format = "hdf5") -> list[Made]:
    """Keeps a data set of each task of which the replay of a run holds whole episodes.

    Args:
        run: Of an agent that learns from single transitions, such as ``sac``.
        out: The folder of all sets.
        data_format: Minari's ``"hdf5"`` or ``"arrow"``.

    Returns:
        The sets, in the order of the tasks.

    Raises:
        UserError: The run has no such replay, or a set is there that was made from another.
    """
    from crl.data.replays import replay_episodes

    checkpoint = run.checkpoint()
    episodes, positions = replay_episodes(run, checkpoint)
    names = np.array([visited(task.name) for task in run.stream])[positions]
    folder = DataFolder(Path(out), run.stream, "replay", run.label, _source(run, checkpoint),
                        data_format)
    missing, made = folder.missing(), []
    with folder.claimed():
        for task in folder.tasks:
            start, of_task = perf_counter(), names == visited(task.name)
            if task in missing and of_task.any():
                folder.write(task, episodes.select(of_task))
                made.append(folder.made(task, perf_counter() - start))
            elif task not in missing:
                made.append(folder.made(task))
    return made


def _source(run: Run, checkpoint: Tree) -> dict[str, Any]:
    return {"run": run.name, "env_step": checkpoint["loop"]["env_step"]}
