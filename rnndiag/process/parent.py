"""A child process that ends with its parent, however the parent ends and whatever the child computes."""

from __future__ import annotations

import os
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""The option of Linux's ``prctl`` that sets the signal which a process gets when its parent ends."""
SIGKILL: Final = 9


def end_with_parent(parent: int) -> None:
    """Make Linux kill this process as soon as the process ``parent``, which started it, has ended.

    The system needs no cooperation for that: it also kills a process that is stopped, or whose only running thread
    computes without releasing Python's lock. Other systems have no such call; there the process must watch a pipe.

    Linux goes by the *thread* that started this process. That thread must live as long as the parent process, or wait
    until this process has ended.

    Args:
        parent: the process id of the parent. If the parent has ended before this call, this process ends at once.
    """
    if sys.platform != "linux":
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)


class EndsWithParent:
    """An object that calls ``end_with_parent`` in the process in which it is unpickled; it becomes None there."""

    def __init__(self) -> None:
        self._parent = os.getpid()

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return end_with_parent, (self._parent,)
