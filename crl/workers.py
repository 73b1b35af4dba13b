"""Calls that depend on nothing but their arguments: in turn by this process, or by Ray workers."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Generic, TypeVar

from crl.config import require_whole
from crl.errors import UserError
from crl.ray_session import session

Job = TypeVar("Job")
Result = TypeVar("Result")
T = TypeVar("T")
_WAITING = 2  # calls handed out for each worker of a Ray of that size, so that none waits for one


class HungError(Exception):
    """A call of a worker has taken longer than it may."""


class Workers:
    """Whoever carries calls out: this process, or Ray workers.

    A context manager; Ray, if it is needed, runs within it. A call whose worker dies is carried out
    again by another one.

    Args:
        count: Ray workers; 0: this process.

    Attributes:
        cpu_s: What Ray workers have spent on calls so far, in CPU-seconds.
    """

    def __init__(self, count: int = 0) -> None:
        require_whole("workers", count, least=0)
        self.count = count
        self.cpu_s = 0.0
        self._ray: Any = None
        self._handed_out = 0
        self._open = contextlib.ExitStack()
        self._calls = weakref.WeakSet[Call[Any]]()

    def __enter__(self) -> Workers:
        if self.count:
            self._ray = self._open.enter_context(session(self.count))
            larger = self._ray.cluster_resources().get("CPU", 0) > self.count
            self._handed_out = self.count * (1 if larger else _WAITING)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def put(self, value: T) -> T:
        """Hands a value to all workers once; what this returns stands for it among arguments."""
        reference: T = self._ray.put(value) if self._ray else value
        return reference

    def submit(self, call: Callable[..., Result], *arguments: Any) -> Call[Result]:
        """``call(*arguments)`` by a Ray worker, of which there must be one; see :meth:`map`."""
        torch = sys.modules.get("torch")  # results depend on the number of its threads
        threads = torch.get_num_threads() if torch else None
        reference = self._ray.remote(_timed).remote(call, threads, *arguments)
        submitted: Call[Result] = Call(self, self._ray, reference)
        self._calls.add(submitted)
        return submitted

    def map(self, call: Callable[..., Result], arguments: Iterable[tuple[Any, ...]],
            limit_s: float | None = None) -> Generator[Result, None, None]:
        """``call(*each)`` of all arguments, in their order.

        Args:
            call: A function that Ray can pickle, as arguments and results; those may be read-only.
            arguments: Taken as they are needed.
            limit_s: Seconds that a call of a Ray worker may take.

        Raises:
            HungError: The call whose result is due.
            UserError: Workers died again and again.
        """
        if self._ray is None:
            yield from itertools.starmap(call, arguments)
            return
        pending = deque[Call[Result]]()
        for each in arguments:
            if len(pending) == self._handed_out:
                # All before the oldest are over, so that it does not wait for a worker.
                yield pending.popleft().result(limit_s)
            pending.append(self.submit(call, *each))
        while pending:
            yield pending.popleft().result(limit_s)

    def stop(self) -> None:
        """Stops workers whose calls are not over, when one of them has hung.

        Any other time they are left to end: Ray takes this process down with it if a call ends just
        as it is cancelled (2.60: "tried to complete task that was not pending").
        """
        for call in self._calls:
            call.cancel()


class Call(Generic[Result]):
    """A call that is a Ray worker's."""

    def __init__(self, workers: Workers, ray: Any, reference: Any) -> None:
        self._workers, self._ray, self._reference = workers, ray, reference

    def result(self, limit_s: float | None = None) -> Result:
        """What it returned; arguments and errors as of :meth:`Workers.map`."""
        errors = self._ray.exceptions
        try:
            result: Result
            result, cpu_s = self._ray.get(self._reference, timeout=limit_s)
        except errors.GetTimeoutError:
            self._workers.stop()
            raise HungError from None
        except errors.RayError as error:
            cause = getattr(error, "cause", None)  # what the call itself raised
            if isinstance(cause, UserError):
                raise cause from None
            if isinstance(cause, Exception) and not isinstance(cause, errors.RayError):
                raise cause from error  # which says where in the worker
            reason = str(error).strip().partition("\n")[0]
            raise UserError(f"Ray's workers fail: {reason}; use fewer --workers, or 0") from error
        self._workers.cpu_s += cpu_s
        return result

    def cancel(self) -> None:
        """Stops whoever carries it out, if it is not over."""
        if not self._ray.wait([self._reference], timeout=0)[0]:
            self._ray.cancel(self._reference, force=True)


def side_by_side(call: Callable[[Job], Result], jobs: Iterable[Job], workers: int
                 ) -> Generator[Result, None, None]:
    """``call(job)`` of each job, in order, by workers that live as long; see :class:`Workers`."""
    with Workers(workers) as staff:
        yield from staff.map(call, ((job,) for job in jobs))


def _timed(call: Callable[..., Result], threads: int | None, *arguments: Any
           ) -> tuple[Result, float]:
    """A call in a worker, with so many threads of torch, and the CPU-seconds that it took."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    start = time.process_time()
    return call(*arguments), time.process_time() - start
