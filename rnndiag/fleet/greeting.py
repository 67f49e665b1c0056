"""Checks the greeting of a dask scheduler before dask's own client connects to the address.

The client trusts the length that a peer announces: eight random bytes make it request exabytes of memory, and a peer
that accepts a connection but sends nothing can keep it waiting. A scheduler sends a few hundred bytes at once.
"""

from __future__ import annotations

import socket
import struct
import time
from urllib.parse import urlsplit

from rnndiag.errors import FleetError

MAX_GREETING_BYTES = 1 << 20

GREETING_KEY = b"pickle-protocol"
"""A key that every greeting contains: both sides send it to agree on a format."""


def check_greeting(address: str, seconds: float) -> None:
    """Connect to a ``tcp://`` address and read the greeting of a scheduler, within some seconds in all.

    Raises:
        FleetError: if nothing listens, nothing arrives, or the bytes that arrive are not from a scheduler.
    """
    deadline = time.monotonic() + seconds
    try:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=seconds) as peer:
            length = struct.unpack("<Q", _read(peer, 8, deadline))[0]
            greeting = _read(peer, length, deadline) if length <= MAX_GREETING_BYTES else b""
    except TimeoutError:
        raise _no_scheduler(address, f"nothing answered within {seconds:g} s") from None
    except EOFError:
        raise _no_scheduler(address, "the connection was closed without a greeting") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _no_scheduler(address, f"no scheduler answers there ({reason})") from error
    if GREETING_KEY not in greeting:
        raise _no_scheduler(address, "the program that answers there is not a scheduler")


def _read(peer: socket.socket, size: int, deadline: float) -> bytes:
    received = b""
    while len(received) < size:
        peer.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = peer.recv(min(size - len(received), 1 << 16))
        if not piece:
            raise EOFError
        received += piece
    return received


def _no_scheduler(address: str, problem: str) -> FleetError:
    return FleetError(f"--scheduler {address}: {problem}; start it with dask scheduler, or give another address")
