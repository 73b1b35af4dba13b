"""Reading a bundle's files: of known names and sizes, and nothing before its hash is right."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import stat
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crl.deploy.manifest import LARGEST, BundleError, Manifest, read_manifest
from crl.deploy.signature import BYTES, verify

MANIFEST, SEAL, SIGNATURE = "manifest.json", "manifest.sha256", "manifest.sig"
POLICY, WEIGHTS, GOLDEN, CARD = "policy.onnx", "weights.safetensors", "golden.npz", "README.md"


class Golden(NamedTuple):
    """What PyTorch did.

    Attributes:
        observation: [T, obs] float32.
        first: [T] bool, where an episode begins.
        action: [T, act] float32.
    """

    observation: NDArray[np.float32]
    first: NDArray[np.bool_]
    action: NDArray[np.float32]


def read_files(folder: Path, digest: str | None = None, key: Path | None = None
               ) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle's manifest and the content of its files by name, as their hashes say.

    Args:
        folder: The bundle.
        digest: The SHA-256 of manifest.json, if it is known from elsewhere; None: what
            manifest.sha256 says, which tells damage, but not an attacker's bundle from one's own.
        key: Whose signature it must have: a public ed25519 key in PEM; None: anybody's or none.

    Raises:
        BundleError: Something is missing, damaged or too large, or no plain file; or the signature
            is not the key's.
    """
    content = _read(folder, MANIFEST, LARGEST)
    found = hashlib.sha256(content).hexdigest()
    if _read(folder, SEAL, 200) != seal(content) or digest not in (None, found):
        raise BundleError(f"{folder / MANIFEST} is not the one that was exported: its SHA-256 does "
                          "not match; copy the bundle again")
    if key is not None:
        verify(key, content, _read(folder, SIGNATURE, BYTES))
    manifest = read_manifest(content)
    files = {}
    for name, expected in manifest["files"].items():
        files[name] = _read(folder, name, expected["bytes"])
        if hashlib.sha256(files[name]).hexdigest() != expected["sha256"]:
            raise BundleError(f"{folder / name} was truncated or edited: its SHA-256 does not "
                              "match; copy the bundle again")
    return manifest, files


def seal(manifest: bytes) -> bytes:
    """What stands in manifest.sha256: a line that ``sha256sum --check`` reads."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _read(folder: Path, name: str, limit: int) -> bytes:
    """A file's content: of a plain file in the folder itself, of at most ``limit`` bytes."""
    path = folder / name
    # Neither follows a link out of the folder nor waits for a pipe.
    safely = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | safely)) as file:
            plain = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(limit + 1) if plain else b""
    except (OSError, ValueError) as error:  # the latter of a null byte in the folder's name
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path} cannot be read: {reason}") from None
    if not plain:
        raise BundleError(f"{path} is no plain file")
    if len(content) > limit:
        raise BundleError(f"{path} is larger than the {limit} bytes that it should have")
    return content


def check_weights(content: bytes) -> None:
    """Raises ``BundleError`` unless bytes are a safetensors file, which nothing here reads."""
    header: Any
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:8 + size]) if size <= LARGEST else None
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        ends = [int(tensor["data_offsets"][1]) for tensor in tensors]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        ends = [-1]
    if max(ends, default=0) != len(content) - 8 - size:
        raise BundleError(f"{WEIGHTS} is no safetensors file")


def read_golden(content: bytes, manifest: Manifest) -> Golden:
    """The content of golden.npz.

    Raises:
        BundleError: It is not what :func:`write_golden` writes, or does not fit the manifest.
    """
    steps = manifest["parity"]["steps"]
    shapes = {"observation": (steps, len(manifest["observation"]["terms"])), "first": (steps,),
              "action": (steps, len(manifest["action"]["terms"]))}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            # Nothing is compressed, so that nothing is larger than the file.
            if [(e.filename, e.compress_type) for e in entries] != [
                    (f"{name}.npy", zipfile.ZIP_STORED) for name in shapes]:
                raise BundleError(f"{GOLDEN} holds something else than {', '.join(shapes)}")
            golden = Golden(*(_array(archive.read(entry), shape) for entry, shape in
                              zip(entries, shapes.values(), strict=True)))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError,
            RuntimeError) as error:  # whatever zipfile and NumPy raise
        reason = str(error).partition("\n")[0] or "it ends too early"
        raise BundleError(f"{GOLDEN} cannot be read: {reason[:200]}") from None
    if not (golden.first[0] and np.isfinite(golden.observation).all()):
        raise BundleError(f"{GOLDEN} does not begin with an episode, or has numbers that are none")
    return golden


def write_golden(golden: Golden) -> bytes:
    """The same bytes for the same arrays."""
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **golden._asdict())
    return stream.getvalue()


def _array(content: bytes, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array of an .npy file, which must have a shape: bools, or float32 if it is a matrix."""
    stream = io.BytesIO(content)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("of another version of NumPy's format")
    found, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    expected = np.dtype(np.float32 if len(shape) == 2 else np.bool_)
    body = content[stream.tell():]
    if (found, by_columns, dtype) != (shape, False, expected) or (
            len(body) != math.prod(shape) * expected.itemsize):
        raise ValueError(f"an array of {dtype} {found} where {expected} {shape} should be")
    return np.frombuffer(body, expected).reshape(shape)
