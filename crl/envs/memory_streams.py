"""Streams of tasks that need memory, so that what is forgotten can be the skill to remember."""

from __future__ import annotations

from crl.envs.arm_tasks import HIDDEN_ARM_TASKS
from crl.envs.catalog import stream_of
from crl.stream import StreamOptions, TaskStream

STREAMS = {
    # One observation and one action space: four numbers, four choices.
    "memory3": ("t-maze-10", "repeat-previous-easy", "memory-query-10"),
    "arm-hidden3": tuple(HIDDEN_ARM_TASKS),
}
STEPS = 20_000


def make_stream(name: str, options: StreamOptions) -> TaskStream:
    """The named stream, 20 000 steps a task where the user set none."""
    return stream_of(name, STREAMS[name], options, steps=STEPS, label=f"{name}-v1")
