"""Addresses where no scheduler answers, with real sockets: the error is one line within a stated time."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

pytest.importorskip("distributed")

from rnndiag.errors import FleetError
from rnndiag.fleet.executors import ANSWER_SECONDS, CONNECT_SECONDS, cluster
from tests.builders.processes import until

SLACK = 10
"""A busy machine may take this many times as long."""


@contextmanager
def listener(greet: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port that gives each of its connections to a function."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = server.accept()
                    held.append(peer)
                    with suppress(OSError):
                        greet(peer)

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for peer in held:
                peer.close()


def web(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def random_bytes(peer: socket.socket) -> None:
    peer.sendall(os.urandom(7) + b"\xff" + os.urandom(4096))


def a_believable_length(peer: socket.socket) -> None:
    peer.sendall(struct.pack("<Q", 1000) + bytes(1000))


def a_greeting_and_then_a_huge_length(peer: socket.socket) -> None:
    peer.sendall(struct.pack("<Q", 100) + b"pickle-protocol".ljust(100, b"\0") + b"\xff" * 64)


def drops(peer: socket.socket) -> None:
    peer.close()


def silent(peer: socket.socket) -> None:
    pass


def sends_a_byte_at_a_time(peer: socket.socket) -> None:
    for _ in range(200):
        peer.sendall(b"\0")
        time.sleep(0.5)


@pytest.mark.parametrize(
    "greet",
    [web, random_bytes, a_believable_length, a_greeting_and_then_a_huge_length, drops, silent, sends_a_byte_at_a_time],
    ids=lambda greet: greet.__name__,
)
def test_a_program_that_is_not_a_scheduler_is_one_line_within_the_stated_time(
    greet: Callable[[socket.socket], None],
) -> None:
    with listener(greet) as address:
        refused(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "http://127.0.0.1:1", "tls://127.0.0.1:1", "nonsense://127.0.0.1:1", "tcp://127.0.0.1:99999",
     "tcp://[::1:80", "127.0.0.1:8786", "tcp://127.0.0.1"],
)  # fmt: skip
def test_addresses_that_lead_nowhere(address: str) -> None:
    refused(address)


def greets(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as peer:
        return bool(peer.recv(8))
    return False


def test_a_stopped_scheduler_is_one_line_within_the_stated_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
    scheduler = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: greets(port))
        scheduler.send_signal(signal.SIGSTOP)
        refused(f"tcp://127.0.0.1:{port}")
    finally:
        scheduler.kill()
        scheduler.wait()


def refused(address: str) -> None:
    start = time.monotonic()
    with pytest.raises(FleetError) as caught, cluster(address):
        pass
    assert time.monotonic() - start < SLACK * (CONNECT_SECONDS + ANSWER_SECONDS)
    message = str(caught.value)
    assert message.startswith("--scheduler")
    assert address in message
    assert len(message.splitlines()) == 1
