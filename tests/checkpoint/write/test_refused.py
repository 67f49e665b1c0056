"""What is not written back, and why; and that a target is written well or not at all."""

from __future__ import annotations

import os
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from rnndiag.checkpoint.write import patch
from rnndiag.checkpoint.write import target as copies
from rnndiag.checkpoint.write.write_back import check_written, rewrite
from rnndiag.errors import CheckpointError, OutputError
from tests.builders.changed_layers import digest, layers_of, own_names, treated, written


def changed_of(path):
    return {name: treated(layer) for name, layer in layers_of(load(path)).items()}


def refusal(path, target, changed=None, *, kind=CheckpointError, **options):
    """One clean line; nothing is written and nothing left over."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(kind) as caught:
        rewrite(path, target, changed_of(path) if changed is None else changed, **options)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith((f"{path}: ", f"{target}: "))
    assert sorted(target.parent.iterdir()) == before
    return text


@pytest.fixture
def model(save):
    return save(nn.LSTM(2, 3).state_dict())


@pytest.mark.parametrize("name", ["itself", "dots", "link", "hard link", "directory link"])
def test_never_over_the_input(model, tmp_path, name):
    targets = {
        "itself": model,
        "dots": tmp_path / "x" / ".." / model.name,
        "directory link": tmp_path / "y" / model.name,
    }
    (tmp_path / "x").mkdir()
    (tmp_path / "y").symlink_to(tmp_path)
    target = targets.get(name, tmp_path / "other.pt")
    if name == "link":
        target.symlink_to(model)
    if name == "hard link":
        target.hardlink_to(model)
    before = digest(model)
    assert "is the model itself" in refusal(model, target, kind=OutputError)
    assert digest(model) == before


def test_over_the_input_by_force(model):
    changed = changed_of(model)
    state = torch.load(model)
    rewrite(model, model, changed, force=True)
    wanted = own_names(changed)
    result = torch.load(model)
    assert all(torch.equal(result[name], wanted[name].float()) for name in state)


def test_over_another_file_by_force_only(model, tmp_path):
    target = tmp_path / "other.pt"
    target.write_text("precious")
    assert "exists already" in refusal(model, target, kind=OutputError)
    assert target.read_text() == "precious"
    rewrite(model, target, changed_of(model), force=True)
    assert load(target).stacks


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["no/such/folder.pt", "folder"])
def test_a_target_that_cannot_be(model, tmp_path, target, force):
    (tmp_path / "folder").mkdir()
    refusal_of = "does not exist" if "no" in target else "exists already|regular file"
    with pytest.raises(OutputError, match=refusal_of):
        rewrite(model, tmp_path / target, changed_of(model), force=force)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    save_file(nn.GRU(2, 3).state_dict(), path / "model.safetensors")
    (path / "config.json").write_text("{}")
    return path


def test_folders_are_never_written_over(folder, tmp_path):
    (tmp_path / "other").mkdir()
    for target in (tmp_path / "other", folder / "inner", folder):
        for force in (False, True)[: 1 if target is folder else 2]:
            refusal(folder, target, kind=OutputError, force=force)
    rewrite(folder, folder, changed := changed_of(folder), force=True)
    result = load(folder).stacks[0].layers[0]
    assert torch.equal(result.weight_hh, changed[result.name].weight_hh.float())
    assert sorted(entry.name for entry in folder.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("step", ["apply", "differs_elsewhere"])
def test_interrupted(model, tmp_path, monkeypatch, step):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(patch, step, interrupt)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        rewrite(model, tmp_path / "new.pt", changed_of(model))
    assert sorted(tmp_path.iterdir()) == before


def test_what_does_not_read_back_is_not_kept(model, tmp_path, monkeypatch):
    """A disk that loses what it is given."""
    monkeypatch.setattr(patch, "apply", lambda *_: None)
    assert "not written" in refusal(model, tmp_path / "new.pt", kind=OutputError)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_byte_elsewhere_is_noticed(save, tmp_path, monkeypatch, legacy):
    """Of what nothing reads: only the comparison of all bytes can tell."""
    mark = torch.tensor([1234.5678, 8765.4321], dtype=torch.float64)
    path = save({"model": nn.LSTM(2, 3).state_dict(), "optimizer": {"exp_avg": mark}}, legacy=legacy)
    honest = patch.apply

    def careless(parts, copy):
        honest(parts, copy)
        data = bytearray(copy.read_bytes())
        data[data.index(mark.numpy().tobytes())] ^= 1
        copy.write_bytes(data)

    monkeypatch.setattr(patch, "apply", careless)
    told = refusal(path, tmp_path / "new.pt", kind=OutputError)
    assert "bytes that were to stay changed" in told
    monkeypatch.setattr(patch, "differs_elsewhere", lambda *_: False)
    rewrite(path, tmp_path / "new.pt", changed_of(path))  # so that nothing else had noticed


def test_a_full_disk(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copies.shutil, "copyfile", full)
    assert "No space left" in refusal(model, tmp_path / "new.pt", kind=OutputError)


@pytest.mark.parametrize(
    ("module", "other", "words"),
    [
        (nn.RNN(2, 3), nn.GRU(2, 3), "a GRU in place of a tanh RNN"),
        (nn.RNN(2, 3), nn.RNN(2, 3, nonlinearity="relu"), "a ReLU RNN in place of a tanh RNN"),
        (nn.LSTM(2, 3), nn.LSTM(2, 4), r"weight_ih: expected \[12, 2\]"),
        (nn.GRU(2, 3, bias=False), nn.GRU(2, 3), "bias_ih has no place in the file"),
        (nn.GRU(2, 3), nn.GRU(2, 3, bias=False), "bias_hh is missing|bias_ih is missing"),
        (nn.LSTM(2, 3), nn.LSTM(2, 3, proj_size=2), "expected"),
    ],
)
def test_another_architecture(save, tmp_path, module, other, words):
    path = save(nn.ModuleDict({"rnn": module}))
    layers = layers_of(load(save(nn.ModuleDict({"rnn": other}), "other.pt")))
    with pytest.raises(CheckpointError, match=words):
        rewrite(path, tmp_path / "new.pt", layers)
    assert not (tmp_path / "new.pt").exists()


def test_a_layer_that_is_not_there(model, tmp_path):
    (layer,) = changed_of(model).values()
    assert "no layer 'nonsense'" in refusal(model, tmp_path / "new.pt", {"nonsense": layer})


@pytest.mark.parametrize(("dtype", "value"), [(torch.float16, 1e5), (torch.float32, 1e39), (torch.float64, torch.inf)])
def test_a_number_that_does_not_fit(save, tmp_path, dtype, value):
    path = save(nn.RNN(2, 3).to(dtype).state_dict())
    (layer,) = changed_of(path).values()
    layer.weight_hh[1, 1] = value
    assert f"does not fit {str(dtype)[6:]}" in refusal(path, tmp_path / "new.pt", {layer.name: layer})


@pytest.mark.parametrize("form", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrised(save, tmp_path, form):
    module = getattr(parametrizations, form)(nn.RNN(3, 3), "weight_hh_l0")
    path = save(module.state_dict())
    assert "parametrised" in refusal(path, tmp_path / "new.pt")


def test_parametrised_beside(save, tmp_path):
    """Of a layer with weight norm on one weight the others can change."""
    net = nn.ModuleDict({"rnn": parametrizations.weight_norm(nn.RNN(3, 3), "weight_hh_l0")})
    (layer,) = layers_of(load(save(net.state_dict()))).values()
    wide = layer.to(torch.float64)
    rewrite(tmp_path / "model.pt", tmp_path / "b.pt", {"rnn.l0": replace(wide, bias_hh=wide.bias_hh + 1)})
    result = torch.load(tmp_path / "b.pt")
    assert torch.equal(result["rnn.bias_hh_l0"], (net.rnn.bias_hh_l0.double() + 1).float())


def test_one_bias_for_both(tmp_path):
    draw = np.random.default_rng(0).normal
    arrays = {"U": draw(size=(4, 4)), "W": draw(size=(3, 4)), "b": draw(size=4)}
    np.savez(tmp_path / "a.npz", **arrays)
    maps = (parse_map("hh=U,ih=W,bias=b,cell=tanh,layout=columns"),)
    (layer,) = layers_of(load(tmp_path / "a.npz", Answers(maps=maps))).values()
    changed = replace(layer, weight_hh=layer.weight_hh * 2, bias_ih=layer.bias_ih - 1)
    rewrite(tmp_path / "a.npz", tmp_path / "b.npz", {layer.name: changed}, answers=Answers(maps=maps))
    with np.load(tmp_path / "b.npz") as result:
        np.testing.assert_array_equal(result["U"], arrays["U"] * 2)
        np.testing.assert_array_equal(result["W"], arrays["W"])
        np.testing.assert_array_equal(result["b"], arrays["b"] - 1)
    other = {layer.name: replace(layer, bias_hh=torch.ones_like(layer.bias_ih))}
    assert "taken as zero" in refusal(tmp_path / "a.npz", tmp_path / "c.npz", other, answers=Answers(maps=maps))


def test_layers_that_share_one_weight(save, tmp_path):
    one, other = nn.RNN(2, 3), nn.RNN(2, 3)
    other.weight_hh_l0 = one.weight_hh_l0
    path = save(nn.ModuleDict({"one": one, "other": other}).state_dict())
    changed = changed_of(path)
    assert "share numbers" in refusal(path, tmp_path / "new.pt", {"one.l0": changed["one.l0"]})
    rewrite(path, tmp_path / "new.pt", changed)
    result = torch.load(tmp_path / "new.pt")
    assert torch.equal(result["other.weight_hh_l0"], changed["one.l0"].weight_hh.float())


def test_a_tensor_that_overlaps(save, tmp_path):
    weight = torch.randn(4, 3)
    path = save({"rnn.weight_hh_l0": torch.randn(4, 4), "rnn.weight_ih_l0": weight, "tied": weight.T})
    changed = changed_of(path)["rnn.l0"]
    rewrite(path, tmp_path / "new.pt", {"rnn.l0": changed})  # weight_ih stays
    moved = replace(changed, weight_ih=changed.weight_ih + 1)
    assert "another tensor" in refusal(path, tmp_path / "newer.pt", {"rnn.l0": moved})


def test_archives_and_indices(save, tmp_path):
    path = save(nn.RNN(2, 3).state_dict())
    archive = tmp_path / "models.tar"
    with tarfile.open(archive, "w") as file:
        file.add(path, "model.pt")
    changed = changed_of(path)
    assert "unpack it first" in refusal(archive, tmp_path / "new.tar", changed)
    assert "this machine" in refusal("https://host/model.pt", tmp_path / "new.pt", changed)


def test_compressed_arrays(tmp_path):
    """One is enough, whether or not it changes: the archive would have to be packed again."""
    draw = np.random.default_rng(0).normal
    np.savez(tmp_path / "a.npz", weight_hh=draw(size=(12, 4)), weight_ih=draw(size=(12, 3)))
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("counts.npy", bytes(1000))
    words = "npz: its arrays are compressed: save it with np.savez"
    assert words in refusal(tmp_path / "a.npz", tmp_path / "b.npz")
    with pytest.raises(CheckpointError, match=words):
        check_written(tmp_path / "a.npz", tmp_path / "b.npz", force=False)


def test_special_numbers_stay(save, tmp_path):
    """NaN with its payload, infinities and the sign of zero, beside numbers that change."""
    state = nn.RNN(2, 3).state_dict()
    state["weight_hh_l0"].view(torch.int32)[0] = torch.tensor([0x7FC12345, -0x80000000, 0x7F800000], dtype=torch.int32)
    path = save(state)
    (layer,) = (layer.to(torch.float64) for layer in layers_of(load(path)).values())
    weight = layer.weight_hh.clone()
    weight[1:] += 1
    rewrite(path, tmp_path / "new.pt", {layer.name: replace(layer, weight_hh=weight)})
    result = torch.load(tmp_path / "new.pt")["weight_hh_l0"]
    assert torch.equal(result[0].view(torch.int32), state["weight_hh_l0"][0].view(torch.int32))
    assert torch.equal(result[1:], weight[1:].float())


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_mode_of_a_target_is_that_of_a_new_file(model, tmp_path):
    written(model, tmp_path / "new.pt")
    (tmp_path / "touched").touch()
    assert (tmp_path / "new.pt").stat().st_mode == (tmp_path / "touched").stat().st_mode


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="a file that cannot be read by anybody")  # noqa: PTH110
def test_an_input_that_cannot_be_read_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(CheckpointError, match=r"^/proc/self/mem: cannot be read: "):
        check_written("/proc/self/mem", tmp_path / "target.pt", force=False)
