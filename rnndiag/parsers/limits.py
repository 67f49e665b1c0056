"""What the process of a parser may take of the machine."""

from __future__ import annotations

import math
from pathlib import Path

try:
    import resource
except ImportError:  # Windows: the parent's time limit remains
    _HAS_LIMITS = False
else:
    _HAS_LIMITS = True


def restrict(extra: int, seconds: float) -> None:
    """No more than ``extra`` bytes and ``seconds`` of computing from here on, no file written, no core dumped."""
    if not _HAS_LIMITS:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    stop = math.ceil(used.ru_utime + used.ru_stime + seconds)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    if hard == resource.RLIM_INFINITY or hard > stop:  # the caller may have set a lower limit
        resource.setrlimit(resource.RLIMIT_CPU, (stop, stop + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:  # macOS has no such file, and does not enforce the limit
        return
    held = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + extra, resource.getrlimit(resource.RLIMIT_AS)[1]))


def allow(more: int) -> None:
    """``more`` bytes of memory above the limit: for data that the file keeps beside itself."""
    if not _HAS_LIMITS:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        raised = soft + more
        resource.setrlimit(resource.RLIMIT_AS, (raised if hard == resource.RLIM_INFINITY else min(raised, hard), hard))
