"""The cells of many libraries, read under the libraries' own names: the states are those that the library computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import rnndiag
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.load import load
from rnndiag.errors import CheckpointError
from rnndiag.trajectory import run_layer
from tests.builders import library_states

CELLS = {
    "flax.linen.LSTMCell": "lstm",
    "flax.linen.OptimizedLSTMCell": "lstm",
    "flax.linen.GRUCell": "gru",
    "flax.linen.SimpleCell": "tanh",
    "flax.nnx.LSTMCell": "lstm",
    "flax.nnx.OptimizedLSTMCell": "lstm",
    "flax.nnx.GRUCell": "gru",
    "flax.nnx.SimpleCell": "tanh",
    "haiku.LSTM": "lstm",
    "haiku.GRU": "gru",
    "haiku.VanillaRNN": "relu",
    "equinox.LSTMCell": "lstm",
    "equinox.GRUCell": "gru",
    "mlx.LSTM": "lstm",
    "mlx.GRU": "gru",
    "mlx.RNN": "tanh",
    "reservoirpy.Reservoir": "leaky_tanh",
    "reservoirpy.Reservoir with a leak per unit": "leaky_tanh",
    "resdag.ESNLayer": "leaky_tanh",
    "resdag.ESNLayer with a leak per unit": "leaky_tanh",
    "nn4n.CTRNN relu": "leaky_current_relu",
    "nn4n.CTRNN tanh": "leaky_current_tanh",
}
ANSWERS = {
    "resdag.ESNLayer": Answers(alpha=0.4),
    "nn4n.CTRNN relu": Answers(alpha=0.25),
    "nn4n.CTRNN tanh": Answers("tanh", alpha=0.25),
}
"""What the files of these libraries do not hold."""


def case(name: str) -> tuple[dict[str, np.ndarray], torch.Tensor, torch.Tensor]:
    held, inputs, states = library_states.case(name)
    return held, torch.from_numpy(inputs), torch.from_numpy(states)


def tolerance(name: str) -> dict[str, float]:
    """MLX computes sigmoid and tanh of float64 with the digits of float32."""
    return {"rtol": 1e-6, "atol": 1e-7} if name.startswith("mlx") else {"rtol": 1e-9, "atol": 1e-10}


def saved(path: Path, held: dict[str, np.ndarray]) -> Path:
    np.savez(path, **held)
    return path


@pytest.mark.parametrize("name", CELLS)
def test_states_are_the_librarys_own(tmp_path: Path, name: str) -> None:
    held, inputs, states = case(name)
    model = load(saved(tmp_path / "model.npz", held), ANSWERS.get(name, Answers()))
    (layer,) = model.stacks[0].layers
    assert layer.cell == CELLS[name]
    torch.testing.assert_close(run_layer(layer, inputs).hidden, states, **tolerance(name))
    left = [each for each in model.source.skipped if not each.name.startswith("readout_layer")]
    assert left == []


@pytest.mark.parametrize("name", [name for name in CELLS if name not in ("mlx.RNN", "haiku.VanillaRNN")])
def test_what_a_reading_assumes_is_a_note(tmp_path: Path, name: str) -> None:
    held, _, _ = case(name)
    notes = load(saved(tmp_path / "model.npz", held), ANSWERS.get(name, Answers())).notes
    library = name.split(".")[0]
    expected = {"flax": "Flax", "mlx": "MLX", "reservoirpy": "a reservoir", "resdag": "ResDAG"}.get(library, library)
    assert any(expected.lower() in note.lower() for note in notes)
    assert not any("{name}" in note for note in notes)


@pytest.mark.parametrize("name", [*ANSWERS, "nn4n.CTRNN relu"])
def test_without_the_leak_the_layer_is_skipped_by_name(tmp_path: Path, name: str) -> None:
    held, _, _ = case(name)
    with pytest.raises(CheckpointError, match="its leak alpha is not in the file: give the number with --alpha"):
        load(saved(tmp_path / "model.npz", held))


def test_a_relu_is_assumed_where_the_library_has_it_and_both_verdicts_are_compared(tmp_path: Path) -> None:
    held, _, _ = case("nn4n.CTRNN relu")
    report = rnndiag.inspect(saved(tmp_path / "model.npz", held), alpha=0.25, length=30)
    assert report.layers[0].cell == "leaky_current_relu"
    assert report.stacks[0].alternative.assumed == "relu"
    assert any(note.startswith("relu was assumed for") for note in report.notes)


@pytest.mark.parametrize("name", ["haiku.LSTM", "haiku.GRU", "flax.linen.GRUCell", "equinox.GRUCell", "mlx.LSTM"])
def test_two_cells_in_one_file_are_both_read(tmp_path: Path, name: str) -> None:
    held, inputs, states = case(name)
    twice = {f"{scope}/{own}": value for own, value in held.items() for scope in ("encoder/~", "decoder")}
    model = load(saved(tmp_path / "model.npz", twice))
    assert len(model.stacks) == 2
    for stack in model.stacks:
        torch.testing.assert_close(run_layer(stack.layers[0], inputs).hidden, states, **tolerance(name))


@pytest.mark.parametrize("name", ["flax.linen.LSTMCell", "equinox.GRUCell", "reservoirpy.Reservoir"])
def test_a_treated_cell_is_written_under_the_librarys_names(tmp_path: Path, name: str) -> None:
    held, _, _ = case(name)
    path, target = saved(tmp_path / "model.npz", held), tmp_path / "new.npz"
    prescribed = rnndiag.prescribe(path, take="init-orthogonal", save=target, length=20)
    with np.load(target) as new:
        assert new.files == list(held)
        assert any(not np.array_equal(new[own], held[own]) for own in held)
    again = rnndiag.inspect(target, length=20)
    assert again.stacks[0].gradient.log10_gain == pytest.approx(prescribed.after.stacks[0].gradient.log10_gain)


@pytest.mark.parametrize("name", CELLS)
def test_a_tensor_of_a_wrong_shape_is_one_clear_line(tmp_path: Path, name: str) -> None:
    held, _, _ = case(name)
    for own, value in held.items():
        if own.startswith("readout_layer") or value.ndim == 0 or own.endswith(("hidden_state", "_0/i/bias")):
            continue
        wrong = held | {own: value[:-1] if value.ndim == 1 else value[:, :-1]}
        if value.ndim == 2 and has_one_input_less(name, own):
            assert load(saved(tmp_path / "model.npz", wrong), ANSWERS.get(name, Answers())).stacks
            continue
        with pytest.raises(CheckpointError) as caught:
            load(saved(tmp_path / "model.npz", wrong), ANSWERS.get(name, Answers()))
        assert "\n" not in str(caught.value)


def has_one_input_less(name: str, own: str) -> bool:
    """Whether a weight without its last column is that of a sound layer with one input less."""
    return own.endswith(("weight_ih", "Wx", "Wxh", "Win", "weight_feedback", "weight_input", "input_layer.weight"))
