"""A pool of processes on this machine. It survives the death of a process in it, and it ends with this process."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

import torch

from rnndiag.fleet.worker import Worker, WorkerContext
from rnndiag.process.cleanup import cleanup, run_cleanups, temporary_folder
from rnndiag.process.signals import atomic

END_SECONDS = 1.0
"""The time that a worker gets to remove its temporary files, before it is killed. It needs a few milliseconds; a worker
inside a long call into native code uses all of it."""

P = ParamSpec("P")
T = TypeVar("T")


class Processes(Executor):
    """A pool of processes. After one of them has died, the next task gets a new pool.

    It must be used in a thread that lives as long as this process, such as the main thread (see ``end_with_parent``).

    Args:
        workers: how many processes.
        folder: where they put temporary files.
    """

    def __init__(self, workers: int, folder: Path) -> None:
        self._workers = workers
        self._folder = folder
        self._pool = self._new()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        try:
            return self._submit(fn, *args, **kwargs)
        except BrokenExecutor:
            end_workers()
            self._pool.shutdown()
            self._pool = self._new()
            return self._submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, whatever they are doing; tasks that are not done are lost."""
        end_workers()
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def _submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        with _children_start("SIGINT"):  # a pool starts its processes when tasks come
            return self._pool.submit(fn, *args, **kwargs)

    def _new(self) -> ProcessPoolExecutor:
        # The constructor starts multiprocessing's resource tracker. It must survive a terminal that closes, since it
        # removes the semaphores of processes that were killed.
        with _children_start("SIGHUP"):
            return ProcessPoolExecutor(
                self._workers, mp_context=WorkerContext(), initializer=_begin, initargs=(str(self._folder),)
            )


@contextmanager
def processes(workers: int) -> Iterator[Processes]:
    """A pool that ends with the block. Its workers are stopped at once: after the block nobody waits for a result."""
    # A worker that is killed cannot remove its temporary files; they are in a folder that this process removes.
    with temporary_folder() as folder, cleanup(end_workers):
        pool = Processes(workers, folder)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def end_workers() -> None:
    """End the workers of this process: first by SIGTERM, then by force. This also works for suspended workers."""
    workers = [child for child in active_children() if isinstance(child, Worker)]
    for worker in workers:
        worker.terminate()
        if hasattr(signal, "SIGCONT") and worker.pid is not None and worker.is_alive():
            with suppress(ProcessLookupError):  # it ended in the meantime
                os.kill(worker.pid, signal.SIGCONT)
    end = time.monotonic() + END_SECONDS
    wait_all = [worker.sentinel for worker in workers]
    while wait_all and (left := end - time.monotonic()) > 0:
        for sentinel in wait(wait_all, left):
            wait_all.remove(sentinel)  # type: ignore[arg-type]
    for worker in workers:
        if worker.sentinel in wait_all:
            worker.kill()


def _begin(folder: str) -> None:
    """Prepare a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent handles it
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
            signal.signal(getattr(signal, name), _end)
    tempfile.tempdir = folder
    torch.set_num_threads(1)
    threading.Thread(target=_end_after_parent, daemon=True).start()


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    run_cleanups()
    os._exit(1)


def _end_after_parent() -> None:
    """End this process after its parent, on systems where ``end_with_parent`` does nothing."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        run_cleanups()
        os._exit(1)


@contextmanager
def _children_start(blocked: str) -> Iterator[None]:
    """Start child processes in the block so that no signal makes one of them print a traceback.

    Ctrl-C reaches all processes of a terminal. The child processes block the signal ``blocked`` from their first
    instruction on. This process delays the signals that it gets to the end of the block: multiprocessing starts a child
    process first, and then writes to a pipe what the child process must do. A child process that finds nothing in the
    pipe prints a traceback.
    """
    with atomic(), _block(blocked):
        yield


@contextmanager
def _block(name: str) -> Iterator[None]:
    if sys.platform == "win32":  # child processes inherit that Ctrl-C is ignored
        import ctypes

        ignore = ctypes.windll.kernel32.SetConsoleCtrlHandler
        ignore(None, True)
        try:
            yield
        finally:
            ignore(None, False)
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {getattr(signal, name)})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
