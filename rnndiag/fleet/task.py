"""What an executor runs: some paths, in another process or in this one."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import torch

from rnndiag.fleet.job import Failure, Work, attempt
from rnndiag.version import __version__

if TYPE_CHECKING:
    from rnndiag.report import Report

P = ParamSpec("P")
T = TypeVar("T")

Results = list["Report | Failure"]
"""Of the paths of a task, in their order."""


def run_task(packed: bytes, paths: Sequence[str]) -> Results:
    """Do a packed job with each path, with as many threads as the process has.

    Args:
        packed: a pickled ``Work``. It travels with each task: an executor promises no more than to call functions.
        paths: as this process is to read them.

    Raises:
        OutputError: as ``Work.report``.
    """
    work = _unpacked(packed)
    return [attempt(work, path) for path in paths]


def in_one_thread(task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function with one thread: the other cores have tasks of their own.

    For processes that have no other use; the setting stays.
    """
    torch.set_num_threads(1)
    return task(*args, **kwargs)


def version() -> str:
    """The version of rnndiag in the process that this is called in."""
    return __version__


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Work:
    work: Work = pickle.loads(packed)
    return work
