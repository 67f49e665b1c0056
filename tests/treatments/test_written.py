"""What ``prescribe`` writes, key by key against the file it was made from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import rnndiag
from rnndiag import Settings
from rnndiag.errors import CheckpointError


def ill(scale: float = 0.3, **options: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    state = nn.RNN(4, 16, **options).double().state_dict()  # type: ignore[arg-type]
    return {key: value * scale if "weight_hh" in key else value for key, value in state.items()}


def treated(path: Path, state: dict[str, Tensor], **options: object) -> dict[str, Tensor]:
    """The state under ``rescale``."""
    torch.save(state, path)
    target = path.with_name("treated.pt")
    given = rnndiag.prescribe(path, length=40, batch=4, treatments="rescale", take="rescale", save=target, **options)  # type: ignore[arg-type]
    assert given.after is not None
    again = rnndiag.inspect(target, length=40, batch=4, **options)  # type: ignore[arg-type]
    assert again.layers == given.after.layers  # what is written is what was measured
    result: dict[str, Tensor] = torch.load(target)
    return result


def share_of(wide: Tensor, narrow: torch.dtype) -> float:
    """The share of entries that a narrower type holds exactly."""
    return float((wide.to(narrow).to(wide.dtype) == wide).double().mean())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_keeps_the_digits_that_the_measurement_has_not(tmp_path: Path, dtype: str) -> None:
    before = ill()
    after = treated(tmp_path / "model.pt", before, settings=Settings(dtype=dtype))  # type: ignore[arg-type]
    ratio = after["weight_hh_l0"] / before["weight_hh_l0"]
    assert float(ratio.std() / ratio.mean()) < 1e-15  # one factor, to float64's last digits
    assert share_of(after["weight_hh_l0"], torch.float32) < 0.1
    assert all(torch.equal(after[key], before[key]) for key in before if key != "weight_hh_l0")


@pytest.mark.parametrize("narrow", ["weight_hh_l0", "weight_ih_l0", "bias_hh_l0"])
def test_every_parameter_keeps_its_own_type(tmp_path: Path, narrow: str) -> None:
    before = {key: value.half() if key == narrow else value.float() for key, value in ill().items()}
    after = treated(tmp_path / "model.pt", before)
    assert {key: value.dtype for key, value in after.items()} == {key: value.dtype for key, value in before.items()}
    assert not torch.equal(after["weight_hh_l0"], before["weight_hh_l0"])
    assert all(torch.equal(after[key], before[key]) for key in before if key != "weight_hh_l0")


def test_a_layer_that_no_treatment_touches_keeps_its_bits(tmp_path: Path) -> None:
    before = ill(num_layers=2)
    before["weight_hh_l1"] = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64)).Q * 1.1
    after = treated(tmp_path / "model.pt", before, settings=Settings(dtype="float32"))
    assert [key for key in before if not torch.equal(after[key], before[key])] == ["weight_hh_l0"]


@pytest.mark.parametrize("what", ["another head", "other layers", "layers of a folder"])
def test_a_file_saved_anew_while_it_is_measured_is_not_mixed(tmp_path: Path, what: str) -> None:
    first, second = ({**ill(), "head.weight": torch.full((2, 16), fill)} for fill in (0.0, 1.0))
    if what != "another head":
        second["weight_hh_l0"] = second["weight_hh_l0"] * 0.9
    path, save = tmp_path / "latest.pt", torch.save
    if what == "layers of a folder":
        (tmp_path / "latest").mkdir()
        path, save = tmp_path / "latest" / "model.safetensors", save_file
    model = path if path.suffix == ".pt" else path.parent
    save(first, path)

    def meanwhile(piece: str, done: int, of: int) -> None:
        if piece.endswith("rescale"):
            save(second, path)

    with pytest.raises(CheckpointError, match="was written anew while it was measured"):
        rnndiag.prescribe(
            model, length=40, batch=4, treatments="rescale", save=tmp_path / "treated", progress=meanwhile
        )
    assert not (tmp_path / "treated").exists()
