"""Names of tasks that need memory: families with a number, and POPGym's three sizes."""

from __future__ import annotations

import re

FAMILIES = {"t-maze": "TMaze", "memory-length": "MemoryLength"}
REPEAT_PREVIOUS = {"easy": (4, 1), "medium": (32, 2), "hard": (64, 3)}  # steps back, decks
EXAMPLES = ("t-maze-100", "memory-length-30",
            *(f"repeat-previous-{size}" for size in REPEAT_PREVIOUS))


def memory_task(name: str) -> tuple[str, tuple[int, ...]] | None:
    """The class and its arguments that a name such as ``"t-maze-100"`` stands for, or None."""
    family, _, last = name.rpartition("-")
    if family in FAMILIES and re.fullmatch("[1-9][0-9]{0,5}", last):
        return FAMILIES[family], (int(last),)
    if family == "repeat-previous" and last in REPEAT_PREVIOUS:
        return "RepeatPrevious", REPEAT_PREVIOUS[last]
    return None
