"""Names of tasks that need memory: families with a length, and POPGym's three sizes."""

from __future__ import annotations

import re

LENGTHS = {"t-maze": ("TMaze", ()), "memory-length": ("MemoryLength", ()),
           "memory-query": ("MemoryLength", (2, 4))}  # class, arguments after the length
REPEAT_PREVIOUS = {"easy": (4, 1), "medium": (32, 2), "hard": (64, 3)}  # k, decks
LENGTH_EXAMPLES = ("t-maze-100", "memory-length-30", "memory-query-10")
EXAMPLES = (*LENGTH_EXAMPLES, *(f"repeat-previous-{size}" for size in REPEAT_PREVIOUS))


def memory_task(name: str) -> tuple[str, tuple[int, ...]] | None:
    """The class and its arguments that a name such as ``"t-maze-100"`` stands for, or None."""
    family, _, last = name.rpartition("-")
    if family in LENGTHS and re.fullmatch("[1-9][0-9]{0,5}", last):
        cls, more = LENGTHS[family]
        return cls, (int(last), *more)
    if family == "repeat-previous" and last in REPEAT_PREVIOUS:
        return "RepeatPrevious", REPEAT_PREVIOUS[last]
    return None


def of_length(name: str, length: int) -> str | None:
    """The task of the same family and another length; None if the family has no lengths."""
    family = name.rpartition("-")[0]
    return f"{family}-{length}" if family in LENGTHS else None
