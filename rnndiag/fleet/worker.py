"""The processes of a fleet's pool. Each imports this module first; it must import nothing that takes long."""

from __future__ import annotations

from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from rnndiag.process.parent import EndsWithParent


class Worker(SpawnProcess):
    """A process that Linux kills when its parent ends."""

    def __getstate__(self) -> dict[str, Any]:
        # Unpickled in this order: the worker ends with its parent before it imports torch.
        return {"_ends_with_parent": EndsWithParent(), **self.__dict__}


class WorkerContext(SpawnContext):
    """Starts workers as new processes. A forked copy of a process in which torch has run may hang."""

    Process = Worker
