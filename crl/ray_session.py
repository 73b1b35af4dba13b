"""Ray, started so that nobody else notices: alone on the loopback, silent, and gone in the end."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from crl import reaper
from crl.errors import UserError

_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # anywhere: nothing listens but on the loopback
    "RAY_AUTH_MODE": "token",                  # against other users of this machine
    "RAY_AUTH_TOKEN": secrets.token_hex(32),   # else Ray leaves one in the home folder
    "RAY_worker_niceness": "0",                # what workers do is what we wait for
}


@contextlib.contextmanager
def session(workers: int) -> Iterator[Any]:
    """Ray: the caller's if it has one, that of ``RAY_ADDRESS`` if this is set, else one of our own.

    Our own listens on the loopback alone, reports nothing to anybody, has no dashboard, and is gone
    at the end, processes and files, even if this process is killed.

    Args:
        workers: CPUs of our own.

    Raises:
        UserError: Ray cannot be started, or not be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    ours = address == "local"
    if ours and "ray" not in sys.modules:  # else it has read the caller's settings
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    handler = signal.getsignal(signal.SIGTERM)
    with _folder() if ours else contextlib.nullcontext() as folder:
        own = {"num_cpus": workers, "include_dashboard": False, "_temp_dir": folder} if ours else {}
        try:
            try:
                ray.init(address, log_to_driver=False, configure_logging=False,
                         logging_level=logging.ERROR, **own)
            except Exception as error:  # it raises anything
                reason = str(error).strip().partition("\n")[0]
                raise UserError(f"Ray cannot be started here: {reason}; use --workers 0") from error
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray's own would not let anybody tidy up
            yield ray
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _folder() -> Iterator[str]:
    """A folder that goes, and who writes there, when this process ends or is killed."""
    short = "/tmp" if os.path.isdir("/tmp") else None  # the names of sockets must be
    folder = tempfile.mkdtemp(prefix="crl-ray-", dir=short)
    process = subprocess.Popen([sys.executable, "-I", reaper.__file__, folder],
                               stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield folder
    finally:
        process.communicate()
