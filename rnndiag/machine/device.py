"""The machine that measures: its device, its memory, its threads, and what it says when it cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

from rnndiag.config.settings import Settings
from rnndiag.errors import SettingsError

PARALLEL_FROM = 1 << 16
"""More than one thread is used if one gate's recurrent matrix has at least this many entries: ``H = 256`` for every
cell."""

LAUNCHED_TOGETHER = 64
"""Times as much at once on a device as in a processor's cache: there it is launches that are dear, not memory."""

SHARE = 256
"""At most so small a part of its memory, of which a window's linearisation takes ten to fifteen times as much."""

_CGROUP_FILES = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
"""The limit and the use of memory in a container, by version 2 and version 1."""

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


def available_memory() -> float:
    """Bytes of memory that this process can still use: the free memory of the machine, within the limit of its cgroup.

    Infinite if the system does not report it. The number changes all the time, so it is not cached.
    """
    free = [float("inf")]
    with suppress(OSError, ValueError, IndexError):
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free.append(1024.0 * int(fields["MemAvailable"].split()[0]) if "MemAvailable" in fields else float("inf"))
    for most, used in _CGROUP_FILES:
        with suppress(OSError, ValueError):  # no cgroup, or "max"
            free.append(float(int(most.read_text()) - int(used.read_text())))
    return min(free)


def at_once(cached: int, device: torch.device) -> int:
    """Bytes to work on together: ``cached``, which stay in a processor's cache, or more on another device."""
    if device.type == "cpu":
        return cached
    return int(max(cached, min(LAUNCHED_TOGETHER * cached, memory_of(device) / SHARE)))


@contextmanager
def measuring(entries: int, device: torch.device) -> Iterator[None]:
    """Set the conditions under which numbers are accurate, and not more expensive than necessary.

    Torch uses one thread if the largest recurrent matrix of a gate has few entries, and all threads if it has many. The
    number of threads determines how sums are split, and so their last digits. Below the limit a report is the same on
    any number of cores. Threads wait for one another in a loop: in the many short operations of a small net they save
    no time, and on a machine whose cores are busy they are fifty times slower.

    Args:
        entries: the number of entries in the largest recurrent matrix of one gate.
        device: the device of the measurement.

    Raises:
        SettingsError: torch does not support an operation on the device, or the memory of the device is full.
    """
    threads = torch.get_num_threads()
    if entries < PARALLEL_FROM:
        torch.set_num_threads(1)
    try:
        with wrap_device_errors(device), single_is_single() if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def wrap_device_errors(device: torch.device) -> Iterator[None]:
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
