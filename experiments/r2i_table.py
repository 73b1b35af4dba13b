"""The tables of experiments/results/r2i: writes them there as CSV and into docs/world-models.md.

    python experiments/r2i_table.py

A row a sequence model, means over its seeds: success and return of the last two evaluations,
CPU-seconds of the run, and until the first evaluation that was good.
"""

from __future__ import annotations

from pathlib import Path

from grid import RESULTS
from memory_table import rows
from pages import Rows, write_tables
from r2i import GRIDS

FOLDER = RESULTS / "r2i"
PAGE = Path(__file__).parents[1] / "docs" / "world-models.md"


def tables() -> dict[str, Rows]:
    """All that there is so far."""
    return {name: table for name, grid in GRIDS.items() if (table := rows(FOLDER / name, grid))}


def main() -> None:
    """Writes the tables and prints them."""
    write_tables(tables(), FOLDER, PAGE)


if __name__ == "__main__":
    main()
