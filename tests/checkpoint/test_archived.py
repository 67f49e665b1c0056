"""Archives of models: found by content, archives in archives one level deep, everything else named, within limits."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import archived, load
from rnndiag.errors import CheckpointError
from tests.builders.pickles import DATA, beside_layer
from tests.builders.torch_files import zip_of


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    """A zip archive; two underscores in a name stand for a dot, ``_in_`` for a slash."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", ".").replace("_in_", "/"), content)
    return file.getvalue()


def tarred(mode: str = "w:gz", /, **members: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("__", ".").replace("_in_", "/"))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def gru(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return nn.GRU(2, 3).state_dict()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def whole(content: bytes) -> Path:
        (tmp_path / "model.whl").write_bytes(content)
        return tmp_path / "model.whl"

    return whole


def skipped(model: Any) -> list[tuple[str, str, bool]]:
    return [(each.name, each.reason, each.recurrent) for each in model.source.skipped]


TEXT = b"import torch\nprint('an LSTM')\n"


def test_any_name_is_read_and_sources_are_no_noise(write: Callable[[bytes], Path]) -> None:
    nets = {name: torch_bytes(gru(i)) for i, name in enumerate(("a_in_best__th", "weights", "x__txt", "y__bin", "z"))}
    model = load(write(zipped(src_in_main__py=TEXT, README=TEXT, logo__png=b"\x89PNG\r\n\x1a\n" + bytes(99), **nets)))
    assert [stack.name for stack in model.stacks] == ["weights", "x.txt", "y.bin", "z", "a/best.th"]
    assert skipped(model) == []


@pytest.mark.parametrize("inner", [zipped, tarred], ids=["zip", "tar.gz"])
@pytest.mark.parametrize("outer", [zipped, tarred], ids=["zip", "tar.gz"])
def test_archives_in_archives_are_read(
    write: Callable[[bytes], Path], outer: Callable[..., bytes], inner: Callable[..., bytes]
) -> None:
    held = inner(net=torch_bytes(gru()), notes__txt=TEXT)
    model = load(write(outer(data_in_nets__dat=held, docs__zip=zipped(a__txt=TEXT), b__pt=torch_bytes(gru(1)))))
    assert [stack.name for stack in model.stacks] == ["b.pt", "data/nets.dat/net"]
    assert torch.equal(model.stacks[1].layers[0].weight_hh, gru()["weight_hh_l0"])
    assert skipped(model) == []


def test_deeper_archives_with_a_model_are_named(write: Callable[[bytes], Path]) -> None:
    deep = zipped(net__pt=torch_bytes(gru()))
    middle = tarred(deep__zip=deep, docs__zip=zipped(a__txt=TEXT), net__th=torch_bytes(gru(1)))
    model = load(write(zipped(middle__tgz=middle)))
    assert len(model.stacks) == 1
    ((name, reason, recurrent),) = skipped(model)
    assert (name, recurrent) == ("middle.tgz/deep.zip", True)
    assert reason == "a zip archive within two others, which is not opened: unpack the outer ones"


def test_what_looks_like_a_model_and_is_not_read_is_listed(write: Callable[[bytes], Path]) -> None:
    model = load(
        write(
            zipped(
                net__th=torch_bytes(gru()),
                broken__pt=b"PK\x03\x04" + bytes(200),
                mobile__lite=b"\x1c\0\0\0TFL3" + bytes(100),
                hostile=torch_bytes(gru(1))[:-50],
            )
        )
    )
    listed = skipped(model)
    assert [(name, recurrent) for name, _, recurrent in listed] == [
        ("broken.pt", True),
        ("hostile", True),
        ("mobile.lite", True),
    ]
    assert "TensorFlow Lite" in listed[2][1]


def test_a_setting_of_one_file_says_nothing_about_another(write: Callable[[bytes], Path]) -> None:
    torch.manual_seed(0)
    told = torch_bytes({"config": {"nonlinearity": "relu"}, "model": nn.RNN(2, 3).state_dict()})
    untold = torch_bytes(nn.RNN(2, 3).state_dict())
    model = load(write(zipped(told=told, untold=untold)))
    assert [(stack.name, stack.layers[0].cell) for stack in model.stacks] == [
        ("told.model", "relu"),
        ("untold", "tanh"),
    ]
    assert any("relu was taken for told.model" in note for note in model.notes)
    assert any("tanh was assumed for untold: the file does not say" in note for note in model.notes)


def test_notes_and_skipped_layers_name_their_file(write: Callable[[bytes], Path]) -> None:
    state = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    optimizer = {"model": gru(), "optimizer": state}
    model = load(write(zipped(a=torch_bytes(gru(1)), run__ckpt=torch_bytes(optimizer))))
    assert [name for name, _, _ in skipped(model)] == ["run.ckpt.optimizer"]


def test_settings_next_to_a_model_that_is_not_read_do_not_hide_it(
    write: Callable[[bytes], Path], refusal: Callable[[Path], str]
) -> None:
    settings, gguf = pickle.dumps({"numpy": 1}), b"GGUF" + bytes(100)
    assert "model.whl: net: a GGUF file, which" in refusal(write(zipped(a=settings, net=gguf)))
    model = load(write(zipped(a=settings, b=torch_bytes({"lr": 0.1}), net=torch_bytes(gru()))))
    assert model.source.format == "zip/torch"
    nothing = "no tensors, only settings or a vocabulary"
    assert skipped(model) == [("a", nothing, False), ("b", nothing, False)]


def test_a_copy_is_measured_once(write: Callable[[bytes], Path]) -> None:
    net = torch_bytes(gru(), legacy=True)
    model = load(write(zipped(best__th=net, model__tar__gz=tarred(weights__th=net))))
    assert len(model.stacks) == 1
    assert skipped(model) == [("model.tar.gz/weights.th", "the same file as best.th", False)]


def test_no_model_that_can_be_read(write: Callable[[bytes], Path], refusal: Callable[[Path], str]) -> None:
    lite, gguf = b"\x1c\0\0\0TFL3" + bytes(100), b"GGUF" + bytes(100)
    message = refusal(write(zipped(a=lite, b=gguf)))
    assert "a zip archive in which no model could be read: a (a TensorFlow Lite (LiteRT) model, which" in message
    assert "b (a GGUF file, which" in message
    assert "model.whl: a: a TensorFlow Lite" in refusal(write(zipped(a=lite, b=TEXT)))
    assert "a zip archive without a model: it holds a" in refusal(write(zipped(a=TEXT)))


def test_equal_files_with_other_weights_next_to_them_are_two_models(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from tests.builders.onnx_files import with_external_weights

    for number, name in enumerate("ab"):
        (tmp_path / "nets" / name).mkdir(parents=True)
        path = with_external_weights(tmp_path / "nets" / name / "m.onnx", location="weights.bin")
        weights = path.with_name("weights.bin")
        weights.write_bytes(bytes(len(weights.read_bytes()) - 1) + bytes([number]))
    with tarfile.open(tmp_path / "nets.tar", "w") as archive:
        archive.add(tmp_path / "nets", "nets")
    model = load(tmp_path / "nets.tar")
    assert skipped(model) == []
    one, other = model.stacks
    assert not torch.equal(one.layers[0].weight_ih, other.layers[0].weight_ih)


def test_an_hdf5_file_at_the_beginning_of_an_archive_is_a_member(tmp_path: Path) -> None:
    """Its bytes lie at 512, where HDF5 files may begin behind a block of the user's own."""
    pytest.importorskip("h5py")
    from tests.builders.format_files import keras_hdf5

    (tmp_path / "net.th").write_bytes(torch_bytes(gru()))
    with tarfile.open(tmp_path / "nets.tar", "w") as archive:
        archive.add(keras_hdf5(tmp_path), "first.h5")
        archive.add(tmp_path / "net.th", "net.th")
    model = load(tmp_path / "nets.tar")
    assert [stack.name.partition(".")[0] for stack in model.stacks] == ["first", "net"]
    assert model.source.format == "tar"


def test_many_files_of_one_size_are_hashed_once(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    digest = archived.sha256_of
    monkeypatch.setattr(archived, "sha256_of", lambda path: hashed.append(path.name) or digest(path))
    nets = {f"n{i}": torch_bytes(gru(i)) for i in range(5)}
    assert len({len(net) for net in nets.values()}) == 1
    assert len(load(write(zipped(**nets))).stacks) == 5
    assert sorted(hashed) == [*nets]


class TestHostile:
    """The sound part is measured whatever lies next to it, and the limits hold for the whole archive."""

    SOUND = torch_bytes(gru())

    def sound(self, path: Path) -> list[tuple[str, str, bool]]:
        model = load(path)
        assert len(model.stacks) == 1
        return skipped(model)

    def test_a_bomb_in_an_archive(self, write: Callable[[bytes], Path], sandbox: Callable[..., Any]) -> None:
        bomb = tarred(a=self.SOUND, zeros=bytes(200 << 20))
        path = write(zipped(bomb__tgz=bomb, net=self.SOUND[:-1] + b"\0"))
        outcome = sandbox(path)
        assert outcome["layers"], outcome
        assert outcome["mib"] < 100
        listed = self.sound(path)
        assert [(name, recurrent) for name, _, recurrent in listed] == [("bomb.tgz", True)]
        assert "it unpacks to more than" in listed[0][1]

    def test_a_zip_of_zips_of_zips(self, write: Callable[[bytes], Path], sandbox: Callable[..., Any]) -> None:
        content = self.SOUND
        for _ in range(30):
            content = zipped(inner__zip=content, again__zip=content) if len(content) < 1 << 20 else zipped(a=content)
        outcome = sandbox(write(content))
        assert "which is not opened" in outcome["refused"]
        assert outcome["units"] < 10_000

    def test_many_bombs(self, write: Callable[[bytes], Path], sandbox: Callable[..., Any]) -> None:
        """None of which holds a model at its beginning."""
        bomb = tarred(zeros=bytes(30 << 20))
        path = write(zipped(net=self.SOUND, **{f"z{i}": bomb + bytes([i]) for i in range(40)}))
        outcome = sandbox(path)
        assert outcome["layers"], outcome
        assert any("the search ended after" in reason for _, reason, _ in self.sound(path))

    def test_names_with_controls(self, write: Callable[[bytes], Path], refusal: Callable[[Path], str]) -> None:
        lite = b"\x1c\0\0\0TFL3" + bytes(100)
        path = write(tarred(**{"\x1b[2J\n/::error::x": lite}))
        assert r"\x1b[2J\n/::error::x: a TensorFlow Lite" in refusal(path)
        path = write(zipped(net=self.SOUND, **{"\x1b[2J\n": tarred(**{"\x9b\u202e": lite})}))
        assert [name for name, _, _ in self.sound(path)] == [r"\x1b[2J\n/\x9b\u202e"]

    def test_a_name_that_leads_out_of_an_inner_archive(self, write: Callable[[bytes], Path], tmp_path: Path) -> None:
        path = write(zipped(net=self.SOUND, inner=tarred(**{".._in_evil": torch_bytes(gru(1))})))
        ((name, reason, _),) = self.sound(path)
        assert (name, "leads out of the archive" in reason) == ("inner", True)
        assert not list(tmp_path.rglob("evil"))

    def test_members_that_take_all_the_work(
        self, write: Callable[[bytes], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archived, "MAX_ARCHIVE_UNITS", 30_000)
        greedy = beside_layer(pickle.MARK + pickle.NONE * 25_000 + pickle.LIST)
        members = {name: zip_of(tmp_path / name, greedy, DATA).read_bytes() for name in "bcd"}
        members["d"] = zip_of(tmp_path / "d", greedy, DATA | {"9": b"other"}).read_bytes()
        model = load(write(zipped(a=self.SOUND, **members)))
        assert len(model.stacks) == 2
        (copy, late) = skipped(model)
        assert copy == ("c", "the same file as b", False)
        assert (late[0], "more objects than any model needs" in late[1], late[2]) == ("d", True, True)

    def test_files_beyond_the_time_are_named(
        self, write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archived, "MAX_SECONDS", -1.0)
        with pytest.raises(CheckpointError, match="other files took -1 s; unpack the archive and name this"):
            load(write(zipped(a=self.SOUND)))
