"""TensorBoard scalars of a run.

Written in the calling thread. ``torch.utils.tensorboard`` writes in a thread of its own, which on a
full disk prints a traceback of its own, and whose unwritten scalars are lost when a run is killed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class Board:
    """An event file that TensorBoard reads.

    Args:
        folder: Where to; made if missing.
        start: The first step that this file may speak of: what earlier files of the folder say
            about it and about later steps, a stopped run's, is to be ignored.
    """

    def __init__(self, folder: Path, start: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000}.{os.getpid()}"
        self._file = open(folder / name, "xb")  # noqa: SIM115
        self._records = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2", step=start))
        self._add(Event(session_log=SessionLog(status=SessionLog.START), step=start))
        self.flush()

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Adds a point to each named curve; a name without ``/`` goes under ``agent/``."""
        if scalars:
            values = [Summary.Value(tag=name if "/" in name else f"agent/{name}",
                                    simple_value=value) for name, value in scalars.items()]
            self._add(Event(summary=Summary(value=values), step=step))

    def flush(self) -> None:
        """Hands what was written to the operating system."""
        self._file.flush()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk: scalars that no one has seen are lost
            self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
