"""How MuJoCo draws where there is no display."""

from __future__ import annotations

import os
import subprocess
import sys


def choose_renderer() -> None:
    """Lets MuJoCo draw off-screen on a machine without a display.

    Call it before MuJoCo is imported: that is when ``MUJOCO_GL`` is read. A choice that the user
    made stays. Each way is tried in a process of its own, since a library that is there but has no
    device to draw on makes importing MuJoCo fail.
    """
    if "MUJOCO_GL" in os.environ or has_display():
        return
    for name in ("egl", "osmesa"):
        tried = subprocess.run(
            [sys.executable, "-c", "import mujoco; mujoco.GLContext(8, 8).make_current()"],
            env={**os.environ, "MUJOCO_GL": name}, capture_output=True, check=False,
        )
        if tried.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return


def has_display() -> bool:
    """Whether windows can be opened here; only Linux machines may lack that."""
    return sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
