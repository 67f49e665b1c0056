"""Pickles made to harm: none runs code, takes the memory, hangs, or brings out a foreign exception.

Each is read in a process of its own, which holds it to the limits of every file (see ``sandbox``). A case that could
be read as a model is given a real layer beside the attack, so that the attack is reached.
"""

from __future__ import annotations

import copyreg
import os
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
    EXT1,
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

import pytest

from tests.checkpoint.files import legacy_of, zip_of
from tests.checkpoint.opcodes import DATA, beside_layer, calls, name, number, text, whole

FORMS = pytest.mark.parametrize("form", [zip_of, legacy_of], ids=["zip", "legacy"])


class TestNothingRuns:
    """Each way in which a pickle can call, aimed at a shell command that would leave a file."""

    @FORMS
    @pytest.mark.parametrize("opcode", calls(""))
    def test_no_call_is_made(self, sandbox, tmp_path, form, opcode):
        sentinel = tmp_path / "sentinel"
        attack = calls(f"touch {sentinel}")[opcode]
        if form is zip_of:
            sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))
        else:
            sandbox(legacy_of(tmp_path / "model.pt", whole(attack)))
        assert not sentinel.exists()

    def test_the_attack_is_a_real_one(self, tmp_path):
        """Python's own unpickler would run it: the cases above can fail."""
        sentinel = tmp_path / "sentinel"
        command = f"touch {sentinel}"
        for opcode in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ", "eval", "exec", "open", "a chain"):
            left = pickle.loads(whole(calls(command)[opcode]))
            if opcode == "open":
                left.close()
            assert sentinel.exists()
            sentinel.unlink()

    def test_a_registered_extension_is_not_resolved(self, refusal, tmp_path):
        """A program may have registered functions under numbers."""
        copyreg.add_extension("os", "system", 1)
        try:
            assert pickle.loads(whole(EXT1 + b"\x01")) is os.system
            refused = refusal(zip_of(tmp_path / "model.pt", beside_layer(EXT1 + b"\x01"), DATA))
        finally:
            copyreg.remove_extension("os", "system", 1)
        assert "opcode b'\\x82' has no place in a model" in refused

    def test_a_real_layer_beside_an_attack_is_read(self, sandbox, tmp_path):
        attack = calls(f"touch {tmp_path / 'sentinel'}")["REDUCE"]
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))
        assert outcome["layers"] == ["rnn"]
        assert not (tmp_path / "sentinel").exists()


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


ANNOUNCED = [bomb for bomb in BOMBS if bomb.endswith("announced")]
REFUSED = {
    "memo index": "memo index",
    "colliding memo indices": "memo index",
    **dict.fromkeys([bomb for bomb in ANNOUNCED if "frame" not in bomb], "it is cut short"),
    "marks": "more objects than any model needs",
    "empty dicts": "more objects than any model needs",
    "nested rebuilds": "maximum recursion depth exceeded",
    "a long name looked up often": "the name of a class or function is malformed",
    "digits": "a line of text that is cut short, or longer than 4096 bytes",
    "items for a number": "items given to int",
    "elements for a string": "elements given to str",
    "a call of a number": "it calls int",
    "arguments that are no tuple": "expected a tuple of arguments, got int",
    "an empty stack": "pop from empty list",
    "an unknown opcode": "opcode b'\\xff' has no place",
}
"""What is said of those that are no model; the others are read past."""


@FORMS
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(sandbox, tmp_path, form, bomb):
    if form is zip_of:
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(BOMBS[bomb]), DATA))
    else:
        outcome = sandbox(legacy_of(tmp_path / "model.pt", whole(MARK, BOMBS[bomb], TUPLE)))
    if bomb in REFUSED:
        assert REFUSED[bomb] in outcome["refused"]
    elif form is zip_of:
        assert outcome["layers"] == ["rnn"]
    else:
        assert "no recurrent layer" in outcome["refused"]
