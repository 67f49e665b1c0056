"""The functions that an executor runs, in another process or in this process."""

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
"""The results of the paths of a task, in the order of the paths."""


def run_task(packed: bytes, paths: Sequence[str]) -> Results:
    """Do a packed job with each path, with as many threads as the process has.

    Args:
        packed: a pickled ``Work``. It is sent with each task, because an executor can only call functions.
        paths: the paths by which this process reads the files.

    Raises:
        OutputError: as ``Work.report``.
    """
    work = _unpacked(packed)
    return [attempt(work, path) for path in paths]


def in_one_thread(task: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function with one thread, because the other cores have their own tasks.

    The setting stays, so this is for processes that run nothing else.
    """
    torch.set_num_threads(1)
    return task(*args, **kwargs)


def version() -> str:
    """The version of rnndiag in the process that calls this function."""
    return __version__


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Work:
    work: Work = pickle.loads(packed)
    return work
