"""Random streams by name: one ``SeedSequence`` a run, nothing from a global generator.

Every consumer of randomness asks for the stream of its own name. Streams are independent of each
other and of the order in which they are asked for, so adding a consumer changes no other's draws.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np


def seed_sequence(seed: int, *name: str | int) -> np.random.SeedSequence:
    """The seed sequence of the stream called ``name`` under a run's ``seed`` (an int ≥ 0)."""
    key = tuple(zlib.crc32(n.encode()) if isinstance(n, str) else n for n in name)
    return np.random.SeedSequence(entropy=seed, spawn_key=key)


def generator(seed: int, *name: str | int) -> np.random.Generator:
    """A NumPy generator for the stream called ``name``."""
    return np.random.default_rng(seed_sequence(seed, *name))


def integer(seed: int, *name: str | int) -> int:
    """A seed in [0, 2³¹) for interfaces that take one integer, such as ``env.reset(seed=…)``."""
    return int(seed_sequence(seed, *name).generate_state(1)[0] >> 1)


def generator_state(rng: np.random.Generator) -> dict[str, Any]:
    """The state of a generator as a tree of plain values (see ``crl.checkpoint``)."""
    return dict(rng.bit_generator.state)


def restore_generator(rng: np.random.Generator, state: dict[str, Any]) -> None:
    """Puts a generator back to a state made by :func:`generator_state`."""
    rng.bit_generator.state = state
