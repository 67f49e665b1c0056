"""What a dask scheduler says first, read before dask's own client is let near the address.

The client believes the length that a peer announces: eight random bytes make it ask for exabytes of memory, and a peer
that accepts a connection and says nothing can keep it waiting. A scheduler greets at once, in some hundred bytes.
"""

from __future__ import annotations

import socket
import struct
import time
from urllib.parse import urlsplit

from rnndiag.errors import FleetError

MAX_GREETING_BYTES = 1 << 20

WORD = b"pickle-protocol"
"""In every greeting: a member of what both sides tell each other to agree on a format."""


def check_greeting(address: str, seconds: float) -> None:
    """Connect to a ``tcp://`` address and read the greeting of a scheduler, within some seconds in all.

    Raises:
        FleetError: where nothing listens, nothing comes, or what comes is not from a scheduler.
    """
    deadline = time.monotonic() + seconds
    try:
        place = urlsplit(address)
        with socket.create_connection((place.hostname, place.port), timeout=seconds) as peer:
            length = struct.unpack("<Q", _read(peer, 8, deadline))[0]
            greeting = _read(peer, length, deadline) if length <= MAX_GREETING_BYTES else b""
    except TimeoutError:
        raise _none(address, f"nothing answered within {seconds:g} s") from None
    except EOFError:
        raise _none(address, "the connection was closed without a greeting") from None
    except (OSError, ValueError) as error:
        raise _none(address, f"no scheduler answers there ({getattr(error, 'strerror', None) or error})") from error
    if WORD not in greeting:
        raise _none(address, "the program that answers there is not a scheduler")


def _read(peer: socket.socket, size: int, deadline: float) -> bytes:
    held = b""
    while len(held) < size:
        peer.settimeout(max(deadline - time.monotonic(), 0.001))
        piece = peer.recv(min(size - len(held), 1 << 16))
        if not piece:
            raise EOFError
        held += piece
    return held


def _none(address: str, problem: str) -> FleetError:
    return FleetError(f"--scheduler {address}: {problem}; start one with dask scheduler, or give another address")
