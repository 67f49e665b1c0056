"""Files of torch.save made to harm: tensors that lie about their storages, archives that lie about their members."""

from __future__ import annotations

import pickle
import struct
import tarfile
import zipfile
from pickle import BINPERSID, EMPTY_DICT, MARK, NONE, SETITEMS, TUPLE
from typing import Any

import pytest
import torch

from tests.builders.pickles import DATA, beside_layer, number, storage, tensor, text, whole
from tests.builders.torch_files import legacy_of, zip_of

FORMS = pytest.mark.parametrize("form", [zip_of, legacy_of], ids=["zip", "legacy"])


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
