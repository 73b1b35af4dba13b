"""A folder of data sets, one for each task of a stream, while they are being made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from gymnasium.spaces import Box

from crl import config
from crl.data.environment import spec_of
from crl.data.episodes import Episodes
from crl.data.minari_store import About, read_metadata, write_data
from crl.data.names import data_id
from crl.errors import UserError
from crl.run import claim
from crl.stream import StreamOptions, Task, TaskStream, space_bounds

Format = Literal["hdf5", "arrow"]


class Made(NamedTuple):
    """A data set that is there.

    Attributes:
        success: Share of episodes that succeeded at any step.
        seconds: What making it took since the one before; None: it was there already.
    """

    task: str
    folder: Path
    episodes: int
    steps: int
    success: float
    mean_return: float
    megabytes: float
    seconds: float | None


class DataFolder:
    """Sets of one kind, made with the same settings.

    Args:
        root: The folder.
        stream: The tasks; one that is visited twice has one set.
        kind: ``"scripted"``, ``"policy"`` or ``"replay"``.
        algorithm: What chooses the actions, in words.
        settings: Plain values that decide what the episodes are; a set that is there already must
            have been made with the same.
        data_format: ``"hdf5"`` or ``"arrow"``.
    """

    def __init__(self, root: Path, stream: TaskStream, kind: str, algorithm: str,
                 settings: dict[str, Any], data_format: Format) -> None:
        self.root = root
        first_visits: dict[str, Task] = {}
        for task in stream:
            first_visits.setdefault(data_id(task.name, kind), task)
        self.tasks = list(first_visits.values())
        self._stream, self._kind, self._algorithm = stream, kind, algorithm
        self._format = config.convert(data_format, Format, "data_format")
        self._settings = {**settings, **_what_is_shown(stream), "format": data_format}

    def missing(self) -> list[Task]:
        """The tasks without a set.

        Raises:
            UserError: There is a set that is damaged or was made with other settings.
        """
        missing = []
        for task in self.tasks:
            folder = self._folder(task)
            if not folder.exists():
                missing.append(task)
                continue
            there = read_metadata(folder).get("crl", {}).get("settings", {})
            for name in {**self._settings, **there}:
                found, wanted = (settings.get(name, "unset") for settings in (
                    there, self._settings))
                if found != wanted:
                    raise UserError(f"{folder} was made with {name} {found}, not {wanted}; choose "
                                    "another --out, or delete it")
        return missing

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the folder, and keeps other processes from writing into it meanwhile."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.root}: {error.strerror}") from None
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(claim(self.root))
            except UserError:
                raise UserError(f"another process makes data in {self.root}; wait until it is "
                                "finished, or choose another --out") from None
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # there is something in it
                    self.root.rmdir()

    def write(self, task: Task, episodes: Episodes) -> None:
        """Adds the set of a task; errors as of :func:`write_data`."""
        env = self._stream.make(task)
        observation, action = env.observation_space, env.action_space
        env.close()
        assert isinstance(observation, Box)
        assert isinstance(action, Box)  # there are no episodes of others
        about = About(self._algorithm, self._settings, self._stream.protocol,
                      Box(*space_bounds(observation)), Box(*space_bounds(action)),
                      spec_of(self._stream, task))
        write_data(self.root, task.name, self._kind, episodes, about, self._format)

    def made(self, task: Task, seconds: float | None = None) -> Made:
        """What there is of a task."""
        folder = self._folder(task)
        metadata = read_metadata(folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Made(task.name, folder, metadata["total_episodes"], metadata["total_steps"],
                    metadata["crl"]["success_once"], metadata["crl"]["mean_return"], size / 1e6,
                    seconds)

    def _folder(self, task: Task) -> Path:
        return self.root / data_id(task.name, self._kind)


def _what_is_shown(stream: TaskStream) -> dict[str, Any]:
    """What a stream sets that changes an episode; not which other tasks it has, nor budgets."""
    if stream.options is None:
        return {"stream": stream.protocol}
    default = config.to_dict(StreamOptions())
    return {f"stream.{name}": value for name, value in stream.options.items()
            if name not in ("name", "steps_per_task") and value != default.get(name)}
