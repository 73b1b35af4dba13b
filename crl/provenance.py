"""What a result depends on besides its configuration: versions, commit and hardware."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any


def describe_machine(threads: int, device: str) -> dict[str, Any]:
    """Versions, commit and hardware: what a result depends on besides its configuration."""
    packages = ("crl", "torch", "numpy", "gymnasium", "mujoco", "metaworld")
    return {
        "versions": {"python": platform.python_version(),
                     **{p: importlib.metadata.version(p) for p in packages}},
        "commit": _commit(),
        "hardware": {"cpu": _cpu_model(), "cores": os.cpu_count(), "machine": platform.machine(),
                     "system": platform.system(), "device": device, "threads": threads},
    }


def _commit() -> str | None:
    """The commit of this checkout, with ``+dirty`` if it has changes; None outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True,
                                check=True, timeout=10).stdout.strip()
        changes = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True,
                                 text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+dirty" if changes.strip() else "")


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
