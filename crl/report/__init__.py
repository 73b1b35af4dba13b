"""Runs → one HTML page that needs no network, still pictures and tidy tables."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from crl.outputs import check_writable, imprint, write_files
from crl.run import Run

__all__ = ["report"]


def report(runs: Sequence[str | Path | Run], out: str | Path) -> Path:
    """Compares runs, finished or not.

    Runs of one configuration are taken as seeds of one group; runs of different protocols are
    never averaged or ranked together.

    Args:
        runs: Run folders; the same folder twice counts once.
        out: A folder, made if need be, for ``index.html``, ``metrics.csv``, ``curves.csv`` and the
            pictures ``curves.png``, ``returns.png``, ``mean.png``, ``matrix.png``
            (``curves-2.png`` … for further protocols). Files of these names are replaced, each in
            one step, the page last.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: A folder is not a run or is damaged, no run has been evaluated yet, or ``out``
            cannot be written.
    """
    from crl.report.curves import POINT_BUDGET, views
    from crl.report.load import load, sections
    from crl.report.page import page
    from crl.report.stills import stills
    from crl.report.tables import curves_csv, metrics_csv

    folder = Path(out)
    loaded = load(runs)
    found = sections(loaded)
    check_writable(folder)
    drawn = [(section, views(section, POINT_BUDGET // len(found))) for section in found]
    content: dict[str, bytes] = {}
    for number, (section, seen) in enumerate(drawn, 1):
        for name, png in stills(section, seen).items():
            stem, _, ending = name.partition(".")
            content[name if number == 1 else f"{stem}-{number}.{ending}"] = png
    content["metrics.csv"] = metrics_csv(found).encode()
    content["curves.csv"] = curves_csv(found).encode()
    command = shlex.join(["crl", "report", *(str(run.run.folder) for run in loaded),
                          "--out", str(folder)])
    content["index.html"] = page(drawn, loaded, command, imprint()).encode()
    write_files(folder, content)
    return folder / "index.html"
