"""The CSV files of a run folder: a row an episode, or a row a measure of the diagnostics."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from crl.errors import UserError

SCHEMA = 1
"""Version of the run folder: these columns, the keys of run.json, the layout of checkpoints."""

COLUMNS: dict[str, type] = {
    "env_step": int,      # training steps of the whole stream when the row was written
    "grad_step": int,
    "wall_s": float,      # since the start of the run, time between stop and resume left out
    "cpu_s": float,
    "train_task": int,    # position in the stream of the task being trained
    "eval_task": int,     # position of the task that the episode is of
    "episode": int,       # counts per file from 0 (train) or per evaluation and task (evals)
    "seed": int,          # env.reset(seed=…) sets the episode up again
    "return": float,
    "success_once": int,  # info["success"] was true at any step
    "success_end": int,   # … at the last step
    "length": int,
}
MEASURES: dict[str, type] = {  # of diagnostics.csv, see crl.diagnostics
    "env_step": int, "grad_step": int, "train_task": int, "part": str, "measure": str,
    "value": float,
}
_NUMPY: dict[type, Any] = {int: np.int64, float: np.float64, str: "U32"}


class Rows:
    """A CSV file that only grows, and can be cut back to a known length."""

    def __init__(self, path: Path, keep: int | None = None,
                 columns: Mapping[str, type] = COLUMNS) -> None:
        """Opens ``path``; ``keep`` bytes of it stay once it is :meth:`cut` (None: a new file)."""
        self._keep = keep
        self._columns = columns
        if keep is None:
            self._file: IO[str] = open(path, "x", newline="")  # noqa: SIM115
            csv.writer(self._file).writerow(columns)
            self._file.flush()
        else:
            if not path.exists() or path.stat().st_size < keep:
                raise UserError(f"{path} is shorter than when the checkpoint was written; "
                                "restore it from a copy, or start the run again in a new folder")
            self._file = open(path, "r+", newline="")  # noqa: SIM115

    def cut(self) -> None:
        """Drops what is beyond ``keep``; new rows follow what is left."""
        if self._keep is not None:
            self._file.truncate(self._keep)
            self._file.seek(self._keep)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row; it is in the file when this returns."""
        text = [f"{row[c]:.6g}" if kind is float else str(kind(row[c]))
                for c, kind in self._columns.items()]
        csv.writer(self._file).writerow(text)
        self._file.flush()

    def sync(self) -> None:
        """Waits until all rows are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a row that could not be written cannot be now
            self._file.close()


def digest(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_columns(path: Path, columns: Mapping[str, type] = COLUMNS) -> dict[str, NDArray[Any]]:
    """Reads a CSV written by :class:`Rows`; leaves out an unfinished last line, as of a kill."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is damaged: it is not text") from None
    lines = text[: text.rfind("\n") + 1].splitlines()
    if not lines or lines[0].split(",") != list(columns):
        raise UserError(f"{path} does not have the columns of schema {SCHEMA}: "
                        + ",".join(columns))
    kinds = [(name, _NUMPY[kind]) for name, kind in columns.items()]
    if len(lines) == 1:
        return {name: np.zeros(0, kind) for name, kind in kinds}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a number with a point in a column of whole ones
            table = np.loadtxt(lines[1:], dtype=kinds, delimiter=",", comments=None, ndmin=1)
        return {name: np.ascontiguousarray(table[name]) for name in columns}
    except (ValueError, OverflowError, DeprecationWarning):
        raise UserError(f"{path} has a row that is not {len(columns)} numbers") from None
