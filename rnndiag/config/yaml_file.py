"""The value of a config file in YAML, with limits on the size to which a text may expand.

A text of a few lines can stand for billions of values through aliases, and it can nest without limit. The limits are
checked on the parsed nodes, before any value is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from rnndiag.config.toml_file import MAX_DEPTH, MAX_INTEGER, WHOLE_NUMBER
from rnndiag.errors import ConfigError
from rnndiag.files.side_files import position

MAX_NODES = 20_000
"""The largest number of values in a file. A value that aliases repeat counts each time."""

MAX_CHARACTERS = 400
"""The largest number of characters of a number or a date."""

_EXPECTED = {
    "bool": "true or false",
    "float": "a number",
    "int": WHOLE_NUMBER,
    "timestamp": "a date such as 2024-12-31",
}
"""The description of the expected value, by YAML tag."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def yaml_tree(path: Path, text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: naming the line and the column.
    """
    try:
        return _Loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else position(text, _offset(error))
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise ConfigError(f"{path}: not valid YAML at {where}: {problem}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits. Every error has a line and a column."""

    depth = nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _too_large(self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        _expanded_size(node, {})
        return self.construct_document(node)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        # The constructors of bool, int, float and timestamp raise these for other text.
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise _unfit(node) from error
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise _unfit(node)
        if isinstance(value, str) and _SURROGATE.search(value):  # "\ud83c\udf89" in quotes, as JSON writes it
            return _paired(value, node)
        return value


def _paired(text: str, node: Any) -> str:
    """The text with each pair of surrogates as one character."""
    paired = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "\ufffd" in paired:
        message = f"expected text, got {text[:60]!r} with one half of a surrogate pair"
        raise ConstructorError(None, None, message, node.start_mark)
    return paired


def _expanded_size(node: Any, seen: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Check the values and levels that a node expands to, and return both numbers.

    A node comes before its aliases, so this recurses 32 times at most.

    Args:
        node: a node of the composed document.
        seen: the result for each node by its id; None while the node is being checked.
    """
    if id(node) in seen:
        known = seen[id(node)]
        if known is None:
            raise ComposerError(None, None, "an alias refers to the value that contains it", node.start_mark)
        return known
    seen[id(node)] = None
    below = [_expanded_size(child, seen) for child in _children(node)]
    size, levels = 1 + sum(size for size, _ in below), 1 + max((levels for _, levels in below), default=0)
    if size > MAX_NODES or levels > MAX_DEPTH:
        raise _too_large(node.start_mark)
    seen[id(node)] = size, levels
    return size, levels


def _children(node: Any) -> list[Any]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        return [each for pair in node.value for each in pair]
    if len(node.value) > MAX_CHARACTERS and node.tag.rpartition(":")[2] in _EXPECTED:
        raise _unfit(node)
    return []


def _check_keys(node: yaml.MappingNode) -> None:
    keys: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in keys and key.tag != "tag:yaml.org,2002:merge":
            raise ComposerError(None, None, f"the key {key.value[:60]!r} is given twice", key.start_mark)
        keys.add((key.tag, key.value))


def _too_large(mark: Any) -> ComposerError:
    limits = f"expected at most {MAX_DEPTH} levels of nesting and {MAX_NODES:,} values, counting aliases"
    return ComposerError(None, None, limits, mark)


def _unfit(node: Any) -> ConstructorError:
    expected = _EXPECTED.get(node.tag.rpartition(":")[2], "a value that fits its tag")
    got = f"{node.value[:60]!r}" if isinstance(node.value, str) else "a collection"
    return ConstructorError(None, None, f"expected {expected}, got {got}; quote it if it is text", node.start_mark)


def _offset(error: Exception) -> int:
    """The offset of a YAML error without a mark, which is about a character that YAML does not allow."""
    offset = getattr(error, "position", 0)
    return offset if isinstance(offset, int) else 0
