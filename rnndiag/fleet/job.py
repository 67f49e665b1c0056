"""The work that is done with each path: one value, which can be sent to other processes."""

from __future__ import annotations

import hashlib
import json
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import torch

from rnndiag import checkpoint
from rnndiag.checkpoint.layers.answers import NO_ANSWERS, Answers
from rnndiag.config.settings import Settings
from rnndiag.diagnose import Progress, diagnose
from rnndiag.errors import NotAModelError, OutputError, RnndiagError
from rnndiag.fleet import cache
from rnndiag.probes import Probe
from rnndiag.rules.policy import Policy
from rnndiag.version import __version__

if TYPE_CHECKING:
    from rnndiag.report import Report

BUG = 3
"""The exit code of a failure that is not the fault of the file."""


class Work(Protocol):
    """Makes a report from a path, in any process: it can be pickled."""

    def report(self, path: str, progress: Progress | None = None) -> Report:
        """The report of one path.

        Raises:
            OutputError: an error that concerns every path; it ends the whole run.
            RnndiagError: an error that concerns this path alone.
        """
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a path has no report."""

    message: str
    """one line"""
    code: int
    """the exit code for this failure"""
    trace: str = ""
    """the traceback of a bug"""
    not_a_model: str = ""
    """what the file holds if it is not a model; such a file in a folder is skipped"""
    is_doubtful: bool = False
    """whether a file that is not a model may still hold one: as in ``NotAModelError``"""


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """Read a saved model and diagnose it."""

    probe: Probe
    settings: Settings = field(default_factory=Settings)
    policy: Policy = field(default_factory=Policy)
    answers: Answers = NO_ANSWERS
    cache: Path | None = None
    """a folder of reports by content; None: everything is measured"""
    conditions: str = field(init=False)
    """a digest of everything except the file that a report depends on: the same digest and file give the same report"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", _digest(self))

    def report(self, path: str, progress: Progress | None = None) -> Report:
        def measured() -> Report:
            model = checkpoint.load(path, self.answers)
            return diagnose(model, self.probe, self.settings, policy=self.policy, progress=progress)

        return measured() if self.cache is None else cache.cached_report(self.cache / self.conditions, path, measured)


def attempt(work: Work, path: str, progress: Progress | None = None) -> Report | Failure:
    """The report of a path, or why there is none; a bug that one file triggers is a failure of that file.

    Raises:
        OutputError: as ``Work.report``.
    """
    try:
        return work.report(path, progress)
    except OutputError:
        raise
    except NotAModelError as error:
        return Failure(str(error), error.exit_code, not_a_model=error.reason, is_doubtful=error.is_doubtful)
    except RnndiagError as error:
        return Failure(str(error), error.exit_code)
    except Exception as error:  # thousands of other models may still have to be measured
        what = f"a bug in rnndiag: {type(error).__name__}: {error}"
        return Failure(f"{path}: {what}; run again with --verbose and report it", BUG, traceback.format_exc())


def _digest(job: Job) -> str:
    """32 hexadecimal digits. Versions count: a later one may measure more, or round another way."""
    array = job.probe.array
    conditions = {
        "rnndiag": __version__,
        "torch": str(torch.__version__),
        "probe": [job.probe.kind, job.probe.length, job.probe.batch, job.probe.scale, job.probe.seed],
        "array": None if array is None else [list(array.shape), _sha256(array.contiguous().numpy().tobytes())],
        "assumption": job.probe.assumption,
        "settings": msgspec.to_builtins(job.settings),
        "policy": msgspec.to_builtins(job.policy),
        "answers": {name: str(getattr(job.answers, name)) for name in job.answers.__slots__ if name != "maps"},
        "maps": [each.text for each in job.answers.maps],
    }
    return _sha256(json.dumps(conditions, sort_keys=True).encode())[:32]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
