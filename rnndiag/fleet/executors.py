"""Executors for ``run.measure``: this process, and a cluster."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

from rnndiag.errors import FleetError, describe_error
from rnndiag.fleet.greeting import check_greeting
from rnndiag.fleet.task import in_one_thread, version
from rnndiag.version import __version__

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
"""In which a first worker must answer: it may have torch to import."""

P = ParamSpec("P")
T = TypeVar("T")


class InProcess(Executor):
    """Runs a function when it is submitted, here."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The executor of dask.distributed's scheduler at an address, and how many tasks its workers run at once.

    Raises:
        FleetError: where the extra is missing, the scheduler cannot be reached, no worker answers, or they have
            another version of rnndiag.
    """
    try:
        from distributed import Client
    except ImportError:
        raise FleetError(
            "--scheduler takes dask.distributed, which is not installed: pip install 'rnndiag[cluster]'"
        ) from None
    # It says at length, through several loggers, what becomes one line here.
    for name in ("distributed", "distributed.client", "distributed.core", "distributed.comm"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    # From any other text, the client would guess an address, or hang.
    if not re.fullmatch(r"(tcp|tls|ws|wss|ucx)://\S+:\d+", address):
        raise FleetError(f"--scheduler: expected an address such as tcp://host:8786, got {address!r}")
    if address.startswith("tcp://"):
        check_greeting(address, CONNECT_SECONDS)
    try:
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    # If the peer is not a scheduler, the client's decoder can raise any error.
    except Exception as error:
        raise FleetError(
            f"--scheduler {address}: no scheduler answers there ({describe_error(error)}); start one with "
            "dask scheduler, or name another"
        ) from error
    try:
        executor = Cluster(client, address)
        executor.check()
        yield executor, max(1, sum(client.nthreads().values()))
    finally:
        with suppress(OSError, TimeoutError):  # of a scheduler that has gone
            client.close(timeout=CONNECT_SECONDS)


class Cluster(Executor):
    """A client's own executor, whose tasks have one thread each, and what it means when that fails."""

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address
        self._executor = client.get_executor(pure=False)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        if self._client.status != "running":
            raise self._gone()
        future: Future[T] = self._executor.submit(in_one_thread, fn, *args, **kwargs)
        return future

    def check(self) -> None:
        """Ask a worker for its version.

        Raises:
            FleetError: where none answers, or it is another.
        """
        try:
            theirs = self.submit(version).result(ANSWER_SECONDS)
        except TimeoutError:
            raise FleetError(
                f"--scheduler {self._address}: no worker answered within {ANSWER_SECONDS} s; start some with "
                f"dask worker {self._address} --nworkers N --nthreads 1"
            ) from None
        except (ImportError, RuntimeError) as error:  # a scheduler without it cannot read what it is sent
            raise FleetError(
                f"--scheduler {self._address}: it or its workers lack rnndiag ({describe_error(_root(error))}); "
                "install the same version where they run"
            ) from error
        if theirs != __version__:
            raise FleetError(
                f"--scheduler {self._address}: its workers have rnndiag {theirs}, this is {__version__}; "
                "install the same version on both"
            )

    def _gone(self) -> FleetError:
        return FleetError(f"--scheduler {self._address}: has gone; what was finished is kept")


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
