"""Policies over a local socket, for a robot's process in another language: ``crl-serve/1``.

TCP. A message is a line of JSON, UTF-8, of at most 1 MiB, and gets one line back::

    (connects)                        {"schema": "crl-serve/1", "tasks": ["push-v3"], "token": true}
    {"token": "…"}                    {"ok": true}       first, where the greeting asks for one
    {"reset": "push-v3"}              {"task": "push-v3", "rate_hz": 80.0, "manifest": {…}}
    {"observation": [0.1, …],
     "age_s": 0.0}                    {"action": [0.2, …], "stopped": false, "events": {…}}
    {"observation": null}             likewise; nothing was observed
    {"release": true}                 {"ok": true}       lets a stopped robot go on

``reset`` begins an episode and says which policy goes on. An action is the guard's: one a control
step, finite and within bounds; what a guard has latched stays so when a robot connects again. A
wrong message is answered by ``{"error": "…"}`` and the end of the connection. One robot is served
at a time; one that gets no answer must stop by itself.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import socket
import time
from collections.abc import Mapping
from typing import Any

from crl.deploy.guard import Guard
from crl.deploy.runtime import BundleError, BundlePolicy

SCHEMA = "crl-serve/1"
LARGEST = 2**20  # bytes of a message
_IDLE_S = 10.0   # after so long without a message a robot is taken for gone


class MessageError(ValueError):
    """A message is not one of the protocol's; the text says how."""


class Desk:
    """Answers messages; what stays between connections: guards, and what they have latched.

    Args:
        policies: By task.
        token: What a robot must know; None: nothing.
    """

    def __init__(self, policies: Mapping[str, BundlePolicy], token: str | None = None) -> None:
        self._policies, self._token = dict(policies), token
        self._guards = {task: Guard(policy.manifest) for task, policy in policies.items()}
        self.connect()

    def connect(self) -> dict[str, Any]:
        """Begins with another robot; the greeting."""
        self._trusted, self._task = self._token is None, ""
        return {"schema": SCHEMA, "tasks": list(self._policies), "token": not self._trusted}

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to a message; ``MessageError`` if it is none."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):  # of UTF-8 and of JSON
            raise MessageError("a message is a line of JSON") from None
        if not isinstance(message, dict):
            raise MessageError("a message is an object, such as {\"reset\": \"push-v3\"}")
        if not self._trusted:
            self._check_token(message.get("token"))
            return {"ok": True}
        if "reset" in message:
            return self._reset(message["reset"])
        if not self._task:
            raise MessageError(f"reset first, to one of {', '.join(self._policies)}")
        if message.get("release") is True:
            self._guards[self._task].reset()
            return {"ok": True}
        if "observation" in message:
            return self._act(message["observation"], message.get("age_s", 0.0))
        raise MessageError("a message has a reset, an observation or a release")

    def _check_token(self, token: Any) -> None:
        expected = self._token or ""
        if not (isinstance(token, str)
                and hmac.compare_digest(token.encode(errors="replace"), expected.encode())):
            time.sleep(1)  # who tries others has to wait
            raise MessageError("this is not the token")
        self._trusted = True

    def _reset(self, task: Any) -> dict[str, Any]:
        if not isinstance(task, str) or task not in self._policies:
            raise MessageError(f"there are policies of {', '.join(self._policies)}")
        self._task, policy = task, self._policies[task]
        policy.reset()
        return {"task": task, "rate_hz": policy.manifest["rate_hz"], "manifest": policy.manifest}

    def _act(self, observation: Any, age_s: Any) -> dict[str, Any]:
        if isinstance(age_s, bool) or not isinstance(age_s, (int, float)):
            raise MessageError("age_s is a number of seconds")
        policy, guard = self._policies[self._task], self._guards[self._task]
        start, action = time.perf_counter(), None
        if observation is not None and guard.admits(observation, age_s):
            with contextlib.suppress(BundleError):  # it could not be computed: there is none
                action = policy.step(observation)
        late = time.perf_counter() - start > 1 / policy.manifest["rate_hz"]
        command = guard.command(None if late else action)
        return {"action": command.tolist(), "stopped": guard.stopped,
                "events": {name: count for name, count in guard.events.items() if count}}


def serve(server: socket.socket, desk: Desk) -> None:
    """Serves one robot after another, until the listening socket is closed."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # closed
            return
        with connection, contextlib.suppress(OSError):  # it has gone, or is silent for too long
            _converse(connection, desk)


def _converse(connection: socket.socket, desk: Desk) -> None:
    connection.settimeout(_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _say(connection, desk.connect())
    try:
        with connection.makefile("rb") as lines:
            while line := lines.readline(LARGEST + 1):
                if len(line) > LARGEST:
                    raise MessageError(f"a message has at most {LARGEST} bytes")
                _say(connection, desk.answer(line))
    except MessageError as error:
        _say(connection, {"error": str(error)})


def _say(connection: socket.socket, answer: dict[str, Any]) -> None:
    connection.sendall(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
