"""A changed model in the format of its file: what PyTorch and the others then load, and what stayed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.mapping import parse_map
from tests.builders.changed_layers import layers_of, members_that_differ, own_names, written
from tests.builders.torch_export_files import present, pt2_of_2_8, zip_of_2_4

pytestmark = pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning",  # deprecated, its files are not
    "ignore::torch.jit.TracerWarning",
    "ignore:The tensor attributes? self:UserWarning",  # of the flat weights that nn.RNN keeps beside its parameters
    "ignore:`isinstance:FutureWarning",
    "ignore:torch.distributed is disabled, unavailable or uninitialized",
)

dcp = pytest.importorskip("torch.distributed.checkpoint")

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def assert_state(state, original, changed):
    """The treated values in the dtype they had, everything else bit for bit."""
    assert list(state) == list(original)
    for name, tensor in original.items():
        wanted = changed[name].to(tensor.dtype) if name in changed else tensor
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], wanted), name


@st.composite
def modules(draw):
    kind = draw(st.sampled_from([nn.RNN, nn.GRU, nn.LSTM]))
    hidden = draw(st.integers(2, 5))
    options = {"proj_size": draw(st.integers(0, hidden - 1))} if kind is nn.LSTM else {}
    if kind is nn.RNN:
        options["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    options |= {"bidirectional": draw(st.booleans()), "bias": draw(st.booleans())}
    module = kind(draw(st.integers(1, 4)), hidden, draw(st.integers(1, 3)), **options)
    return module.to(draw(st.sampled_from(DTYPES)))


MANY = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@MANY
@given(module=modules(), legacy=st.booleans(), seed=st.integers(0, 99))
def test_training_checkpoint(tmp_path_factory, module, legacy, seed):
    folder = tmp_path_factory.mktemp("model")
    net = nn.ModuleDict({"rnn": module, "head": nn.Linear(3, 2)})
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.square().sum() for p in net.parameters()).backward()
    optimizer.step()
    saved = {"epoch": 3, "nets": [{"state": net.state_dict()}], "optim": optimizer.state_dict(), "text": "x\n" * 99}
    torch.save(saved, folder / "a.pt", _use_new_zipfile_serialization=not legacy)
    some = set(list(layers_of(load(folder / "a.pt")))[seed % 3 :])
    changed = written(folder / "a.pt", folder / "b.pt", some)
    result = torch.load(folder / "b.pt", weights_only=True)
    assert_state(result["nets"][0]["state"], net.state_dict(), own_names(changed))
    assert result["epoch"] == 3
    assert result["text"] == saved["text"]
    for i, state in saved["optim"]["state"].items():
        assert all(torch.equal(result["optim"]["state"][i][key], value) for key, value in state.items())
    assert (folder / "a.pt").stat().st_size == (folder / "b.pt").stat().st_size
    if not legacy:
        differing = members_that_differ(folder / "a.pt", folder / "b.pt")
        assert len(differing) == sum(len(layer.parameters) - 1 for layer in changed.values())


@MANY
@given(module=modules())
def test_safetensors(tmp_path_factory, module):
    folder = tmp_path_factory.mktemp("model")
    state = {f"rnn.{key}": value for key, value in module.state_dict().items()}
    state |= {"head": torch.randn(3), "count": torch.arange(4)}
    save_file(state, folder / "a.safetensors", {"format": "pt", "who": "me"})
    changed = written(folder / "a.safetensors", folder / "b.safetensors")
    assert_state(load_file(folder / "b.safetensors"), load_file(folder / "a.safetensors"), own_names(changed))
    with safetensors.safe_open(folder / "b.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "who": "me"}


@MANY
@given(module=modules(), order=st.sampled_from("CF"), swapped=st.booleans())
def test_npz(tmp_path_factory, module, order, swapped):
    folder = tmp_path_factory.mktemp("model")
    if module.weight_hh_l0.dtype == torch.bfloat16:
        module = module.float()
    arrays = {f"enc/{name}": np.asarray(value, order=order) for name, value in module.state_dict().items()}
    if swapped:
        arrays = {name: array.astype(array.dtype.newbyteorder()) for name, array in arrays.items()}
    arrays |= {"words": np.array(["a", "bc"]), "counts": np.arange(5)}
    np.savez(folder / "a.npz", **arrays)
    changed = {
        f"enc/{name.removeprefix('enc.')}": v
        for name, v in own_names(written(folder / "a.npz", folder / "b.npz")).items()
    }
    with np.load(folder / "b.npz") as result:
        assert list(result) == list(arrays)
        for name, array in arrays.items():
            wanted = changed[name].numpy() if name in changed else array
            assert result[name].dtype == array.dtype
            assert result[name].flags.f_contiguous == array.flags.f_contiguous
            np.testing.assert_array_equal(result[name], wanted.astype(array.dtype))


@pytest.mark.parametrize("order", ["zrh", "rzn", "hrz"])
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_other_names_layouts_and_orders(tmp_path, order, layout):
    """By a map; the expected arrays are put together here, gate by gate."""
    draw = np.random.default_rng(3).normal
    arrays = {"net/U": draw(size=(12, 4)), "net/W": draw(size=(12, 3)), "net/b": draw(size=(2, 12))}
    if layout == "columns":
        arrays |= {name: arrays[name].T for name in ("net/U", "net/W")}
    np.savez(tmp_path / "a.npz", **arrays)
    maps = (parse_map(f"hh=*.U,ih=*.W,bias=*.b,cell=gru,order={order},layout={layout}"),)
    (layer,) = written(tmp_path / "a.npz", tmp_path / "b.npz", answers=Answers(maps=maps)).values()
    held = layer.blocks(layer.weight_hh), layer.blocks(layer.bias_ih), layer.blocks(layer.bias_hh)
    names = {"z": "update", "r": "reset", "h": "new", "n": "new"}
    weight, *biases = (torch.cat([blocks[names[letter]] for letter in order]).numpy() for blocks in held)
    with np.load(tmp_path / "b.npz") as result:
        np.testing.assert_array_equal(result["net/U"], weight if layout == "rows" else weight.T)
        np.testing.assert_array_equal(result["net/b"], np.stack(biases))
        np.testing.assert_array_equal(result["net/W"], arrays["net/W"])


def test_pickled_module(save, tmp_path):
    net = nn.Sequential(nn.GRU(3, 4, 2), nn.Linear(4, 1))
    changed = written(save(net), tmp_path / "b.pt")
    result = torch.load(tmp_path / "b.pt", weights_only=False)
    assert_state(result.state_dict(), net.state_dict(), own_names(changed))
    inputs = torch.randn(5, 2, 3)
    assert not torch.equal(result[0](inputs)[0], net[0](inputs)[0])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_views_of_one_storage(save, tmp_path, legacy):
    """As cuDNN keeps the weights of a module, and transposed."""
    flat = torch.randn(200)
    state = {"rnn.weight_ih": flat[:12].view(4, 3), "rnn.weight_hh": flat[20:36].view(4, 4).T, "rest": flat[100:]}
    changed = written(save(state, legacy=legacy), tmp_path / "b.pt")
    result = torch.load(tmp_path / "b.pt", weights_only=True)
    assert_state(result, state, {f"rnn.{k}": v for k, v in changed["rnn"].parameters.items()})
    assert len({tensor.untyped_storage().data_ptr() for tensor in result.values()}) == 1


def test_shared_modules_stay_shared(save, tmp_path):
    rnn = nn.GRU(2, 3)
    state = nn.ModuleDict({"a": rnn, "b": rnn}).state_dict()
    changed = own_names(written(save(state), tmp_path / "b.pt"))
    changed |= {name.replace("a.", "b."): value for name, value in changed.items()}
    assert_state(torch.load(tmp_path / "b.pt", weights_only=True), state, changed)


def sharded(folder, state):
    folder.mkdir()
    names = list(state)
    index = {}
    for i, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-{i:05}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text('{"nonlinearity": "relu"}')
    (folder / "vocabulary").mkdir()
    (folder / "vocabulary" / "words.txt").write_text("a b c")
    return folder


def test_folder_with_shards(tmp_path):
    net = nn.ModuleDict({"rnn": nn.RNN(3, 4, 2), "head": nn.Linear(4, 2)})
    path = sharded(tmp_path / "model", net.state_dict())
    changed = written(path, tmp_path / "new", {"rnn.l1"})
    result = {}
    for file in sorted((tmp_path / "new").glob("*.safetensors")):
        result |= load_file(file)
    state = {name: net.state_dict()[name] for name in result}
    assert_state(result, state, own_names(changed))
    assert (tmp_path / "new" / "vocabulary" / "words.txt").read_text() == "a b c"
    assert sorted(p.name for p in path.iterdir()) == sorted(p.name for p in (tmp_path / "new").iterdir())


def test_distributed(tmp_path):
    net = nn.ModuleDict({"rnn": nn.LSTM(3, 4, proj_size=2), "head": nn.Linear(4, 2)}).half()
    dcp.save({"net": net.state_dict(), "epoch": 3}, checkpoint_id=tmp_path / "a")
    changed = written(tmp_path / "a", tmp_path / "b")
    state = {"net": nn.ModuleDict({"rnn": nn.LSTM(3, 4, proj_size=2), "head": nn.Linear(4, 2)}).half().state_dict()}
    dcp.load(state, checkpoint_id=tmp_path / "b")
    assert_state(state["net"], net.state_dict(), own_names(changed))


@pytest.mark.parametrize("kind", ["scripted", "traced"])
def test_torchscript(tmp_path, kind):
    net = nn.Sequential(nn.GRU(3, 4))
    module = (
        torch.jit.script(net) if kind == "scripted" else torch.jit.trace(net, torch.randn(5, 2, 3), check_trace=False)
    )
    torch.jit.save(module, tmp_path / "a.pt")
    changed = written(tmp_path / "a.pt", tmp_path / "b.pt")
    result = torch.jit.load(tmp_path / "b.pt")
    assert_state(dict(result.state_dict()), net.state_dict(), own_names(changed))
    assert len(members_that_differ(tmp_path / "a.pt", tmp_path / "b.pt")) == 3


@pytest.mark.parametrize("form", [present, pt2_of_2_8, zip_of_2_4])
def test_torch_export(tmp_path, form):
    """The older two hold an archive in a member of the archive: both checksums are brought up to date."""
    net = nn.Sequential(nn.LSTM(3, 4))
    form(torch.export.export(net, (torch.randn(5, 2, 3),)), tmp_path / "a.pt2")
    changed = written(tmp_path / "a.pt2", tmp_path / "b.pt2")
    members_that_differ(tmp_path / "a.pt2", tmp_path / "b.pt2")
    assert_state(torch.export.load(tmp_path / "b.pt2").state_dict, net.state_dict(), own_names(changed))
