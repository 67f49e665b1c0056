"""The values in a config file in YAML or TOML, with limits on the size to which a text may expand.

A YAML text of a few lines can stand for billions of values through aliases, and both formats can nest without limit.
The limits are checked on the parsed nodes, before any value is built.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnndiag.errors import ConfigError
from rnndiag.side_files import deep_position, position

if TYPE_CHECKING:
    import yaml

MAX_DEPTH = 32
"""The largest number of levels of nesting, and of parts of a dotted TOML key. A config needs five."""

MAX_NODES = 20_000
"""The largest number of values in a YAML file. A value that aliases repeat counts each time."""

MAX_DIGITS = 400
"""Characters of a number or a date in YAML."""

MAX_INTEGER = 2**63 - 1

_EXPECTED = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number below 2^63",
    "timestamp": "a date such as 2024-12-31",
}
"""The description of the expected value, by YAML tag."""

_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_DEEP_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*){{{MAX_DEPTH}}}")
_LONG_NUMBER = re.compile(r"(?<!\d)[\d_]{4301}")
"""A number with more digits than Python converts (4,300)."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def yaml_tree(path: Path, text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: naming the line and the column.
    """
    import yaml  # not needed by those who configure in pyproject.toml

    try:
        return _loader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else position(text, _offset(error))
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
        raise ConfigError(f"{path}: not valid YAML at {where}: {problem}") from error


def toml_tree(path: Path, text: str) -> dict[str, Any]:
    """The table of a TOML text.

    Raises:
        ConfigError: naming the line and the column.
    """
    deep = _DEEP_KEY.search(text)  # the parser's time grows with the square of a key's parts
    if deep is not None:
        raise ConfigError(
            f"{path}: not valid for rnndiag at {position(text, deep.start())}: a key of more than {MAX_DEPTH} parts"
        )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(
            f"{path}: not valid TOML at {deep_position(text, MAX_DEPTH)}: "
            f"expected at most {MAX_DEPTH} levels of nesting"
        ) from error
    except ValueError as error:
        long = _LONG_NUMBER.search(text)
        where = "" if long is None else f" at {position(text, long.start())}"
        raise ConfigError(f"{path}: not valid TOML{where}: expected {_EXPECTED['int']}") from error
    return tree


def check_integers(path: Path, place: str, value: Any) -> None:
    """Refuse integers that are too large for any setting. Python cannot even print integers of thousands of digits.

    Raises:
        ConfigError: naming the key.
    """
    todo = [(place, value)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, dict):
            todo += [(f"{place}.{key}", each) for key, each in value.items()]
        elif isinstance(value, list):
            todo += [(place, each) for each in value]
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise ConfigError(f"{path}: at {place}: expected {_EXPECTED['int']}, got a larger number")


def _offset(error: Exception) -> int:
    """The offset of a YAML error without a mark, which is about a character that YAML does not allow."""
    offset = getattr(error, "position", 0)
    return offset if isinstance(offset, int) else 0


def _loader(text: str) -> yaml.SafeLoader:
    import yaml
    from yaml.composer import ComposerError
    from yaml.constructor import ConstructorError

    class Loader(yaml.SafeLoader):
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
            check(node, {})
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
                paired = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
                if "\ufffd" not in paired:
                    return paired
                message = f"expected text, got {value[:60]!r} with one half of a surrogate pair"
                raise ConstructorError(None, None, message, node.start_mark)
            return value

    def _too_large(mark: Any) -> Exception:
        return ComposerError(
            None,
            None,
            f"expected at most {MAX_DEPTH} levels of nesting and {MAX_NODES:,} values, counting aliases",
            mark,
        )

    def _unfit(node: Any) -> Exception:
        expected = _EXPECTED.get(node.tag.rpartition(":")[2], "a value that fits its tag")
        got = f"{node.value[:60]!r}" if isinstance(node.value, str) else "a collection"
        return ConstructorError(None, None, f"expected {expected}, got {got}; quote it if it is text", node.start_mark)

    def check(node: Any, seen: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
        """Values and levels that a node expands to. A node comes before its aliases, so this recurses 32 times at most.

        Args:
            node: of the composed document.
            seen: the result for each node by its id; None while the node is being checked.
        """
        if id(node) in seen:
            known = seen[id(node)]
            if known is None:
                raise ComposerError(None, None, "an alias refers to the value that contains it", node.start_mark)
            return known
        seen[id(node)] = None
        children: list[Any] = []
        if isinstance(node, yaml.MappingNode):
            keys: set[tuple[str, str]] = set()
            for key, value in node.value:
                name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if name in keys and key.tag != "tag:yaml.org,2002:merge":
                    raise ComposerError(None, None, f"the key {key.value[:60]!r} is given twice", key.start_mark)
                keys |= {name} if name else set()
                children += (key, value)
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        elif len(node.value) > MAX_DIGITS and node.tag.rpartition(":")[2] in _EXPECTED:
            raise _unfit(node)
        below = [check(child, seen) for child in children]
        size, levels = 1 + sum(size for size, _ in below), 1 + max((levels for _, levels in below), default=0)
        if size > MAX_NODES or levels > MAX_DEPTH:
            raise _too_large(node.start_mark)
        seen[id(node)] = size, levels
        return size, levels

    return Loader(text)
