"""The stream of the two-link arm: seconds to learn, and each task undoes the one before."""

from __future__ import annotations

from crl.envs.arm_tasks import ARM_TASKS
from crl.envs.catalog import stream_of
from crl.stream import StreamOptions, TaskStream

STEPS = 5_000


def make_stream(name: str, options: StreamOptions) -> TaskStream:
    """All four tasks, 5 000 steps each where the user set none."""
    return stream_of(name, tuple(ARM_TASKS), options, steps=STEPS, label=f"{name}-v1")
