"""Folders of files that a command writes: checked before the work, each file whole or as before."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from crl.checkpoint import replace_file
from crl.errors import UserError


def imprint() -> str:
    """When something is made now, and by which version."""
    from crl import __version__

    return f"Made by crl {__version__}, {time.strftime('%Y-%m-%d %H:%M')}."


def check_writable(folder: Path) -> None:
    """Says what is wrong with ``folder`` before the work rather than after it."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents)
                   if path.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot write to {folder}: {nearest} is a file; "
                        "choose another --out")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"cannot write to {folder}: no permission in {nearest}; "
                        "choose another --out")


def write_files(folder: Path, content: dict[str, bytes]) -> None:
    """Writes files into a folder, made if need be, the last one last.

    Each is the old one or the new one at any instant; a new folder stays only if it is whole.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in content.items():
            replace_file(folder / name, data)
    except BaseException as error:
        if made:
            shutil.rmtree(made[-1], ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write to {folder}: {error.strerror}; "
                            "choose another --out") from None
        raise
