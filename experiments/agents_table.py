"""Which methods go with which agents: tries each, trains nothing, and writes docs/methods.md.

    python experiments/agents_table.py

A method is attached to a new agent with its defaults; where that is refused, with the settings
below, the fewest first. What is left is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from pages import Row, Rows, markdown, put

import crl
from crl import registry
from crl.methods.base import make_method

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"
# Agent → a stream that it takes, and settings that make it small.
_SMALL = {"hidden": (8, 8), "replay_size": 10_000}
_RECURRENT = {**_SMALL, "memory_size": 8}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sac": ("arm4", _SMALL), "recurrent-sac": ("arm4", _RECURRENT),
    "recurrent-ppo": ("arm4", _RECURRENT), "mpc": ("hcrl-lqr", _SMALL),
    "hypercrl": ("hcrl-lqr", _SMALL), "r2i": ("arm4", {**_SMALL, "hidden": (32,)})}
# How it is shown → settings of the agent, and of the method.
REMEDIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "actor": ({}, {"parts": ("actor",)}),
    "model": ({}, {"parts": ("model",)}),
    "no layer norm": ({"layer_norm": False}, {}),
    "fresh replay": ({"reset": ("replay", "optimizer")}, {}),
    "gaussian model": ({"model": "gaussian"}, {}),
}


def rows() -> Rows:
    """A row a method, a column an agent."""
    table: Rows = []
    for method in registry.methods.names():
        row: Row = {"method": f"`{method}`"}
        for agent in AGENTS:
            row[agent] = attempt(agent, method)
        table.append(row)
    return table


def attempt(agent: str, method: str) -> str:
    """A check mark, the settings that it takes, or a dash."""
    for count in range(3):
        for remedies in combinations(REMEDIES, count):
            if works(agent, method, remedies):
                return ", ".join(remedies) or "✓"
    return "–"


def works(agent: str, method: str, remedies: Sequence[str]) -> bool:
    """Whether the agent takes the method."""
    stream, of_agent = AGENTS[agent]
    of_method: dict[str, Any] = {}
    for name in remedies:
        of_agent, of_method = of_agent | REMEDIES[name][0], of_method | REMEDIES[name][1]
    if "parts" in of_method and hasattr(registry.methods.load(method).Config, "part"):
        of_method = {"part": of_method["parts"][0]}
    try:
        made = make_method(method, **of_method)
        crl.make_agent(agent, _stream(stream), **of_agent).attach([made])
    except crl.UserError:
        return False
    return True


@cache
def _stream(name: str) -> crl.TaskStream:
    return crl.make_stream(name)


def main() -> None:
    """Writes the table and prints it."""
    put({"agents": markdown(rows())}, PAGE)


if __name__ == "__main__":
    main()
