"""The writing side of a run folder: made whole or not at all, cut back to a checkpoint, resumed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crl.board import Board
from crl.checkpoint import CheckpointStore, Tree
from crl.errors import UserError
from crl.rows import COLUMNS, MEASURES, Rows, digest
from crl.run import Run, claim, write_info

_FILES = {"train": COLUMNS, "evals": COLUMNS, "diagnostics": MEASURES}


class Recorder:
    """Writes one run folder.

    Args:
        folder: The run folder.
        diagnose: Whether there is a ``diagnostics.csv``.
    """

    def __init__(self, folder: Path, diagnose: bool = False) -> None:
        self.folder = folder
        self._files = [name for name in _FILES if diagnose or name != "diagnostics"]
        self._info: dict[str, Any] = {}
        self._kept: dict[str, int] = {}
        self._rows: dict[str, Rows] = {}
        self._board: Board | None = None
        self._claim = contextlib.ExitStack()

    def create(self, info: Mapping[str, Any], state: Tree) -> None:
        """Makes the folder under another name, and renames it once it is complete.

        Args:
            info: What ``run.json`` is to hold.
            state: The first checkpoint.

        Raises:
            UserError: The folder exists or cannot be written; nothing is left behind.
        """
        folder = self.folder
        try:
            if folder.exists():
                raise UserError(f"{folder} exists already; type 'crl resume {folder}' to go on "
                                "with it, or choose another --out")
            made_parents = [p for p in folder.parents if not p.exists()]
        except OSError as error:
            raise self._cannot_write(error) from None
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            self._open_rows(unfinished)
            write_info(unfinished, info)
            self._store(unfinished).save(self._with_sizes(state), "0")
            self._close_rows()
            unfinished.rename(folder)
        except BaseException as error:
            self._close_rows()
            shutil.rmtree(unfinished, ignore_errors=True)
            for parent in made_parents:
                with contextlib.suppress(OSError):
                    parent.rmdir()
            if isinstance(error, OSError):
                raise self._cannot_write(error) from None
            raise
        self._claim.enter_context(claim(folder))

    def open(self, run: Run, checkpoint: Tree, step: int) -> None:
        """Takes up the folder where a checkpoint left it.

        Args:
            run: The run, as read from the folder.
            checkpoint: The checkpoint to go on from.
            step: Environment steps done by then.

        Raises:
            UserError: Rows that the checkpoint counts on are missing, or the folder cannot be
                written. Nothing is changed.
        """
        try:
            sizes = {name: int(checkpoint["rows"][name]) for name in self._files}
        except (LookupError, TypeError) as error:
            raise UserError(f"the checkpoint of {run.folder} was not written by this crl; its "
                            f"rows lack {error}") from error
        try:
            self._open_rows(self.folder, sizes)
            info = {**run.info, "status": "running"}
            write_info(self.folder, info)
            self._board = Board(self.folder / "tensorboard", start=step + 1 if step else 0)
        except OSError as error:
            raise self._cannot_go_on(error) from None
        self._info = info
        self._kept = _kept(checkpoint)

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds a row to the file of that name; it can be read when this returns."""
        assert self._board is not None
        self._rows[name].write(row)
        self._board.flush()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Adds a point to each named curve in TensorBoard."""
        assert self._board is not None
        self._board.write(values, step)

    def save(self, state: Tree, name: str) -> None:
        """Writes a checkpoint, and first everything that it counts on."""
        for rows in self._rows.values():
            rows.sync()
        assert self._board is not None
        self._board.flush()
        self._store(self.folder).save(self._with_sizes(state), name)
        self._kept = _kept(state)

    def set_status(self, status: str) -> None:
        """Writes ``running``, ``interrupted``, ``failed`` or ``finished`` into ``run.json``.

        A finished run also says what its CSV files are, and how many bytes it has kept.
        """
        self._info["status"] = status
        if status == "finished":
            self._info["kept"] = self._kept
            self._info["sha256"] = {f"{name}.csv": digest(self.folder / f"{name}.csv")
                                    for name in self._files}
        try:
            write_info(self.folder, self._info)
        except OSError:
            if status == "finished":
                raise  # otherwise the error that led here is the one to report

    def close(self, error: BaseException | None) -> None:
        """Closes everything; ``error`` is what stopped the run, None if nothing did.

        Raises:
            UserError: ``error`` came from the disk.
        """
        self._close_rows()
        if self._board:
            self._board.close()
        if self._info and error is not None:
            asked = isinstance(error, (KeyboardInterrupt, SystemExit))
            self.set_status("interrupted" if asked else "failed")
        self._claim.close()
        if self._info and isinstance(error, OSError):
            raise self._cannot_go_on(error) from error

    def _store(self, folder: Path) -> CheckpointStore:
        return CheckpointStore(folder / "checkpoints")

    def _with_sizes(self, state: Tree) -> Tree:
        return {**state, "rows": {name: rows.size for name, rows in self._rows.items()}}

    def _open_rows(self, folder: Path, sizes: dict[str, int] | None = None) -> None:
        for name in self._files:
            self._rows[name] = Rows(folder / f"{name}.csv", sizes[name] if sizes else None,
                                    _FILES[name])
        for rows in self._rows.values():
            rows.cut()  # only once all are known to be long enough

    def _close_rows(self) -> None:
        for rows in self._rows.values():
            rows.close()

    def _cannot_write(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.folder}: {error.strerror or error}")

    def _cannot_go_on(self, error: OSError) -> UserError:
        return UserError(f"{self._cannot_write(error)}; the run is safe up to its last checkpoint: "
                         f"make room, then type 'crl resume {self.folder}'")


def _kept(state: Tree) -> dict[str, int]:
    """Bytes of an agent's networks, and of what its methods hold."""
    return {"networks": _bytes(state["agent"].get("parts")),
            "methods": _bytes(state["agent"].get("methods"))}


def _bytes(tree: Any) -> int:
    if isinstance(tree, dict):
        return sum(map(_bytes, tree.values()))
    if isinstance(tree, list):
        return sum(map(_bytes, tree))
    return int(tree.nbytes) if isinstance(tree, np.ndarray) else 0
