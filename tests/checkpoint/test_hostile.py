"""Files made to harm: none runs code, takes the memory, hangs, or brings out a foreign exception.

Each is read in a process of its own under limits (see ``sandbox``). A case that could be read as a model
is given a real layer beside the attack, so that the attack is reached.
"""

from __future__ import annotations

import contextlib
import copyreg
import os
import pickle
import struct
import tarfile
import zipfile
from pickle import (
    APPEND,
    BINBYTES8,
    BINGET,
    BINPERSID,
    BINPUT,
    BINUNICODE8,
    BUILD,
    BYTEARRAY8,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_SET,
    EMPTY_TUPLE,
    EXT1,
    EXT4,
    FRAME,
    FROZENSET,
    INST,
    LONG4,
    LONG_BINPUT,
    MARK,
    NEWOBJ,
    NEWOBJ_EX,
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
    TUPLE3,
)
from typing import Any

import pytest
import torch

from rnndiag.checkpoint import load
from rnndiag.errors import CheckpointError
from tests.checkpoint.files import legacy_of, zip_of

FORMS = pytest.mark.parametrize("form", [zip_of, legacy_of], ids=["zip", "legacy"])


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


class TestNothingRuns:
    """Each way in which a pickle can call, aimed at a shell command that would leave a file."""

    @staticmethod
    def calls(command: str) -> dict[str, bytes]:
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
            "import": name("importlib import_module") + text("antigravity") + TUPLE1 + REDUCE,
        }  # fmt: skip

    @FORMS
    @pytest.mark.parametrize("opcode", calls("").keys())
    def test_no_call_is_made(self, sandbox, tmp_path, form, opcode):
        sentinel = tmp_path / "sentinel"
        attack = self.calls(f"touch {sentinel}")[opcode]
        if form is zip_of:
            sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))
        else:
            sandbox(legacy_of(tmp_path / "model.pt", whole(attack)))
        assert not sentinel.exists()

    def test_the_attack_is_a_real_one(self, tmp_path):
        """Python's own unpickler would run it: the cases above can fail."""
        sentinel = tmp_path / "sentinel"
        command = f"touch {sentinel}"
        for opcode in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ", "eval"):
            pickle.loads(whole(self.calls(command)[opcode]))
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
        attack = self.calls(f"touch {tmp_path / 'sentinel'}")["REDUCE"]
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


class TestTensors:
    @pytest.mark.parametrize(
        "weight",
        [
            tensor(storage("0", 2), (10**6, 10**6), (0, 0)),
            tensor(storage("0", 2), (2, 1), (2**61, 1)),
            tensor(storage("0", 2), (1, 1), (1, 1), offset=2**61),
            tensor(storage("0", 2), (2**61,) * 64, (0,) * 64),
        ],
        ids=["expanded", "stride", "offset", "enormous"],
    )
    def test_a_tensor_beyond_its_storage_is_passed_over(self, sandbox, tmp_path, weight):
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(weight), DATA))
        assert outcome["layers"] == ["rnn"]
        assert outcome["mib"] < 100

    @pytest.mark.parametrize(
        "attack",
        [
            tensor(storage("0", 2), (-1, 1), (1, 1)),
            tensor(storage("0", 2), (1, 1), (-1, 1)),
            tensor(storage("0", 2), (1, 1), (1,)),
            tensor(storage("0", 2), (1, 1), (1, 1), offset=-1),
            tensor(storage("0", 2), (0,) * 65, (0,) * 65),
            storage("0", 2**40),
            storage("0", -2),
            storage("9", 2),
            storage("../0", 2),
            storage("0", 3),
            storage("0", 2, "DoubleStorage") + storage("x", 1, "DoubleStorage"),
            text("storage") + BINPERSID,
            number(1) + BINPERSID,
        ],
    )
    def test_malformed_tensors_are_refused(self, sandbox, tmp_path, attack):
        assert "refused" in sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))

    @pytest.mark.parametrize("numel", [2**40, 2**30, 10_000])
    def test_legacy_storages_are_not_allocated_beyond_the_file(self, sandbox, tmp_path, numel):
        pickled = whole(tensor(storage("a", numel, view=True), (1, 1), (1, 1)))
        outcome = sandbox(legacy_of(tmp_path / "model.pt", pickled, ["a"]))
        assert f"a storage of {4 * numel} bytes" in outcome["refused"]

    def test_legacy_storages_together_stay_within_the_file(self, sandbox, tmp_path):
        tensors = [tensor(storage(f"{i}", 1000, view=True), (1,), (1,)) for i in range(1000)]
        path = legacy_of(tmp_path / "model.pt", whole(MARK, *tensors, TUPLE), [], b"\0" * 5000)
        assert "bytes, and the file has" in sandbox(path)["refused"]

    def test_legacy_storages_that_are_never_filled(self, sandbox, tmp_path):
        """Their memory would hold whatever was in it before."""
        layer = whole(
            EMPTY_DICT, MARK, text("weight_ih"), tensor(storage("a", 1, view=True), (1, 1), (1, 1)),
            text("weight_hh"), tensor(storage("b", 1, view=True), (1, 1), (1, 1)), SETITEMS,
        )  # fmt: skip
        filled = struct.pack("<qf", 1, 0.5)
        assert "storage b has no data" in sandbox(legacy_of(tmp_path / "a.pt", layer, ["a"], filled))["refused"]
        whole_file = legacy_of(tmp_path / "b.pt", layer, ["a", "b"], filled * 2)
        assert sandbox(whole_file)["layers"] == ["rnn"]

    def test_legacy_storage_keys_are_strings(self, sandbox, tmp_path):
        """torch looks each key up, which hashes it."""
        key: Any = ()
        for _ in range(60):
            key = (key, key)
        path = legacy_of(tmp_path / "model.pt", whole(EMPTY_DICT), [key])
        assert "its header is malformed" in sandbox(path)["refused"]


class TestArchives:
    GOOD = beside_layer(NONE)

    def test_the_plain_archive_is_read(self, sandbox, tmp_path):
        assert sandbox(zip_of(tmp_path / "model.pt", self.GOOD, DATA))["layers"] == ["rnn"]

    def test_compressed_members(self, sandbox, tmp_path):
        path = zip_of(tmp_path / "m.pt", self.GOOD, DATA | {"1": b"\0" * 2**28}, compression=zipfile.ZIP_DEFLATED)
        outcome = sandbox(path)
        assert "is compressed" in outcome["refused"]
        assert outcome["mib"] < 100

    def test_duplicate_members(self, sandbox, tmp_path):
        path = tmp_path / "model.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", self.GOOD)
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("archive/data.pkl", whole(EMPTY_DICT))
        assert "two members have the same name" in sandbox(path)["refused"]

    @pytest.mark.parametrize("other", ["archive/DATA.pkl", "archive/data/0"])
    def test_names_that_differ_in_case_only(self, sandbox, tmp_path, other):
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(other.upper().replace("ARCHIVE", "archive"), b"x" * 8)
        assert "two members have the same name" in sandbox(path)["refused"]

    def test_encrypted_members(self, sandbox, tmp_path):
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA)
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(data)
        assert "is encrypted" in sandbox(path)["refused"]

    @pytest.mark.parametrize(("field", "words"), [(20, "is larger than the file"), (24, "is compressed")])
    def test_sizes_beyond_the_file(self, sandbox, tmp_path, field, words):
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA)
        data = bytearray(path.read_bytes())
        at = data.index(b"PK\x01\x02")
        data[at + field : at + field + 4] = struct.pack("<L", 2**31)
        path.write_bytes(data)
        assert words in sandbox(path)["refused"]
        data[at + 20 : at + 28] = struct.pack("<LL", 2**31, 2**31)
        path.write_bytes(data)
        assert "is larger than the file" in sandbox(path)["refused"]

    def test_members_that_overlap(self, sandbox, tmp_path):
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA | {"1": b"\0" * 4000, "2": b"\0" * 4000})
        data = bytearray(path.read_bytes())
        directory = data.index(b"PK\x01\x02")
        for member in (b"archive/data/0", b"archive/data/1", b"archive/data/2"):
            at = data.index(member, directory) - 46
            data[at + 20 : at + 28] = struct.pack("<LL", 4000, 4000)
            data[at + 42 : at + 46] = struct.pack("<L", 0)
        path.write_bytes(data)
        assert "its members overlap" in sandbox(path)["refused"]

    def test_a_local_header_that_says_otherwise(self, sandbox, tmp_path):
        """The list of members says where each begins; a header there, how long its own name is."""
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA)
        data = bytearray(path.read_bytes())
        at = data.index(b"archive/data/0") - 30
        path.write_bytes(data[: at + 26] + b"\xff\xff" + data[at + 28 :])
        assert "not where the archive's list puts it" in sandbox(path)["refused"]
        path.write_bytes(data[:at] + b"PKPK" + data[at + 4 :])
        assert "not where the archive's list puts it" in sandbox(path)["refused"]

    def test_two_member_lists(self, sandbox, tmp_path):
        """One reader might take the first and another the second."""
        path = zip_of(tmp_path / "model.pt", self.GOOD, DATA)
        bare = path.read_bytes()
        path.write_bytes(bare + bare)
        assert "member list is not where PyTorch's writer puts it" in sandbox(path)["refused"]
        path.write_bytes(bare[:-2] + struct.pack("<H", len(bare)) + bare)
        assert "refused" in sandbox(path)

    def test_a_wide_end_record_elsewhere(self, sandbox, tmp_path):
        path = tmp_path / "model.pt"
        torch.save({"weight_ih": torch.ones(1, 1), "weight_hh": torch.ones(1, 1)}, path)
        assert sandbox(path)["layers"] == ["rnn"]
        data = bytearray(path.read_bytes())
        at = data.rindex(b"PK\x06\x07")
        data[at + 8 : at + 16] = struct.pack("<Q", 0)
        path.write_bytes(data)
        assert "end records contradict each other" in sandbox(path)["refused"]

    def test_a_legacy_file_that_is_a_tar_archive_too(self, sandbox, tmp_path):
        """torch would unpack it; the legacy magic number is the name of its first member."""
        member = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
        magic = pickle.dumps(torch.serialization.MAGIC_NUMBER, 2)
        member[: len(magic)] = magic
        member[148:156] = b" " * 8
        member[148:156] = b"%06o\0 " % sum(member)
        path = tmp_path / "model.pt"
        path.write_bytes(member + b"\0" * 1024)
        assert tarfile.is_tarfile(path)
        assert "opcode b'\\x00' has no place" in sandbox(path)["refused"]


@FORMS
def test_every_cut_is_refused_with_one_line(refusal, tmp_path, form):
    """A download that stopped, at each length."""
    path = tmp_path / "model.pt"
    torch.save({"weight_ih": torch.ones(1, 1), "weight_hh": torch.ones(1, 1)}, path,
               _use_new_zipfile_serialization=form is zip_of)  # fmt: skip
    data = path.read_bytes()
    for stop in {*range(0, len(data), 7), len(data) - 1}:
        path.write_bytes(data[:stop])
        refusal(path)


@FORMS
def test_flipped_bytes_bring_out_no_foreign_exception(tmp_path, form):
    """Damage anywhere gives a model or a CheckpointError."""
    path = tmp_path / "model.pt"
    torch.save({"weight_ih": torch.ones(1, 1), "weight_hh": torch.ones(1, 1)}, path,
               _use_new_zipfile_serialization=form is zip_of)  # fmt: skip
    data = path.read_bytes()
    read = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x21]) + data[at + 1 :])
        with contextlib.suppress(CheckpointError):
            read += bool(load(path).stacks)
    assert 0 < read < len(data)
