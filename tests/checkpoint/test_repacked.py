"""Compressed archives: what changes is packed anew, all else is not even unpacked."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from itertools import pairwise

import numpy as np
import pytest

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write import patch
from rnndiag.checkpoint.write.write_back import rewrite
from rnndiag.errors import OutputError
from tests.checkpoint.treated import layers_of, own_names, treated, written


def arrays(seed):
    draw = np.random.default_rng(seed).normal
    return {"rnn/weight_hh_l0": draw(size=(8, 8)), "rnn/weight_ih_l0": draw(size=(8, 3))}


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


class Pipe(io.BytesIO):
    """What cannot be sought in: sizes and checksums then follow the members."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise OSError

    def tell(self):
        raise OSError


def packed(path, *, others=()):
    """An archive as other tools make it, in which each member is packed in another way."""
    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.comment = b"of the archive"
        for (name, content), (kind, level) in zip(
            [*((name, npy(array)) for name, array in arrays(0).items()), *others],
            [(zipfile.ZIP_DEFLATED, 6), (zipfile.ZIP_STORED, 0), (zipfile.ZIP_DEFLATED, 1), (zipfile.ZIP_BZIP2, 9)],
            strict=False,
        ):
            member = zipfile.ZipInfo(f"{name}.npy", (1999, 12, 31, 23, 59, 58))
            member.compress_type, member.comment, member.extra = kind, b"of a member", b"\xfe\xca\x02\x00ab"
            archive.writestr(member, content, compresslevel=level)
    path.write_bytes(pipe.getvalue())
    return path


OTHERS = (("counts", npy(np.arange(3000) % 7)), ("words", npy(np.array(["a"] * 999))))


def as_they_lie(path):
    """Each member's own bytes, header and what follows included, and what the list of members says of it."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        starts = [*(member.header_offset for member in archive.infolist()), archive.start_dir]
        content = path.read_bytes()
        told = [(m.CRC, m.compress_size, m.comment, m.extra, m.date_time, m.external_attr) for m in archive.infolist()]
        raw = [content[a:b] for a, b in pairwise(starts)]
        return archive.comment, dict(zip(archive.namelist(), zip(raw, told, strict=True), strict=True))


def test_members_that_stay_are_copied_as_they_lie(tmp_path):
    path = packed(tmp_path / "a.npz", others=OTHERS)
    changed = written(path, tmp_path / "b.npz", nonlinearity="tanh")
    (comment, before), (comment_after, after) = as_they_lie(path), as_they_lie(tmp_path / "b.npz")
    assert list(before) == list(after)
    assert comment == comment_after
    assert [name for name in before if before[name] != after[name]] == ["rnn/weight_hh_l0.npy"]
    assert before["rnn/weight_hh_l0.npy"][1][2:] == after["rnn/weight_hh_l0.npy"][1][2:]
    with np.load(tmp_path / "b.npz") as result:
        np.testing.assert_array_equal(result["rnn/weight_hh_l0"], own_names(changed)["rnn.weight_hh_l0"].numpy())


@pytest.mark.parametrize("where", ["a member beside", "a comment", "the padding of a changed member's header"])
def test_another_byte_in_an_archive_is_noticed(tmp_path, monkeypatch, where):
    path = packed(tmp_path / "a.npz", others=OTHERS)
    honest = patch.apply

    def careless(parts, copy):
        honest(parts, copy)
        with zipfile.ZipFile(copy) as archive:
            comment, held = archive.comment, {m.filename: (m, bytearray(archive.read(m))) for m in archive.infolist()}
        if where == "a member beside":
            held["counts.npy"][1][-1] ^= 1
        elif where == "a comment":
            comment = b"of another"
        else:
            assert held["rnn/weight_hh_l0.npy"][1][126] == ord(" ")
            held["rnn/weight_hh_l0.npy"][1][126] = ord("\t")
        with zipfile.ZipFile(copy, "w") as archive:
            archive.comment = comment
            for member, content in held.values():
                archive.writestr(member, bytes(content))

    monkeypatch.setattr(patch, "apply", careless)
    changed = {name: treated(layer) for name, layer in layers_of(load(path, nonlinearity="tanh")).items()}
    with pytest.raises(OutputError, match="bytes that were to stay changed"):
        rewrite(path, tmp_path / "b.npz", changed, nonlinearity="tanh")
    assert not (tmp_path / "b.npz").exists()


def test_a_file_saved_anew_is_not_held_against_the_one_before(tmp_path):
    for seed in (0, 1):
        np.savez_compressed(tmp_path / "a.npz", **arrays(seed))
        changed = own_names(written(tmp_path / "a.npz", tmp_path / f"{seed}.npz", nonlinearity="tanh"))
        with np.load(tmp_path / f"{seed}.npz") as result:
            np.testing.assert_array_equal(result["rnn/weight_hh_l0"], changed["rnn.weight_hh_l0"].numpy())


BOMB = 256 << 20
WRITE = """
import resource, sys
from rnndiag.checkpoint import load
from rnndiag.checkpoint.rewrite import rewrite
from tests.checkpoint.treated import layers_of, treated
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
model = load(sys.argv[1], nonlinearity="tanh")
before = peak()
rewrite(sys.argv[1], sys.argv[2], {n: treated(la) for n, la in layers_of(model).items()}, nonlinearity="tanh")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in KiB on Linux")
def test_what_the_reader_refuses_to_unpack_is_not_unpacked_to_be_written(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", **arrays(0))
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("junk.npy", "w") as file,
    ):
        for _ in range(BOMB >> 22):
            file.write(bytes(1 << 22))
    command = [sys.executable, "-c", WRITE, str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64  # MiB
    with zipfile.ZipFile(tmp_path / "b.npz") as archive:
        assert archive.getinfo("junk.npy").file_size == BOMB
