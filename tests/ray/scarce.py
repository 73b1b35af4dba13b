"""Episodes by workers where memory is scarce: ``full`` or ``leak``; prints what came of them."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
from toy import Corner, corners

import crl
from crl.stream import Task, TaskStream

STORE = 80 * 2**20  # bytes, about the least that Ray takes
LEAK = 200 * 2**20  # bytes an episode
ENOUGH = 0.08       # of this machine's memory: where Ray steps in, beyond what is in use


class Leaks(Corner):
    """A corner that keeps more with each episode, and notes which process it is."""

    def __init__(self, folder: Path, render_mode: str | None = None) -> None:
        super().__init__(0)
        self.kept: list[Any] = []
        if ray.is_initialized():
            (folder / str(os.getpid())).touch()

    def reset(self, **options: Any) -> Any:
        if ray.is_initialized():
            self.kept.append(np.ones(LEAK, np.uint8))
        return super().reset(**options)


def full() -> None:
    """The object store is filled before a run begins, and its weights have to fit in."""
    ray.init(num_cpus=2, object_store_memory=STORE, include_dashboard=False, log_to_driver=False)
    held = [ray.put(np.zeros(STORE // 20, np.uint8)) for _ in range(19)]
    left = STORE - sum(len(ray.get(each)) for each in held)
    stream = corners(1, 100)
    policy = crl.make_agent("sac", stream, hidden=(600, 600, 600)).policy(stream[0])
    there = crl.evaluate(policy, stream[0], 20, workers=2)
    print(f"left {left / STORE:.2f}, equal {there == crl.evaluate(policy, stream[0], 20)}")


def leak() -> None:
    """The processes of workers die before the machine's memory is full, and others go on."""
    folder = Path(sys.argv[2])
    memory = psutil.virtual_memory()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, _system_config={
        "memory_usage_threshold": 1 - memory.available / memory.total + ENOUGH,
        "memory_monitor_refresh_ms": 50})
    stream = TaskStream([Task("leaks", partial(Leaks, folder), 100, 0)])
    policy = crl.make_agent("sac", stream, hidden=(8,)).policy(stream[0])
    blocks = range(round(2 * ENOUGH * memory.total / LEAK))
    there = [crl.evaluate(policy, stream[0], 2, seed=block, workers=1) for block in blocks]
    ray.shutdown()
    here = [crl.evaluate(policy, stream[0], 2, seed=block) for block in blocks]
    print(f"processes {len(list(folder.iterdir()))}, equal {there == here}")


if __name__ == "__main__":
    {"full": full, "leak": leak}[sys.argv[1]]()
