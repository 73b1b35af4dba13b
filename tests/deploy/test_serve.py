"""A robot in another process: what it says, what it gets, and what nobody may say."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crl.cli import main
from crl.deploy.runtime import load, load_all
from crl.deploy.serve import LARGEST, Desk, MessageError, serve

ATTACKS = int(os.environ.get("CRL_ATTACKS", "600"))
OBS = [0.1, -0.2, 0.3]


class Robot:
    """A robot's side, which knows the protocol alone."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.lines = self.socket.makefile("rb")
        self.greeting = self.hear()

    def hear(self) -> Any:
        line = self.lines.readline()
        return json.loads(line) if line else None

    def say(self, message: Any) -> Any:
        content = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self.socket.sendall(content)
        return self.hear()

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


def serving(folder: Path, token: str | None = None) -> Iterator[tuple[str, int]]:
    server = socket.create_server(("127.0.0.1", 0), backlog=1)
    thread = threading.Thread(target=serve, args=(server, Desk(load_all(folder), token)))
    thread.start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(15)
    assert not thread.is_alive()


@pytest.fixture
def address(gru_bundle: Path) -> Iterator[tuple[str, int]]:
    yield from serving(gru_bundle)


def test_a_robot_is_driven_as_the_policy_drives(address, gru_bundle):
    policy = load(gru_bundle)
    for _ in range(2):  # one robot after another
        robot = Robot(address)
        assert robot.greeting == {"schema": "crl-serve/1", "tasks": ["corner-1"], "token": False}
        for _ in range(2):  # episodes
            said = robot.say({"reset": "corner-1"})
            assert said["manifest"] == policy.manifest
            assert said["rate_hz"] == 50
            policy.reset()
            for t in range(5):
                obs = [v + t for v in OBS]
                answer = robot.say({"observation": obs, "age_s": 0.01})
                expected = policy.step(obs) if max(obs) <= 2.2 else None
                if expected is not None:
                    assert answer["action"] == expected.tolist()
                assert not answer["stopped"]
        robot.close()


def test_the_latch_holds_over_connections_until_somebody_releases_it(address):
    robot = Robot(address)
    robot.say({"reset": "corner-1"})
    for _ in range(2 + 10):
        assert not robot.say({"observation": None})["stopped"]
    assert robot.say({"observation": [float("nan")] * 3})["stopped"]
    robot.close()
    robot = Robot(address)
    robot.say({"reset": "corner-1"})
    answer = robot.say({"observation": OBS})
    assert answer["stopped"]
    assert answer["action"] == [0, 0]
    assert answer["events"]["not finite"] == 1
    assert robot.say({"release": True}) == {"ok": True}
    assert not robot.say({"observation": OBS})["stopped"]
    robot.close()


def test_a_token_is_asked_for(gru_bundle, monkeypatch):
    monkeypatch.setattr("crl.deploy.serve.time.sleep", lambda seconds: None)
    for address in serving(gru_bundle, "open sesame"):
        for wrong in ({"token": "open"}, {"token": ""}, {"token": None}, {"token": ["open sesame"]},
                      {"reset": "corner-1"}, {"observation": OBS}, {"token": "öpen"}):
            robot = Robot(address)
            assert robot.greeting["token"] is True
            assert robot.say(wrong) == {"error": "this is not the token"}
            assert robot.hear() is None
            robot.close()
        robot = Robot(address)
        assert robot.say({"token": "open sesame"}) == {"ok": True}
        assert robot.say({"reset": "corner-1"})["task"] == "corner-1"
        robot.close()
        robot = Robot(address)  # the next one must say it again
        assert "error" in robot.say({"reset": "corner-1"})
        robot.close()


def hostile_message(rng: random.Random) -> bytes:
    """A line that is no message, or whose numbers are none."""
    values: list[Any] = [None, True, "a", "../../etc/passwd", -1, 1e308, 10**400, [], {}, [[]],
                         float("nan"), float("inf"), "x" * 1000, {"reset": 1}, [OBS], ["a"] * 3,
                         [10**400] * 3, [None] * 3, [1e39] * 3, OBS * 1000, [{}] * 3, OBS[:2]]
    kind = rng.randrange(6)
    if kind == 0:
        return rng.randbytes(rng.choice((1, 10, 1000, 100_000))).replace(b"\n", b"") + b"\n"
    if kind == 1:
        return rng.choice((b"[" * 100_000, b'{"a":' * 50_000, b"9" * 50_000, b"null", b"", b"[]",
                           b'"reset"', b"{}", b"\xff\xfe{\x00", b"\x80\x04\x95.", b"{'reset': 1}",
                           b"GET / HTTP/1.1", b'{"reset": "corner-1"', b"1e999",
                           b"\x00" * 1000)) + b"\n"
    if kind == 2:
        content = bytearray(json.dumps({"observation": OBS, "age_s": 0.0}).encode())
        for _ in range(rng.choice((1, 2, 5))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        return bytes(content).replace(b"\n", b" ") + b"\n"
    name = rng.choice(("observation", "reset", "release", "age_s", "token", "__class__"))
    message = {name: rng.choice(values)}
    if kind == 4:
        message = {"observation": rng.choice(values), "age_s": rng.choice(values)}
    if kind == 5:
        message = {"observation": OBS, "age_s": rng.choice(values)}
    return json.dumps(message).encode() + b"\n"


def test_thousands_of_hostile_messages_are_refused_or_answered_safely(gru_bundle):
    """CRL_ATTACKS=5200 for more of them."""
    desk, refused, answered = Desk(load_all(gru_bundle)), 0, 0
    for number in range(ATTACKS):
        rng = random.Random(number)
        desk.connect()
        if rng.random() < 0.9:
            desk.answer(b'{"reset": "corner-1"}')
        line = hostile_message(rng)
        assert line.count(b"\n") == 1
        try:
            answer = desk.answer(line)
        except MessageError:
            refused += 1
            continue
        answered += 1
        if "action" in answer:
            action = np.array(answer["action"])
            assert np.isfinite(action).all()
            assert (np.abs(action) <= np.float32(0.2)).all()
        json.dumps(answer, allow_nan=False)
    assert refused > ATTACKS / 4
    assert answered > ATTACKS / 10


def test_hostile_messages_over_the_socket_end_a_connection_and_nothing_else(address):
    rng = random.Random(0)
    for number in range(40):
        robot = Robot(address)
        if number % 3:
            robot.say({"reset": "corner-1"})
        answer = robot.say(hostile_message(rng))
        assert "error" in answer or answer.keys() & {"action", "ok", "task"}
        if "error" in answer:
            assert robot.hear() is None
        robot.close()
    robot = Robot(address)  # too much; it does not wait for the end of it
    answer = robot.say(b"a" * (LARGEST + 1))
    assert "at most" in answer["error"]
    robot.close()
    robot = Robot(address)
    robot.socket.sendall(b'{"reset": ')
    robot.close()  # in the middle of a word
    robot = Robot(address)
    assert robot.say({"reset": "corner-1"})["task"] == "corner-1"
    robot.close()


def test_a_silent_robot_makes_room_for_the_next(gru_bundle, monkeypatch):
    monkeypatch.setattr("crl.deploy.serve._IDLE_S", 0.2)
    for address in serving(gru_bundle):
        silent, other = Robot(address), socket.create_connection(address, timeout=10)
        with other.makefile("rb") as lines:
            assert json.loads(lines.readline())["schema"] == "crl-serve/1"
        silent.close()
        other.close()


# ---- the command line ----


def test_it_serves_until_it_is_interrupted(gru_bundle):
    process = subprocess.Popen([sys.executable, "-m", "crl", "drive", str(gru_bundle), "--serve",
                                "127.0.0.1:0"], stdout=subprocess.PIPE, text=True,
                               # What a shell starts in the background ignores it.
                               preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
    line = process.stdout.readline()
    assert line.startswith("serving on 127.0.0.1:")
    robot = Robot(("127.0.0.1", int(line.rpartition(":")[2])))
    robot.say({"reset": "corner-1"})
    assert len(robot.say({"observation": OBS})["action"]) == 2
    robot.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.mark.parametrize(("words", "hint"), [
    (["--serve", "0.0.0.0:7000"], "add --token"), (["--serve", "7000"], "an address and a port"),
    (["--serve", "localhost:7000"], "an address and a port"),
    (["--serve", "127.0.0.1:x"], "an address and a port"),
    (["--serve", "127.0.0.1:70000"], "an address and a port"),
    (["--serve", "127.0.0.1:0", "--token", "missing"], "No such file")])
def test_what_is_typed_wrong(words, hint, gru_bundle, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["drive", str(gru_bundle), *words])
    assert ending.value.code == 2
    assert hint in capsys.readouterr().err
