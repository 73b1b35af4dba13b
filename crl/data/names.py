"""What tasks and their data sets are called."""

from __future__ import annotations

import re


def visited(task_name: str) -> str:
    """The task that a stream visits: ``"push-v3"`` of ``"push-v3@2"``."""
    return task_name.partition("@")[0]


def data_id(task_name: str, kind: str) -> str:
    """Minari's name of a task's data set, such as ``"push-v3/scripted-v0"``."""
    return f"{re.sub(r'[^-/_a-zA-Z0-9]', '_', visited(task_name))}/{kind}-v0"
