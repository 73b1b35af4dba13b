"""A policy from a bundle, for whoever is at the robot: NumPy and ONNX Runtime, nothing else.

    policy = load("bundle/")
    policy.reset()                        # at the start of an episode
    action = policy.step(observation)     # [obs] float32 → [act] float32, in the manifest's units

The folder ``crl/deploy`` runs on its own: ``runtime.py``, ``guard.py``, ``files.py``, ``graph.py``,
``manifest.py``, ``signature.py`` and ``manifest.schema.json``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import ArrayLike, NDArray

from crl.deploy.files import (
    GOLDEN,
    MANIFEST,
    POLICY,
    WEIGHTS,
    Golden,
    check_weights,
    read_files,
    read_golden,
)
from crl.deploy.graph import check_graph
from crl.deploy.manifest import BundleError, Manifest

__all__ = ["BundleError", "BundlePolicy", "load", "load_all"]

_MEMORY = 2**29  # bytes that all policies together may use while they compute
_MOST_TASKS = 100


def load(folder: str | Path, *, digest: str | None = None, key: str | Path | None = None
         ) -> BundlePolicy:
    """Opens a bundle, verifies it and makes it prove itself on its golden steps.

    Args:
        folder: What ``crl export`` wrote.
        digest: The SHA-256 of its manifest.json, where it is known from a trusted place.
        key: The public ed25519 key, a file in PEM, of whom is trusted; its signature is checked.

    Raises:
        BundleError: It is damaged, hostile, not signed so, or does here what it did not do where it
            was exported.
    """
    path = Path(folder)
    manifest, files = read_files(path, digest, None if key is None else Path(key))
    try:
        check_weights(files[WEIGHTS])
        policy = BundlePolicy(files[POLICY], manifest)
        policy.prove(read_golden(files[GOLDEN], manifest))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None
    return policy


def load_all(folder: str | Path, key: str | Path | None = None) -> dict[str, BundlePolicy]:
    """Policies by task: of one bundle, or of a folder of them.

    Raises:
        BundleError: As :func:`load`; or there is none, or two are for one task.
    """
    path = Path(folder)
    folders = [path]
    if not (path / MANIFEST).exists():
        folders = sorted(inner.parent for inner in path.glob(f"*/{MANIFEST}"))
    if not 0 < len(folders) <= _MOST_TASKS:
        raise BundleError(f"{path} is no bundle, nor a folder of up to {_MOST_TASKS} bundles; make "
                          f"one: type 'crl export RUN --out {path}'")
    policies = [load(inner, key=key) for inner in folders]
    by_task = {policy.manifest["task"]: policy for policy in policies}
    if len(by_task) < len(policies):
        raise BundleError(f"{path} has two bundles for one task")
    return by_task


class BundlePolicy:
    """A policy and what it remembers.

    Args:
        model: The content of policy.onnx.
        manifest: What it must be like.

    Attributes:
        manifest: As given.

    Raises:
        BundleError: The model is not allowed, cannot be run, or is not what the manifest says.
    """

    def __init__(self, model: bytes, manifest: Manifest) -> None:
        check_graph(model)
        self.manifest = manifest
        self._session = _session(model)
        _check_tensors(self._session, manifest)
        self._outputs = ["action", *(one["output"] for one in manifest["state"])]
        self._inputs = [one["input"] for one in manifest["state"]]
        self._initial = {one["input"]: np.full((1, *one["shape"]), one["initial"], np.float32)
                         for one in manifest["state"]}
        self._width = len(manifest["observation"]["terms"])
        self._feed: dict[str, NDArray[np.float32]] = {}
        self._run = self._session.run
        self.reset()

    def reset(self) -> None:
        """Begins an episode: what is remembered is what the manifest says it is at first."""
        self._feed.update(self._initial)

    def step(self, observation: ArrayLike) -> NDArray[np.float32]:
        """One decision.

        Args:
            observation: [obs], its terms in the order of the manifest.

        Returns:
            The action [act]; of a discrete one, choices with a single 1.

        Raises:
            ValueError: Another number of terms, or no numbers.
            BundleError: ONNX Runtime could not compute it.
        """
        obs = np.asarray(observation, np.float32)
        if obs.shape != (self._width,):
            raise ValueError(f"an observation has {self._width} terms, got shape {obs.shape}")
        self._feed["observation"] = obs[None]
        try:
            action, *state = self._run(self._outputs, self._feed)
        except Exception as error:  # it has classes of its own, which derive from nothing else
            raise BundleError(f"{POLICY} cannot be computed: {_first_line(error)}") from None
        self._feed.update(zip(self._inputs, state, strict=True))
        chosen: NDArray[np.float32] = action[0]
        return chosen

    def prove(self, golden: Golden) -> float:
        """Does golden steps again, then resets.

        Returns:
            The largest difference of an action, in halves of its range.

        Raises:
            BundleError: It is above the tolerance of the manifest.
        """
        terms = self.manifest["action"]["terms"]
        half = np.array([(term["high"] - term["low"]) / 2 for term in terms])
        largest = 0.0
        for obs, first, action in zip(*golden, strict=True):
            if first:
                self.reset()
            difference = np.abs(self.step(obs) - action.astype(np.float64)) / half
            largest = max(largest, float(np.nan_to_num(difference, nan=np.inf).max()))
        self.reset()
        tolerance = self.manifest["parity"]["tolerance"]
        if not largest <= tolerance:
            raise BundleError(f"{POLICY} is {largest:.1g} away from {GOLDEN}, more than "
                              f"{tolerance:.1g}; export it again")
        return largest


def _session(model: bytes) -> Any:
    _limit_memory()
    options = onnxruntime.SessionOptions()
    # A policy is small: a second thread costs more than it brings, and spins while it waits.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 4  # what is wrong is raised
    try:
        return onnxruntime.InferenceSession(model, options, enable_fallback=0,
                                            providers=["CPUExecutionProvider"])
    except Exception as error:  # as in step()
        raise BundleError(f"{POLICY} cannot be run: {_first_line(error)}") from None


@cache
def _limit_memory() -> None:
    """Gives ONNX Runtime an allocator that a hostile model cannot exhaust the machine with."""
    where = onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                                      onnxruntime.OrtMemType.DEFAULT)
    settings = onnxruntime.OrtArenaCfg({"max_mem": _MEMORY, "arena_extend_strategy": 1})
    onnxruntime.create_and_register_allocator(where, settings)


def _check_tensors(session: Any, manifest: Manifest) -> None:
    """Raises ``BundleError`` unless a model takes and gives what the manifest says."""
    state = manifest["state"]
    expected = [
        {kind: [1, len(manifest[kind]["terms"])],
         **{one[way]: [1, *one["shape"]] for one in state}}
        for kind, way in (("observation", "input"), ("action", "output"))]
    for tensors, wanted in zip((session.get_inputs(), session.get_outputs()), expected,
                               strict=True):
        found = {tensor.name: tensor.shape for tensor in tensors}
        if found != wanted or any(tensor.type != "tensor(float)" for tensor in tensors):
            raise BundleError(f"{POLICY} takes or gives {found}, the manifest says {wanted}"[:400])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
