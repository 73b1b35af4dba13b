"""Tables of experiments: as CSV, and on the pages that show them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from grid import write_table

Row = dict[str, float | str]
Rows = list[Row]


def write_tables(tables: Mapping[str, Rows], folder: Path, page: Path) -> None:
    """Writes NAME.csv for each table into the folder, puts it on the page, and prints it.

    On the page it goes between the lines `<!-- NAME -->` and `<!-- end -->`, if these are there.
    """
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", list(table[0]), table)
    put({name: markdown(table) for name, table in tables.items()}, page)


def put(shown: Mapping[str, str], page: Path) -> None:
    """Puts tables between their lines on the page, and prints them."""
    text = page.read_text()
    for name, table in shown.items():
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)",
                      lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text,
                      flags=re.DOTALL)
        print(f"{name}\n{table}\n")
    page.write_text(text)


def markdown(table: Rows) -> str:
    """A table of a page; numbers to three digits."""
    lines = ["| " + " | ".join(column.replace("_", " ") for column in table[0]) + " |",
             "|---" * len(table[0]) + "|"]
    lines += ["| " + " | ".join(_short(value) for value in row.values()) + " |" for row in table]
    return "\n".join(lines)


def _short(value: float | str) -> str:
    if isinstance(value, (str, int)):
        return str(value)
    if math.isinf(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
