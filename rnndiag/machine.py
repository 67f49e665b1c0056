"""The machine that measures: its device, its memory, its threads, and what it says when it cannot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rnndiag.config import Settings
from rnndiag.errors import SettingsError

PARALLEL_FROM = 1 << 16
"""Entries of ``weight_hh`` from which on more than one thread pays."""

LAUNCHED_TOGETHER = 64
"""Times as much at once on a device as in a processor's cache: there it is launches that are dear, not memory."""

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
    except (RuntimeError, AssertionError) as error:  # torch raises either for a device it lacks
        reason = str(error).splitlines()[0]
        raise SettingsError(f"--device {settings.device}: not available here ({reason}); use cpu") from None
    try:
        torch.empty(0, device=device, dtype=getattr(torch, settings.dtype))
    except (RuntimeError, TypeError):  # Apple's has no float64
        raise SettingsError(
            f"--device {settings.device}: has no {settings.dtype}; measure with --dtype float32, or on cpu"
        ) from None
    return device


def memory_of(device: torch.device) -> float:
    """Bytes that the device has in all, or the machine where it shares its memory; infinite where it does not tell."""
    module = getattr(torch, device.type)
    if device.type != "cpu" and hasattr(module, "mem_get_info"):
        return float(module.mem_get_info(device)[1])
    if not hasattr(os, "sysconf"):
        return float("inf")
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def at_once(cached: int, device: torch.device) -> int:
    """Bytes to work on together: ``cached``, which stay in a processor's cache, or more on another device."""
    return cached if device.type == "cpu" else LAUNCHED_TOGETHER * cached


@contextmanager
def measuring(entries: int, device: torch.device) -> Iterator[None]:
    """Conditions under which numbers are right, and no dearer than they must be.

    One thread where the largest recurrent matrix has few entries, all where it has many. Threads wait for one another
    in a loop; between the many short operations of a small net they win nothing, and on a machine whose cores are busy
    they lose a factor of fifty. Single precision is single: a GPU may otherwise keep ten bits of its factors.

    Args:
        entries: of the largest recurrent matrix.
        device: where it is.

    Raises:
        SettingsError: where torch cannot do on the device what is asked of it, or its memory is full.
    """
    threads, products = torch.get_num_threads(), torch.get_float32_matmul_precision()
    if entries < PARALLEL_FROM:
        torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            yield
    except NotImplementedError as error:
        if device.type == "cpu":
            raise
        reason = str(error).split(". ")[0].splitlines()[0]
        raise SettingsError(f"--device {device}: {reason}; use cpu") from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) and not _FULL.search(str(error)):
            raise
        raise SettingsError(f"--device {device}: out of memory; lower --T, --batch or --exponents") from error
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(products)
