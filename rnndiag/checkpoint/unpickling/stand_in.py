"""What stands for an object that a pickle would build and that was not built."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False, repr=False)
class StandIn:
    """An object of a class that was not imported, or a name; it remembers and does nothing."""

    module: str
    name: str
    args: tuple[object, ...] = ()
    """What it was called with; for a call by keywords, ``(args, keywords)``."""
    state: object = None
    """What ``__setstate__`` or ``__dict__`` would have been given."""
    items: dict[str, object] | None = None
    """What a subclass of ``dict`` was filled with."""
    elements: list[object] | None = None
    """What a subclass of ``list`` or ``set`` was filled with."""

    @property
    def path(self) -> str:
        """Module and qualified name of its class."""
        return f"{self.module}.{self.name}"

    def own_items(self) -> dict[str, object]:
        """``items``, made on first use: most stand-ins have none."""
        if self.items is None:
            self.items = {}
        return self.items

    def own_elements(self) -> list[object]:
        """``elements``, made on first use."""
        if self.elements is None:
            self.elements = []
        return self.elements
