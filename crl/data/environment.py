"""The environment that a data set is of, so that Gymnasium can make it again."""

from __future__ import annotations

import re
from typing import Any

from gymnasium.envs.registration import EnvSpec

from crl.envs.catalog import make_stream
from crl.stream import Env, Task, TaskStream


def make(stream: dict[str, Any], task: str, render_mode: str | None = None) -> Env:
    """A task's environment, given what :func:`make_stream` needs and the task's name."""
    return make_stream(**stream)[task].make(render_mode=render_mode)


def spec_of(stream: TaskStream, task: Task) -> EnvSpec | None:
    """What ``gymnasium.make`` makes the task's environment from; None if only code can make it."""
    if stream.options is None:
        return None
    name = re.sub(r"[^\w.-]", "-", task.name)  # what Gymnasium allows
    return EnvSpec(f"crl/{name}", f"{__name__}:make",
                   kwargs={"stream": stream.options, "task": task.name},
                   disable_env_checker=True, order_enforce=False)
