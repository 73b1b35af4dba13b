"""The one exception that stands for a mistake of the user's."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something the user typed or supplied is wrong.

    The message is one line: what was wrong, what was expected, what to type instead. The command
    line prints it and exits with status 2; in Python it is an ordinary ``ValueError``.
    """


def unknown(kind: str, name: object, known: Iterable[str], hint: str = "") -> UserError:
    """A ``UserError`` for a name that does not exist, with the closest names that do."""
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    if close:
        expected = "did you mean " + " or ".join(repr(c) for c in close) + "?"
    elif names and len(names) <= 20:
        expected = "known: " + ", ".join(names)
    else:
        expected = ""
    return UserError("; ".join(filter(None, (f"unknown {kind} {name!r}", expected, hint))))
