"""The names that a pickle would have imported and called, had Python's own unpickler read the file.

There are three kinds of names. Plain data and the packages with which nets are built are not kept. Names that run
programs or code are harmful by themselves. All other names belong to packages whose code nobody knows.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.model import PickledName
from rnndiag.checkpoint.unpickling.harmful_names import is_common, is_harmful
from rnndiag.files.text import listing
from rnndiag.files.work_budget import current_budget
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAMES: Final = 100
"""The largest number of names of each kind that are kept. Real files name a few classes of their own."""

MAX_KNOWN: Final = 10_000
UNITS_PER_NAME: Final = 20
"""How many names are judged once for all, and units of the work budget to judge a name."""


class ImportedNames:
    """Collects names; a context manager within which ``current_names`` gives this collection."""

    def __init__(self) -> None:
        self._harmful: dict[str, bool] = {}
        self._other: dict[str, bool] = {}
        self._left_out: set[str] = set()
        self._tokens: list[Token[ImportedNames | None]] = []

    def add(self, name: str, *, is_called: bool) -> None:
        """Note a name that is imported, or called after it was imported."""
        for known in (self._harmful, self._other):
            if name in known:
                known[name] |= is_called
                return
        if name in self._left_out:
            return
        current_budget().spend(UNITS_PER_NAME)
        kept = self._harmful if is_harmful(name) else None if is_common(name) else self._other
        if kept is not None and len(kept) < MAX_NAMES:
            kept[name] = is_called
        elif len(self._left_out) < MAX_KNOWN:
            self._left_out.add(name)

    @property
    def names(self) -> tuple[PickledName, ...]:
        """What was collected: what is harmful by itself comes first."""
        return tuple(
            PickledName(printable(name, 100), is_called, is_harmful_)
            for known, is_harmful_ in ((self._harmful, True), (self._other, False))
            for name, is_called in known.items()
        )

    def __enter__(self) -> ImportedNames:
        self._tokens.append(_CURRENT.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _CURRENT.reset(self._tokens.pop())


_CURRENT: ContextVar[ImportedNames | None] = ContextVar("imported names", default=None)


_NOBODY: Final = ImportedNames()


def current_names() -> ImportedNames:
    """The collection of the file that is being read; one that nobody looks at, if nobody collects."""
    return _CURRENT.get() or _NOBODY


def would_have_run(names: Iterable[PickledName], loader: str = "torch.load(weights_only=False) or pickle.load") -> str:
    """What harmful names would have done when a file is loaded, as one sentence; empty where there are none.

    Args:
        names: what the pickles of the file name.
        loader: what loads such a file.
    """
    harmful = [each for each in names if each.harmful]
    called = [each.name for each in harmful if each.called]
    if called:
        return f"{listing(called, 4)} would have run when this file is loaded with {loader}"
    if harmful:
        imported = listing([each.name for each in harmful], 4)
        return f"{imported} would have been imported when this file is loaded with {loader}"
    return ""
