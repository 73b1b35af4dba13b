"""Runs of one protocol → a ranked table: a page, Markdown and CSV."""

from __future__ import annotations

import shlex
from pathlib import Path

from crl.errors import UserError
from crl.outputs import check_writable, imprint, write_files

__all__ = ["check", "leaderboard"]


def leaderboard(folder: str | Path, out: str | Path) -> Path:
    """Ranks the entries in a folder of runs; runs that differ in nothing but seeds are an entry.

    Args:
        folder: Holds run folders of one protocol, or folders of them.
        out: A folder, made if need be, for ``index.html``, ``leaderboard.csv``, ``tasks.csv`` and
            ``leaderboard.md``. Files of these names are replaced, each in one step.

    Returns:
        The path of ``index.html``.

    Raises:
        UserError: The runs must not stand in one table (see :func:`check`), or ``out`` cannot be
            written.
    """
    from crl.leaderboard.entries import read_entries
    from crl.leaderboard.page import page
    from crl.leaderboard.ranking import rank
    from crl.leaderboard.tables import leaderboard_csv, leaderboard_md, tasks_csv

    source, target = Path(folder), Path(out)
    entries = read_entries(source)
    check_writable(target)
    rows = rank(entries)
    command = shlex.join(["crl", "leaderboard", str(source), "--out", str(target)])
    protocol = entries.protocol
    write_files(target, {
        "leaderboard.csv": leaderboard_csv(protocol, rows).encode(),
        "tasks.csv": tasks_csv(protocol, rows).encode(),
        "leaderboard.md": leaderboard_md(protocol, rows).encode(),
        "index.html": page(entries, rows, command, imprint()).encode()})
    return target / "index.html"


def check(folder: str | Path) -> str:
    """Whether the runs in a folder may be submitted: what they are, in a line.

    Raises:
        UserError: They may not: a run is unfinished, edited, incomplete or of no protocol, recorded
            no hashes, or there twice; a seed is missing; there are several protocols.
    """
    from crl.leaderboard.entries import read_entries

    entries = read_entries(Path(folder))
    if entries.unchecked:
        raise UserError(f"{entries.unchecked[0].folder} was made by a crl that recorded no SHA-256 "
                        "of its files; train it again with this one")
    groups = entries.section.groups
    named = "; ".join(f"{group.name}, seeds 0 to {len(group.runs) - 1}" for group in groups)
    return f"{entries.protocol.title}: {named}"
