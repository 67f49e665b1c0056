"""The machine that measures: its device, its memory, its threads, and what it says when it cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import torch

from rnndiag.config import Settings
from rnndiag.errors import SettingsError

PARALLEL_FROM = 1 << 16
"""Entries of one gate's recurrent matrix from which on more than one thread is used: ``H = 256`` for every cell."""

LAUNCHED_TOGETHER = 64
"""Times as much at once on a device as in a processor's cache: there it is launches that are dear, not memory."""

SHARE = 256
"""At most so small a part of its memory, of which a window's linearisation takes ten to fifteen times as much."""

_FULL = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)


def device_of(settings: Settings) -> torch.device:
    """The device to measure on.

    Raises:
        SettingsError: where torch does not know it, this machine lacks it, or it lacks the precision.
    """
    try:
        device = torch.device(settings.device)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:  # torch raises any of these for a device it lacks
        lacks = _first_sentence(error)
        raise SettingsError(f"--device {settings.device}: not available here ({lacks}); use cpu") from None
    try:
        torch.empty(0, device=device, dtype=getattr(torch, settings.dtype))
    except (RuntimeError, TypeError):  # Apple's has no float64
        raise SettingsError(
            f"--device {settings.device}: has no {settings.dtype}; measure with --dtype float32, or on cpu"
        ) from None
    return device


@cache
def memory_of(device: torch.device) -> float:
    """Bytes that the device has in all, or the machine where it shares its memory; infinite where it does not tell."""
    asked: Any = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    if asked is not None:
        return float(asked(device)[1])
    if not hasattr(os, "sysconf"):
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def at_once(cached: int, device: torch.device) -> int:
    """Bytes to work on together: ``cached``, which stay in a processor's cache, or more on another device."""
    if device.type == "cpu":
        return cached
    return int(max(cached, min(LAUNCHED_TOGETHER * cached, memory_of(device) / SHARE)))


@contextmanager
def measuring(entries: int, device: torch.device) -> Iterator[None]:
    """Conditions under which numbers are right, and no dearer than they must be.

    One thread where the largest recurrent matrix of a gate has few entries, all where it has many. The number of
    threads decides how sums are split, and so their last digits: below the limit a report is the same on any
    number of cores. Threads wait for one another in a loop; between the many short operations of a small net they win
    nothing, and on a machine whose cores are busy they lose a factor of fifty.

    Args:
        entries: of the largest recurrent matrix of one gate.
        device: where it is.

    Raises:
        SettingsError: where torch cannot do on the device what is asked of it, or its memory is full.
    """
    threads = torch.get_num_threads()
    if entries < PARALLEL_FROM:
        torch.set_num_threads(1)
    try:
        with told_in_a_line(device), single_is_single() if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def told_in_a_line(device: torch.device) -> Iterator[None]:
    """What a device lacks, and memory that is full, are no bugs.

    Raises:
        SettingsError: for either.
    """
    try:
        yield
    except NotImplementedError as error:
        if device.type == "cpu":
            raise
        raise SettingsError(f"--device {device}: {_first_sentence(error)}; use cpu") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) and not _FULL.search(str(error)):
            raise
        raise SettingsError(f"--device {device}: out of memory; lower --T, --batch or --exponents") from error


@contextmanager
def single_is_single() -> Iterator[None]:
    """Keep a GPU from rounding the factors of products in single precision to ten bits (TF32)."""
    products: Any = torch.backends.cuda.matmul
    nets: Any = torch.backends.cudnn
    off: str | bool
    if hasattr(products, "fp32_precision"):  # since torch 2.9; beside the older switches it may not be mixed with
        switches, off = ((products, "fp32_precision"), (nets.rnn, "fp32_precision")), "ieee"
    else:
        switches, off = ((products, "allow_tf32"), (nets, "allow_tf32")), False
    before = [getattr(place, name) for place, name in switches]
    for place, name in switches:
        setattr(place, name, off)
    try:
        yield
    finally:
        for (place, name), value in zip(switches, before, strict=True):
            setattr(place, name, value)


def _first_sentence(error: Exception) -> str:
    lines = str(error).splitlines() or [type(error).__name__]  # some are raised without a word
    return lines[0].split(". ")[0].rstrip(".")
