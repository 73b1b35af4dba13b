"""Environments and policies that do what they should not, in workers; and how often they did."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from toy import Corner

from crl.stream import Task, TaskStream


class Faulty(Corner):
    """A corner with a fault at the tenth step of the episode of one seed; of kill, the first time.

    Args:
        fault: ``"kill"``, ``"raise"``, ``"nan"``, ``"hang"`` or ``"none"``.
        folder: Where it leaves a mark.
    """

    def __init__(self, corner: int, fault: str, folder: Path, render_mode: str | None = None):
        super().__init__(corner)
        self.fault, self.mark, self.count = fault, folder / f"{fault}-{corner}", 0

    def reset(self, **options: Any) -> Any:
        self.count += 1
        return super().reset(**options)

    def step(self, action: np.ndarray) -> Any:
        obs, reward, *rest = super().step(action)
        if self.steps == 10 and self.count == 2:
            if self.fault == "kill" and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), 9)
            if self.fault == "raise":
                raise ZeroDivisionError("a bug of the environment's")
            if self.fault == "hang":
                time.sleep(600)
            if self.fault == "nan":
                reward = float("nan")
        return obs, reward, *rest


def faulty(fault: str, folder: Path, tasks: int = 2, steps: int = 100) -> TaskStream:
    """Corners of which each has the fault."""
    return TaskStream([Task(f"corner-{i}", partial(Faulty, i, fault, folder), steps, i)
                       for i in range(tasks)], name="faulty")
