"""A pickle reader that runs nothing: rebuilding a tensor is all it can do.

It builds on ``pickle._Unpickler``, the pure Python one, whose every opcode is a method that can be replaced.
What remains of pickle's power is: numbers, strings, tuples, lists, dicts with string keys, the handful of
functions in ``REBUILDS``, and for every other name a ``StandIn`` that notes what it was given. Nothing is
imported, hashed beyond strings, or given attributes, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Final

from torch.serialization import StorageType

from rnndiag.checkpoint.unpickling.blob import Blob, unquoted
from rnndiag.checkpoint.unpickling.counts import is_count, is_short
from rnndiag.checkpoint.unpickling.imported import current_names
from rnndiag.checkpoint.unpickling.rebuild import REBUILDS, Storage, call, store
from rnndiag.checkpoint.unpickling.stand_in import StandIn
from rnndiag.files.work_budget import current_budget

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from rnndiag.checkpoint.unpickling.blob import Coding, File

MAX_STRING_BYTES: Final = 4096
"""The longest string that is kept in memory; no name is longer. A longer string becomes a ``Blob``."""

LINE_CHUNK_BYTES: Final = 1 << 16
"""How much of a long line is read at once to find its end."""

COSTS: Final = [1] * 256
"""Of each opcode, in units of the work budget."""
COSTS[pickle.GLOBAL[0]] = COSTS[pickle.STACK_GLOBAL[0]] = COSTS[pickle.OBJ[0]] = 5
COSTS[pickle.REDUCE[0]] = COSTS[pickle.NEWOBJ[0]] = COSTS[pickle.NEWOBJ_EX[0]] = COSTS[pickle.INST[0]] = 10
COSTS[pickle.BINPERSID[0]] = 4
COSTS[pickle.EMPTY_DICT[0]] = 2


class RestrictedUnpickler(pickle._Unpickler):
    """One pickle, read without running it.

    Args:
        file: where it begins.
        size: bytes that it may take, to the end of the file by default.
        reopen: opens the file again, to read long strings later; None: the pickle holds no arrays.

    Raises:
        pickle.UnpicklingError: the pickle is damaged, or asks for something that no model needs.
    """

    # pickle._Unpickler's own fields, which typeshed leaves out.
    stack: list[Any]
    metastack: list[list[Any]]
    memo: Any
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: File, size: int | None = None, reopen: Callable[[], File] | None = None) -> None:
        self._file = _Bounded(file, size)
        self._reopen = reopen
        self._names = current_names()
        # Bytes of Python 2 that are no UTF-8 text, such as the numbers of an array, can be got back.
        super().__init__(self._file, encoding="utf-8", errors="surrogateescape")
        self.read = self._file.read
        self.readline = self._file.readline
        self.memo = []  # in place of a dict: indices are counted

    def load(self) -> Any:
        """The object described, made of plain values, tensors, ``Unusable`` and ``StandIn``."""
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        # A hostile file comes here four million times: what can be looked up once is.
        read, operations, spend, stop = self.read, self.operations, current_budget().spend, pickle.STOP[0]
        while True:
            opcode = read(1)[0]
            if opcode == stop:
                return self.stack.pop()
            operation = operations.get(opcode)
            if operation is None:
                raise pickle.UnpicklingError(f"opcode {bytes([opcode])!r} has no place in a model")
            spend(COSTS[opcode])
            operation(self)

    def find_class(self, module: str, name: str) -> Any:
        """The rebuild function of that name, or a stand-in; never an import."""
        known = REBUILDS.get((module, name))
        if known is None:
            self._names.add(f"{module}.{name}", is_called=False)
        return known or StandIn(module, name)

    def storage(self, key: str, dtype: torch.dtype, nbytes: int) -> Storage:
        """The numbers of the storage ``key`` of the file, of which the pickle declares ``nbytes`` bytes.

        Raises:
            pickle.UnpicklingError: the file has no such storage, or the file cannot hold as many bytes.
        """
        raise pickle.UnpicklingError("a tensor where only plain values belong")

    def _frame(self) -> None:
        self.read(8)  # frames only help a reader to buffer; their contents follow in place

    def _persistent(self) -> None:
        pid = self.stack.pop()
        if type(pid) is not tuple or len(pid) not in (4, 5, 6):
            raise pickle.UnpicklingError("a reference to data outside the pickle is malformed")
        # Legacy files refer to classes this way, with their source text beside them.
        self.append(pid[1] if pid[0] == "module" else self._referred(*pid))

    def _referred(self, tag: object, kind: object, key: Any, _location: object, *rest: Any) -> object:
        if not isinstance(kind, StorageType):
            return StandIn("torch", "UntypedStorage")
        if tag != "storage" or not is_short(key) or not rest or not is_count(rest[0]):
            raise pickle.UnpicklingError("a reference to tensor data is malformed")
        if any(view is not None for view in rest[1:]):
            raise pickle.UnpicklingError("it holds views of storages, a form given up before PyTorch 0.4")
        return self.storage(key, kind.dtype, rest[0] * kind.dtype.itemsize)

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = call(self.stack[-1], args)

    def _new_with_keywords(self) -> None:
        keywords, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = call(self.stack[-1], (args, keywords))

    def _instantiate(self, callee: object, args: list[Any]) -> None:  # called by INST and OBJ
        self.append(call(callee, tuple(args)))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (is_short(name) and is_short(module)):
            raise pickle.UnpicklingError("the name of a class or function is malformed")
        self.append(self.find_class(module, name))

    def _build(self) -> None:
        state = self.stack.pop()
        # An OrderedDict's attributes (a state_dict's _metadata) are of no use; nothing else may have any.
        if isinstance(self.stack[-1], StandIn):
            self.stack[-1].state = state

    def _remember(self, index: int) -> None:
        # Picklers count from 0 (Python 2's from 1) without gaps.
        if not 0 <= index <= len(self.memo) + 1:
            raise pickle.UnpicklingError(f"memo index {index:.3g} with {len(self.memo)} objects in the memo")
        self.memo += [None] * (index + 1 - len(self.memo))
        self.memo[index] = self.stack[-1]

    def _memoize(self) -> None:
        self.memo.append(self.stack[-1])

    def _put(self) -> None:
        self._remember(int(self.readline()[:-1]))

    def _binput(self) -> None:
        self._remember(self.read(1)[0])

    def _long_binput(self) -> None:
        self._remember(int.from_bytes(self.read(4), "little"))

    def _text(self) -> None:
        self._string(4, "utf-8")

    def _text8(self) -> None:
        self._string(8, "utf-8")

    def _bytes(self) -> None:
        self._string(4, "bytes")

    def _bytes8(self) -> None:
        self._string(8, "bytes")

    def _byte_text(self) -> None:
        """A ``str`` of Python 2, which may be text or bytes."""
        self._string(4, "bytes")
        if isinstance(self.stack[-1], bytes):
            self.stack[-1] = self.stack[-1].decode("utf-8", "surrogateescape")

    def _string(self, width: int, coding: Coding) -> None:
        size = int.from_bytes(self.read(width), "little")
        if size > MAX_STRING_BYTES:
            self.append(Blob(coding, self._file.tell(), size, self._reopen))
            self._file.skip(size)
            return
        data = self.read(size)
        self.append(data if coding == "bytes" else data.decode("utf-8", "surrogatepass"))

    def _unicode_line(self) -> None:
        line = self._line("unicode line")
        self.append(line if isinstance(line, Blob) else line.decode("raw-unicode-escape"))

    def _string_line(self) -> None:
        line = self._line("string line")
        self.append(line if isinstance(line, Blob) else unquoted(line).decode("utf-8", "surrogateescape"))

    def _line(self, coding: Coding) -> bytes | Blob:
        start = self._file.tell()
        line, size = self._file.long_line()
        return Blob(coding, start, size, self._reopen) if size > MAX_STRING_BYTES else line

    def _long_integer(self) -> None:
        self._string(4, "bytes")
        self.append(StandIn("builtins", "int") if self.stack.pop() else 0)  # of 256 bytes or more: no count

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _setitems(self) -> None:
        self._fill(self.pop_mark())

    def _fill(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target = target.own_items()
        if type(target) is not dict:
            raise pickle.UnpicklingError(f"items given to {type(target).__name__}, which takes none")
        current_budget().spend(len(items))
        store(target, zip(items[::2], items[1::2], strict=True))

    def _append(self) -> None:
        self._extend([self.stack.pop()])

    def _appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, elements: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, StandIn):
            target = target.own_elements()
        if type(target) is not list:
            raise pickle.UnpicklingError(f"elements given to {type(target).__name__}, which takes none")
        target.extend(elements)

    def _empty_set(self) -> None:
        self.append([])  # a list stands for a set, whose members would have to be hashed

    def _frozenset(self) -> None:
        members = self.pop_mark()  # which changes self.append
        self.append(members)

    _INHERITED: ClassVar = (
        *("PROTO", "MARK", "POP", "POP_MARK", "DUP", "GET", "BINGET", "LONG_BINGET"),
        *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
        *("FLOAT", "BINFLOAT", "SHORT_BINSTRING", "SHORT_BINUNICODE", "SHORT_BINBYTES"),
        *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "LIST", "EMPTY_LIST", "EMPTY_DICT"),
        *("GLOBAL", "INST", "OBJ"),
    )
    operations: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: pickle._Unpickler.dispatch[code] for name in _INHERITED for code in getattr(pickle, name)},
        pickle.FRAME[0]: _frame,
        pickle.BINPERSID[0]: _persistent,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _new_with_keywords,
        pickle.STACK_GLOBAL[0]: _stack_global,
        pickle.BUILD[0]: _build,
        pickle.PUT[0]: _put,
        pickle.BINPUT[0]: _binput,
        pickle.LONG_BINPUT[0]: _long_binput,
        pickle.MEMOIZE[0]: _memoize,
        pickle.BINUNICODE[0]: _text,
        pickle.BINUNICODE8[0]: _text8,
        pickle.BINSTRING[0]: _byte_text,
        pickle.STRING[0]: _string_line,
        pickle.UNICODE[0]: _unicode_line,
        pickle.BINBYTES[0]: _bytes,
        pickle.BINBYTES8[0]: _bytes8,
        pickle.BYTEARRAY8[0]: _bytes8,
        pickle.LONG4[0]: _long_integer,
        pickle.DICT[0]: _dict,
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.ADDITEMS[0]: _appends,
        pickle.FROZENSET[0]: _frozenset,
    }
    """Every opcode that is read. Left out: extension codes, out-of-band buffers, textual references."""


class TensorUnpickler(RestrictedUnpickler):
    """A pickle of torch.save, whose tensors are views of storages: a subclass says where the storages are."""

    def find_class(self, module: str, name: str) -> Any:
        """Also the type of a storage, which torch names by a class."""
        if "Storage" in name:
            try:
                return StorageType(name)
            except KeyError:
                pass
        return super().find_class("torch._tensor" if module == "torch.tensor" else module, name)


class _Bounded:
    """A file that is never asked for more than it holds, since asking is allocating."""

    def __init__(self, file: File, size: int | None) -> None:
        self._file = file
        self._read = file.read
        self._budget = current_budget()
        if size is None:
            here = file.tell()
            size = file.seek(0, io.SEEK_END) - here
            file.seek(here)
        self._left = size

    def read(self, size: int) -> bytes:
        if size > self._left:  # as in _take, but a call for each of millions of reads is a third of their time
            raise self._short(size)
        self._left -= size
        if size > 15:
            self._budget.spend(size >> 4)
        return self._read(size)

    def readline(self, size: int = MAX_STRING_BYTES) -> bytes:
        line = self._file.readline(min(self._left, size))
        if not line.endswith(b"\n") and size == MAX_STRING_BYTES:
            raise pickle.UnpicklingError(f"a line of text that is cut short, or longer than {MAX_STRING_BYTES} bytes")
        self._take(len(line))
        self._budget.spend(len(line) >> 4)
        return line

    def long_line(self) -> tuple[bytes, int]:
        """The line without its end, and its size; of a line longer than ``MAX_STRING_BYTES`` only the beginning."""
        line = chunk = self._file.readline(min(self._left, MAX_STRING_BYTES + 1))
        size = len(line)
        while chunk and not chunk.endswith(b"\n"):
            chunk = self._file.readline(min(self._left - size, LINE_CHUNK_BYTES))
            size += len(chunk)
        if not chunk:
            raise pickle.UnpicklingError("a line of text that is cut short")
        self._take(size)
        self._budget.spend(min(size, MAX_STRING_BYTES) >> 4)
        return line.removesuffix(b"\n"), size - 1

    @property
    def left(self) -> int:
        """The number of bytes up to the end."""
        return self._left

    def tell(self) -> int:
        """The position in the file."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = io.SEEK_CUR) -> int:
        """Skip ``offset`` bytes, for a pickle within this one."""
        assert whence == io.SEEK_CUR
        self.skip(offset)
        return self.tell()

    def close(self) -> None:
        """Leave the file open: whoever opened it closes it."""

    def skip(self, size: int) -> None:
        """Skip so many bytes."""
        self._take(size)
        self._file.seek(size, io.SEEK_CUR)

    def _take(self, size: int) -> None:
        if size > self._left:
            raise self._short(size)
        self._left -= size

    def _short(self, size: int) -> pickle.UnpicklingError:
        return pickle.UnpicklingError(f"it is cut short: {size} bytes expected, {self._left} left")
