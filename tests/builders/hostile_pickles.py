"""Pickles that are small and ask for much: deep or shared objects, and objects of great number."""

from __future__ import annotations

import pickle
import struct
from pickle import (
    APPEND,
    BINBYTES8,
    BINGET,
    BINPUT,
    BINUNICODE8,
    BUILD,
    BYTEARRAY8,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    FRAME,
    FROZENSET,
    LONG4,
    LONG_BINPUT,
    MARK,
    NEWOBJ,
    NEWOBJ_EX,
    NONE,
    POP,
    REDUCE,
    SETITEM,
    SETITEMS,
    STACK_GLOBAL,
    TUPLE,
    TUPLE1,
    TUPLE2,
    TUPLE3,
)

from tests.builders.pickles import name, number, storage, tensor, text

FROM_TYPE = name("torch._tensor _rebuild_from_type_v2")


def shared_twice(depth: int, pair: bytes) -> bytes:
    """An object that holds itself twice, ``depth`` times over: 2**depth paths, or steps to hash it."""
    return EMPTY_TUPLE + (BINPUT + b"\0" + BINGET + b"\0" + pair) * depth


BOMBS: dict[str, bytes] = {
    "memo index": EMPTY_DICT + LONG_BINPUT + b"\xff\xff\xff\xff",
    "colliding memo indices": b"".join(b"}p%d\n" % (i * (2**61 - 1)) for i in range(200_000)),
    "colliding keys": EMPTY_DICT + MARK + b"".join(number(i * (2**61 - 1)) + NONE for i in range(200_000)) + SETITEMS,
    "long equal keys": EMPTY_DICT
    + text("k" * 5_000_000) + BINPUT + b"\1" + POP + text("k" * 5_000_000) + BINPUT + b"\2" + POP
    + (BINGET + b"\1" + NONE + SETITEM + BINGET + b"\2" + NONE + SETITEM) * 100_000,
    "nested tuple as key": EMPTY_DICT + shared_twice(60, TUPLE2) + NONE + SETITEM,
    "nested tuple in a set": EMPTY_SET + MARK + shared_twice(60, TUPLE2) + pickle.ADDITEMS,
    "nested tuple in a frozenset": MARK + shared_twice(60, TUPLE2) + FROZENSET,
    "nested tuple to walk": shared_twice(60, TUPLE2),
    "a list in itself": EMPTY_LIST + BINPUT + b"\0" + BINGET + b"\0" + APPEND,
    "a dict in itself": EMPTY_DICT + BINPUT + b"\0" + text("k") + BINGET + b"\0" + SETITEM,
    "an object in itself": name("a B") + EMPTY_TUPLE + NEWOBJ + BINPUT + b"\0" + BINGET + b"\0" + BUILD,
    "an object in its slots": name("a B") + EMPTY_TUPLE + NEWOBJ + BINPUT + b"\0" + NONE + BINGET + b"\0" + TUPLE2
    + BUILD,
    "bytes announced": BINBYTES8 + struct.pack("<Q", 2**45),
    "a bytearray announced": BYTEARRAY8 + struct.pack("<Q", 2**34),
    "a string announced": BINUNICODE8 + struct.pack("<Q", 2**62),
    "a frame announced": FRAME + struct.pack("<Q", 2**62) + NONE,
    "an integer announced": LONG4 + struct.pack("<i", 2**31 - 1),
    "marks": MARK * 12_000_000,
    "empty dicts": EMPTY_DICT * 12_000_000,
    "nested lists": EMPTY_LIST * 100_000 + APPEND * 99_999,
    "nested dicts": (EMPTY_DICT + text("k")) * 100_000 + NONE + SETITEM * 100_000,
    "nested tuples": EMPTY_TUPLE + TUPLE1 * 100_000,
    "nested calls": name("a B") * 20_000 + NONE + (TUPLE1 + REDUCE) * 20_000,
    "nested rebuilds": (FROM_TYPE + NONE) * 3000 + EMPTY_TUPLE + TUPLE3 * 3000 + BINPUT + b"\1" + POP
    + FROM_TYPE + BINGET + b"\1" + REDUCE,
    "long arguments given again": MARK + NONE * 100_000 + TUPLE + BINPUT + b"\0" + POP + name("a B") + BINPUT + b"\1"
    + MARK + (BINGET + b"\1" + BINGET + b"\0" + REDUCE) * 100_000 + TUPLE,
    "long arguments by keywords": MARK + NONE * 100_000 + TUPLE + BINPUT + b"\0" + POP + name("a B") + BINPUT + b"\1"
    + MARK + (BINGET + b"\1" + BINGET + b"\0" + EMPTY_DICT + NEWOBJ_EX) * 100_000 + TUPLE,
    "one list for many dicts": MARK + (text("k") + NONE + TUPLE2) * 50_000 + pickle.LIST + BINPUT + b"\0" + TUPLE1
    + BINPUT + b"\1" + POP + name("collections OrderedDict") + BINPUT + b"\2"
    + MARK + (BINGET + b"\2" + BINGET + b"\1" + REDUCE) * 100_000 + TUPLE,
    "wide sharing": MARK + (EMPTY_DICT * 1000 + TUPLE + BINPUT + b"\0" + POP)
    + MARK + (name("a B") + BINGET + b"\0" + REDUCE) * 50_000 + TUPLE,
    "a long name looked up often": text("Storage" * 500_000) + BINPUT + b"\0" + (BINGET + b"\0" + STACK_GLOBAL + BINGET
    + b"\0") * 100_000,
    "a name of many underscores": EMPTY_DICT + text("opt_" * 250) + EMPTY_LIST + SETITEM,
    "digits": pickle.INT + b"9" * 3_000_000 + b"\n",
    "a key that cannot be hashed": EMPTY_DICT + EMPTY_LIST + TUPLE1 + NONE + SETITEM,
    "items for a number": number(3) + text("k") + NONE + SETITEM,
    "elements for a string": text("k") + NONE + APPEND,
    "a call of a number": number(3) + EMPTY_TUPLE + REDUCE,
    "arguments that are no tuple": name("a B") + number(3) + REDUCE,
    "an empty stack": POP * 30,
    "an unknown opcode": b"\xff",
}  # fmt: skip


CALL = name("a b") + b"q\1)q\2"
"""A name as memo 1 and no arguments as memo 2; h recalls them and R calls the one with the other."""
REBUILD = name("torch._utils _rebuild_tensor_v2")
ARGUMENTS = b"K\0K\1K\1\x86K\1K\1\x86\x89}t"
SCALES = b"(" + name("torch per_tensor_affine") + b"G?\xf0\0\0\0\0\0\0K\0t"

HEAPS = {
    "numbers": b"(" + b"G?\xf0\0\0\0\0\0\0" * 5_000_000 + b"t",
    "short strings": b"(" + b"\x8c\3abc" * 5_000_000 + b"t",
    "longer strings": b"(" + (b"\x8c\xff" + b"x" * 255) * 500_000 + b"t",
    "strings of a page": b"(" + (b"X\0\x10\0\0" + b"x" * 4096) * 20_000 + b"t",
    "large integers": b"(" + (b"\x8a\xff" + b"\1" * 255) * 500_000 + b"t",
    "integers as text": b"(" + (b"I" + b"9" * 4000 + b"\n") * 20_000 + b"t",
    "things remembered": b"}\x94" * 2_500_000,
    "names": b"(" + b"ca\nb\n" * 2_000_000 + b"t",
    "calls": CALL + b"(" + b"h\1h\2R" * 1_000_000 + b"t",
    "keys": b"}(" + b"".join(b"\x8c\6%06xN" % i for i in range(2_000_000)) + b"u",
    "dicts of one": b"(" + b"}\x8c\1kNs" * 1_500_000 + b"t",
    "lists of one": b"(" + b"]Na" * 2_000_000 + b"t",
    "tuples of one": b"(" + b"N\x85" * 2_500_000 + b"t",
    "a tuple again and again": b"N\x85q\1(" + b"h\1" * 4_000_000 + b"t",
    "nothing": b"(" + b"N" * 5_000_000 + b"t",
    "modules": CALL + b"(" + b"h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}ub" * 200_000 + b"t",
    "one child by many names": CALL
    + b"h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}ubq\3"
    + b"0h\1h\2R}(X\x0b\0\0\0_parameters}X\x08\0\0\0_modules}("
    + b"".join(b"\x8c\6%06xh\3" % i for i in range(500_000))
    + b"uub",
}
TENSORS = {
    "tensors": REBUILD + b"q\1(" + storage("0", 2) + ARGUMENTS + b"q\2(" + b"h\1h\2R" * 500_000 + b"t",
    "storages": b"(" + text("storage") + name("torch FloatStorage") + text("0") + text("cpu") + b"K\2tq\1("
    + b"h\1Q" * 1_500_000 + b"t",
    "one tensor by many names": tensor(storage("0", 2), (1, 1), (1, 1)) + b"q\1" + b"0}("
    + b"".join(b"\x8c\6%06xh\1" % i for i in range(300_000)) + b"u",
    "quantised tensors": name("torch._utils _rebuild_qtensor") + b"q\1(" + storage("1", 2, "QInt8Storage")
    + ARGUMENTS[:-3] + SCALES + b"\x89}tq\2(" + b"h\1h\2R" * 300_000 + b"t",
}  # fmt: skip
