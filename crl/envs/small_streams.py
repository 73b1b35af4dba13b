"""Streams of small tasks: seconds to minutes a task on one core."""

from __future__ import annotations

from crl.envs.arm_tasks import ARM_TASKS, HIDDEN_ARM_TASKS
from crl.envs.catalog import stream_of
from crl.envs.dynamic_tasks import DYNAMIC_STREAMS
from crl.envs.hcrl_tasks import HCRL_STREAMS
from crl.stream import StreamOptions, TaskStream

STREAMS: dict[str, tuple[tuple[str, ...], int]] = {  # tasks, steps of each
    "arm4": (tuple(ARM_TASKS), 5_000),  # each task undoes the one before
    "arm-hidden3": (tuple(HIDDEN_ARM_TASKS), 20_000),
    # What is to be remembered differs; observations and actions are alike, four numbers each.
    "memory3": (("t-maze-10", "repeat-previous-easy", "memory-query-10"), 20_000),
    **HCRL_STREAMS,
    **DYNAMIC_STREAMS,
}


def make_stream(name: str, options: StreamOptions) -> TaskStream:
    """A stream above; ``options`` may set other numbers of steps."""
    tasks, steps = STREAMS[name]
    return stream_of(name, tasks, options, steps=steps, label=f"{name}-v1")
