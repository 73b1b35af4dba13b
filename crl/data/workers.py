"""Calls that depend on nothing but their arguments, side by side on Ray workers or in turn."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from crl.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
_WAITING = 2  # jobs handed out a worker, so that none waits for its next one
_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # anywhere: nothing listens but on the loopback
    "RAY_AUTH_MODE": "token",                  # against other users of this machine
    "RAY_AUTH_TOKEN": secrets.token_hex(32),   # else Ray leaves one in the home folder
}


def side_by_side(call: Callable[[Job], Result], jobs: Iterable[Job], workers: int
                 ) -> Generator[Result, None, None]:
    """``call(job)`` of each job, in the order of the jobs.

    A job whose worker dies is done again by another one. Close what this returns, as with
    ``contextlib.closing``, if it may not be read to its end.

    Args:
        call: A function that Ray can pickle, as its jobs and results; results may be read-only.
        jobs: Taken as they are needed.
        workers: Ray workers; 0: this process.

    Raises:
        UserError: Workers died again and again, or Ray cannot be started.
    """
    if workers == 0:
        yield from map(call, jobs)
        return
    with _session(workers) as ray:
        remote = ray.remote(call)
        pending: deque[Any] = deque()
        for job in jobs:
            pending.append(remote.remote(job))
            if len(pending) > _WAITING * workers:
                yield _result(ray, pending.popleft())
        while pending:
            yield _result(ray, pending.popleft())


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)  # what the job itself raised
        if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError):
            raise cause from None
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"Ray's workers fail: {reason}; use fewer --workers, or 0") from error


@contextlib.contextmanager
def _session(workers: int) -> Iterator[Any]:
    """Ray: the caller's if it has one, else one of our own, gone at the end."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if "ray" not in sys.modules:  # else it has read its settings, and they are the caller's
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    short = "/tmp" if os.path.isdir("/tmp") else None  # the names of sockets must be
    folder = tempfile.mkdtemp(prefix="crl-ray-", dir=short)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False,
                     configure_logging=False, logging_level=logging.ERROR, _temp_dir=folder)
        except Exception as error:  # it raises anything
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"Ray cannot be started here: {reason}; use --workers 0") from error
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would not let anybody tidy up
        yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
