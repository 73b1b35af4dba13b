"""Data sets on disk: Minari's folders, which its own tools read.

::

    ROOT/push-v3/scripted-v0/data/    minari.load_dataset("push-v3/scripted-v0") under
                                      MINARI_DATASETS_PATH=ROOT

A set is written under another name and renamed once it is complete, so a folder under its final
name is whole. What Minari has no place for stands in its metadata under ``"crl"``. Reading runs
nothing that a set contains.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box

from crl import __version__
from crl.data.episodes import Episodes
from crl.data.names import data_id
from crl.envs.unified import unified
from crl.errors import UserError
from crl.stream import TaskStream, check_spaces

try:
    import h5py  # type: ignore[import-untyped]  # noqa: F401  (Minari needs them later)
    import minari  # type: ignore[import-untyped]
    import pyarrow  # type: ignore[import-untyped]  # noqa: F401
    from minari.data_collector import EpisodeBuffer  # type: ignore[import-untyped]
    from minari.dataset.minari_storage import MinariStorage  # type: ignore[import-untyped]
    from minari.serialization import deserialize_space  # type: ignore[import-untyped]
except ImportError:
    raise UserError("data sets need an extra; type: pip install 'crl[data]'") from None

_OURS = {"settings": {}, "success_once": 0.0, "mean_return": 0.0, "fingerprint": "", "files": ""}
"""What readers here count on under ``"crl"``, and of which types."""
_READ_AT_ONCE = 2**20  # bytes
_ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")


class About(NamedTuple):
    """What a data set says besides its episodes.

    Attributes:
        algorithm: What chose the actions, in words.
        settings: Plain values that decide what the episodes are.
        protocol: Of the stream that they were made for.
        observation_space, action_space: Of float32.
        spec: What the environment can be made from again; None: only code can make it.
    """

    algorithm: str
    settings: dict[str, Any]
    protocol: str
    observation_space: Box
    action_space: Box
    spec: EnvSpec | None = None


def write_data(root: Path, task_name: str, kind: str, episodes: Episodes, about: About,
               data_format: str = "hdf5") -> Path:
    """Writes a new data set.

    Args:
        root: Where the data sets of all tasks are.
        task_name: The task, which the set is named after.
        kind: ``"scripted"``, ``"policy"`` or ``"replay"``.
        data_format: ``"hdf5"`` or ``"arrow"``.

    Returns:
        Its folder.

    Raises:
        UserError: The folder exists, or cannot be written. Nothing half-written is left.
    """
    name = data_id(task_name, kind)
    folder = root / name
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        storage = MinariStorage.new(  # whose sizes are wrong, or none, of a relative path
            unfinished.resolve() / "data", about.observation_space, about.action_space,
            about.spec, data_format)
        storage.update_episodes(_buffers(episodes))
        storage.update_metadata({
            "dataset_id": name,
            "minari_version": minari.__version__,
            "algorithm_name": about.algorithm,
            "crl": {
                "version": __version__,
                "settings": about.settings,
                "protocol": about.protocol,
                "success_once": float(episodes.successful.mean()),
                "success_end": float(episodes.successful_at_end.mean()),
                "mean_return": float(episodes.returns.mean()),
                "fingerprint": episodes.fingerprint(),
                "files": _hash_files(unfinished),
            },
        })
        unfinished.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        with contextlib.suppress(OSError):  # there is something in it
            folder.parent.rmdir()
    return folder


def read_data(root: str | Path, task_name: str, stream: TaskStream | None = None,
              kind: str | None = None) -> Episodes:
    """Reads the data set of a task, all of it, into memory.

    Args:
        root: Where the data sets of all tasks are: what ``crl data --out`` was given.
        task_name: The task, such as ``"push-v3"``; ``"push-v3@2"`` has the same set.
        stream: Checks that observations and actions are as wide as the stream's. Where that unifies
            robots of different kinds, a set of one by itself is brought to its form.
        kind: ``"scripted"``, ``"policy"`` or ``"replay"``; None: the only one that there is.

    Raises:
        UserError: There is no such set, or several; it is damaged; it is of something else.
    """
    folder = find_data(Path(root), task_name, kind)
    written = read_metadata(folder).get("crl")  # sets of others have none
    try:
        # First, since a spoilt Arrow file may end the process that reads it.
        if written and _hash_files(folder) != written["files"]:
            raise ValueError("its files are not those that were written")
        episodes = _read_episodes(folder)
        if written and episodes.fingerprint() != written["fingerprint"]:
            raise ValueError("its episodes are not those that were written")
    except Exception as error:  # each format raises its own
        raise _damaged(folder, error) from None
    if stream is not None:
        if (stream.options or {}).get("unify"):
            episodes = _placed(episodes, stream, task_name)
        found = episodes.obs.shape[1:], episodes.actions.shape[1:]
        expected = stream.observation_space.shape, stream.action_space.shape
        if found != expected:
            raise UserError(f"{folder} has observations and actions of shapes {found}, the stream "
                            f"{expected}; make data of this stream: {_command(Path(root))}")
    return episodes


def _placed(episodes: Episodes, stream: TaskStream, task_name: str) -> Episodes:
    """Of a robot by itself, as of one of several; others as they are."""
    env = stream.make(stream[task_name])
    robot = unified(env)
    env.close()
    assert robot is not None
    rewards = int(stream.options["observe_reward"]) if stream.options else 0
    observation, action = check_spaces(robot.env, task_name)
    if episodes.obs.shape[1] != observation.shape[0] + rewards or (
            episodes.actions.shape[1:] != action.shape):
        return episodes
    return replace(episodes, obs=robot.placed(episodes.obs), actions=robot.sent(episodes.actions))


def find_data(root: Path, task_name: str, kind: str | None = None) -> Path:
    """The folder of a task's data set; arguments and errors as of :func:`read_data`."""
    named = root / data_id(task_name, kind or "any")
    found = sorted(p for p in named.parent.glob(named.name if kind else "[!.]*") if p.is_dir())
    if not found:
        raise UserError(f"{root} has no {f'{kind} ' if kind else ''}data of task {task_name!r}; "
                        f"{_command(root)}")
    if len(found) > 1:
        raise UserError(f"{named.parent} has several sets of data, "
                        f"{', '.join(p.name for p in found)}; say which kind is meant")
    return found[0]


def read_metadata(folder: Path) -> dict[str, Any]:
    """A set's ``metadata.json``, as far as readers here count on it.

    Raises:
        UserError: It is missing or damaged, or the set is not of flat boxes.
    """
    try:
        metadata: dict[str, Any] = MinariStorage.read_raw_metadata(folder / "data")
        # Without them Minari would make the environment that the set names, whatever that is.
        spaces = [deserialize_space(metadata[name])
                  for name in ("observation_space", "action_space")]
        ours = metadata.get("crl", _OURS)
        if not all(isinstance(metadata[name], int) for name in ("total_episodes", "total_steps")):
            raise ValueError("its metadata.json does not say how much there is")
        if not all(isinstance(ours[name], type(value)) for name, value in _OURS.items()):
            raise ValueError("its metadata.json is not what crl wrote")
    except Exception as error:  # of JSON, and of every kind of space
        raise _damaged(folder, error) from None
    for space in spaces:
        if not (isinstance(space, Box) and len(space.shape) == 1):
            raise UserError(f"{folder} is of {type(space).__name__} spaces of shape {space.shape}; "
                            f"crl reads flat boxes: {_command(folder.parents[1])}")
    return metadata


def _read_episodes(folder: Path) -> Episodes:
    storage = MinariStorage.read(folder / "data")
    numbers = range(storage.total_episodes)
    lengths: list[int] = []
    columns: dict[str, list[Any]] = {name: [] for name in (
        "obs", "actions", "rewards", "terminated", "truncated", "success")}
    for episode in storage.get_episodes(numbers):
        steps = len(episode["rewards"])
        success = (episode["infos"] or {}).get("success", np.zeros(steps))  # if they say
        found = [*(episode[k] for k in _ARRAYS), success[-steps:]]  # not of the reset
        shapes = [(steps + 1, *storage.observation_space.shape),
                  (steps, *storage.action_space.shape), *[(steps,)] * 4]
        if steps == 0 or [np.shape(array) for array in found] != shapes:
            raise ValueError(f"episode {len(lengths)} has arrays of the wrong shapes")
        lengths.append(steps)
        for column, array in zip(columns.values(), found, strict=True):
            column.append(array)
    if sum(lengths) != storage.total_steps:
        raise ValueError("it has not as many steps as its metadata.json says")
    seeds = [m.get("seed", -1) for m in storage.get_episode_metadata(numbers)]
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    if not all(np.isfinite(column).all() for column in joined.values()):
        raise ValueError("it has numbers that are not finite")
    return Episodes.of(lengths, seeds=seeds, **joined)


def _buffers(episodes: Episodes) -> Iterator[Any]:
    bounds = zip(episodes.offsets[:-1], episodes.offsets[1:], episodes.seeds, strict=True)
    for i, (start, stop, seed) in enumerate(bounds):
        success = [False, *episodes.success[start:stop].tolist()]  # one for each observation
        yield EpisodeBuffer(
            seed=int(seed) if seed >= 0 else None,
            observations=episodes.obs[start + i : stop + i + 1],
            actions=episodes.actions[start:stop], rewards=episodes.rewards[start:stop],
            terminations=episodes.terminated[start:stop],
            truncations=episodes.truncated[start:stop], infos={"success": success})


def _hash_files(folder: Path) -> str:
    """A hash of all files of a set but its metadata, and of their names."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("[!.]*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != "data/metadata.json":
            digest.update(f"{name}:{path.stat().st_size}:".encode())
            with open(path, "rb") as file:
                while part := file.read(_READ_AT_ONCE):
                    digest.update(part)
    return digest.hexdigest()


def _damaged(folder: Path, reason: object) -> UserError:
    first = str(reason).strip().partition("\n")[0] or type(reason).__name__
    return UserError(f"{folder} cannot be read as data: {first}; delete it and make it again: "
                     f"{_command(folder.parents[1])}")


def _command(root: Path) -> str:
    return f"type 'crl data --stream STREAM --out {root}'"
