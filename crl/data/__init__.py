"""Episodes to learn from: played, kept on disk as Minari data sets, and read into memory.

    crl data --stream quick3 --episodes 30 --out data/quick3

    from crl.data import read_data
    episodes = read_data("data/quick3", "window-close-v3")

The names load on first use, since reading and writing need the extra ``crl[data]``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crl.data.collection import collect
    from crl.data.episodes import Episodes, returns_to_go
    from crl.data.making import make_data, make_replay_data
    from crl.data.minari_store import read_data

_MODULES = {
    "Episodes": "episodes", "returns_to_go": "episodes", "collect": "collection",
    "make_data": "making", "make_replay_data": "making", "read_data": "minari_store",
}
__all__ = ["Episodes", "collect", "make_data", "make_replay_data", "read_data", "returns_to_go"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'crl.data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"crl.data.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
