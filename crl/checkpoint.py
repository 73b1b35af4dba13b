"""Trees of arrays and plain values ↔ folders: atomic, verified, without pickle.

A checkpoint folder holds ``tree.json`` (the structure and the plain values), ``arrays.safetensors``
(the arrays) and ``done`` (SHA-256 of both). It is written under another name and renamed once it is
complete, so a folder under its final name is whole; ``latest`` names the newest one and is switched
by rename too. A process killed at any instant therefore leaves either the old or the new state.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from crl.errors import UserError

Tree = dict[str, Any]
"""Nested dicts and lists of NumPy arrays and plain values."""
_ARRAY = "__array__"
_FILES = ("tree.json", "arrays.safetensors")
_DTYPES = frozenset(("bool", "complex64", "float16", "float32", "float64",
                     *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))))


def save_tree(tree: Tree, folder: Path) -> None:
    """Writes ``tree`` as a new folder; an existing one of that name is replaced.

    Args:
        tree: Nested dicts (string keys) and lists of NumPy arrays of bools and numbers, plain
            numbers, strings, bools, None.
        folder: Where to; its parent must exist.

    Raises:
        TypeError: A leaf that is none of these.
        OSError: The disk is full or the folder cannot be written; nothing is left behind.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = _flatten(tree, arrays, "")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        hashes = {}
        for name, content in zip(
            _FILES, (json.dumps(structure).encode(), save_arrays(arrays)), strict=True
        ):
            hashes[name] = hashlib.sha256(content).hexdigest()
            write_synced(unfinished / name, content)
        write_synced(unfinished / "done", json.dumps(hashes).encode())
        if folder.exists():
            shutil.rmtree(folder)
        os.rename(unfinished, folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def load_tree(folder: Path) -> Tree:
    """Reads a folder written by :func:`save_tree`.

    Raises:
        UserError: The folder is missing, incomplete, truncated or was edited.
    """
    try:
        hashes = json.loads((folder / "done").read_text())
        contents = [(folder / name).read_bytes() for name in _FILES]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} is not a complete checkpoint: {_reason(error)}") from None
    for name, content in zip(_FILES, contents, strict=True):
        expected = hashes.get(name) if isinstance(hashes, dict) else None
        if hashlib.sha256(content).hexdigest() != expected:
            raise UserError(f"{folder / name} was truncated or edited: its SHA-256 does not match; "
                            "restore it from a copy, or start the run again in a new folder")
    try:
        tree = _unflatten(json.loads(contents[0]), load_arrays(contents[1]))
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{folder} cannot be read as a checkpoint: {_reason(error)}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{folder} cannot be read as a checkpoint: its tree is not a dictionary")
    return tree


def same_structure(a: Any, b: Any) -> bool:
    """Whether two trees have the same keys, lengths of lists and shapes of arrays."""
    if isinstance(a, dict):
        return (isinstance(b, dict) and a.keys() == b.keys()
                and all(same_structure(v, b[k]) for k, v in a.items()))
    if isinstance(a, (list, tuple)):
        return (isinstance(b, (list, tuple)) and len(a) == len(b)
                and all(map(same_structure, a, b)))
    return bool(np.shape(a) == np.shape(b))


class CheckpointStore:
    """The ``checkpoints`` folder of a run: the newest checkpoint and nothing else.

    Args:
        folder: The ``checkpoints`` folder; made at the first :meth:`save`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def latest(self) -> Path | None:
        """The folder of the newest checkpoint; None before the first."""
        try:
            name = (self.folder / "latest").read_text().strip()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder / 'latest'} cannot be read: {_reason(error)}") from None
        if not name or Path(name).name != name:
            raise UserError(f"{self.folder / 'latest'} should name one checkpoint, not {name!r}")
        return self.folder / name

    def save(self, tree: Tree, name: str) -> None:
        """Adds a checkpoint, makes it the latest, then removes the others.

        Raises:
            ValueError: The latest has this name already: replacing it could not be one step.
            OSError: As :func:`save_tree`; the latest stays what it was.
        """
        self.folder.mkdir(exist_ok=True)
        latest = self.latest()
        if latest is not None and latest.name == name and latest.exists():
            raise ValueError(f"{latest} is the newest checkpoint already; give another name")
        save_tree(tree, self.folder / name)
        replace_file(self.folder / "latest", name.encode())
        for entry in self.folder.iterdir():
            if entry.is_dir() and entry.name != name:
                shutil.rmtree(entry, ignore_errors=True)


def replace_file(path: Path, content: bytes) -> None:
    """Writes a file so that at any instant either the old or the new content is there."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        write_synced(unfinished, content)
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_synced(path: Path, content: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flatten(node: Any, arrays: dict[str, np.ndarray], path: str) -> Any:
    if isinstance(node, dict):
        if not all(isinstance(k, str) for k in node):
            raise TypeError(f"keys of a checkpoint must be strings, got {list(node)} at {path!r}")
        if set(node) == {_ARRAY}:
            raise TypeError(f"the key {_ARRAY!r} at {path!r} is what a checkpoint marks arrays by")
        return {k: _flatten(v, arrays, f"{path}/{k}") for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [_flatten(v, arrays, f"{path}/{i}") for i, v in enumerate(node)]
    if isinstance(node, np.ndarray):
        if node.dtype.name not in _DTYPES:
            raise TypeError(f"a checkpoint cannot hold an array of {node.dtype} at {path!r}")
        name = f"{len(arrays)}:{path}"  # numbered: keys may hold slashes, so paths may be equal
        native = node.astype(node.dtype.newbyteorder("="), copy=False)
        arrays[name] = np.ascontiguousarray(native).reshape(node.shape)
        return {_ARRAY: name}
    if node is None or isinstance(node, (bool, int, float, str)):
        return node
    raise TypeError(f"a checkpoint cannot hold {type(node).__name__} at {path!r}")


def _unflatten(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(node, dict):
        if set(node) == {_ARRAY}:
            return arrays[node[_ARRAY]]
        return {k: _unflatten(v, arrays) for k, v in node.items()}
    if isinstance(node, list):
        return [_unflatten(v, arrays) for v in node]
    return node


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.strerror}: {Path(error.filename or '').name}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
