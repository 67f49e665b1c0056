"""Cells of many kinds as live modules, pickled modules and files: each is measured right or refused by name.

pytest -m index tests/checkpoint/live/test_forms.py   # the 41 cells of torchrecurrent too
"""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from rnndiag import checkpoint
from rnndiag.checkpoint import module as live
from rnndiag.checkpoint.model import Model
from tests.builders import live_cells
from tests.builders.layernorm_cells import SPELLINGS, ForJit
from tests.builders.outcomes import PLAIN, outcome, own_run

CELLS = SPELLINGS | {
    "peephole": (live_cells.Peephole, "pair"),
    "tau gate": (live_cells.TauGate, "single"),
    "mut": (live_cells.Mut, "single"),
    "two states": (live_cells.Oscillators, "spread"),
    "clipped": (live_cells.ClippedLSTM, "pair"),
}
FORMS = ("live", "pickled", "file")


def inputs(width: int) -> Tensor:
    return torch.randn(6, 2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def loader(form: str, cell: nn.Module, folder: Path) -> Callable[[], Model]:
    net = nn.ModuleDict({"decoder": cell})
    if form == "live":
        return lambda: live.load(net)
    torch.save(net if form == "pickled" else net.state_dict(), folder / "net.pt")
    return lambda: checkpoint.load(folder / "net.pt")


def allowed(form: str, cell: nn.Module) -> set[str]:
    """A live module is measured right; a file whose tensors are PyTorch's may be assumed to be PyTorch's cell."""
    if form == "live":
        return {"right"}
    return {"right", "refused"} | ({"assumed"} if {name for name, _ in cell.named_parameters()} <= PLAIN else set())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CELLS)
def test_own_cells(name: str, form: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    cls, called = CELLS[name]
    cell, x = cls(), inputs(3)
    assert outcome(loader(form, cell, tmp_path), "decoder", x, own_run(cell, called, x)) in allowed(form, cell)


def test_a_scripted_cell() -> None:
    torch.manual_seed(1)
    cell, x = ForJit(), inputs(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out
        scripted = torch.jit.script(cell)
        found = outcome(
            lambda: live.load(nn.ModuleDict({"decoder": scripted})), "decoder", x, own_run(cell, "output pair", x)
        )
    assert found == "right"


TORCHRECURRENT = (
    "ATR", "AntisymmetricRNN", "BR", "CFN", "DSGU", "FastGRNN", "FastRNN", "GatedAntisymmetricRNN", "IndRNN",
    "IntersectionRNN", "JANET", "LEM", "LiGRU", "LightRU", "MCLSTM", "MGU", "MUT1", "MUT2", "MUT3", "MiRU1", "MiRU2",
    "MinimalRNN", "MultiplicativeLSTM", "NAS", "NBR", "OriginalLSTM", "PeepholeLSTM", "RAN", "ResLSTM", "SCRN", "SGRN",
    "SGU", "STAR", "TGRU", "TLSTM", "TRNN", "UGRNN", "UnICORNN", "WMCLSTM", "coRNN", "tauGRU",
)  # fmt: skip
"""The cell classes of the package, without ``Cell``."""


@pytest.fixture(scope="module")
def torchrecurrent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package, fetched from the index."""
    folder = tmp_path_factory.mktemp("torchrecurrent")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), "torchrecurrent==0.2.5"]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(folder)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    import torchrecurrent

    yield torchrecurrent
    sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "torchrecurrent":
            del sys.modules[name]


@pytest.mark.index
def test_no_cell_of_the_package_is_left_out(torchrecurrent: ModuleType) -> None:
    assert {name.removesuffix("Cell") for name in dir(torchrecurrent) if name.endswith("Cell")} == set(TORCHRECURRENT)


@pytest.mark.index
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", TORCHRECURRENT)
def test_cells_of_torchrecurrent(name: str, form: str, torchrecurrent: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(1)
    width = 12 if name == "IntersectionRNN" else 6  # it requires as many inputs as units
    cell = getattr(torchrecurrent, f"{name}Cell")(width, 12)
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # its biases are zero
    x = inputs(width)
    expected = recurrent_run(cell, x)
    assert outcome(loader(form, cell, tmp_path), "decoder", x, expected) in allowed(form, cell)


def recurrent_run(cell: nn.Module, x: Tensor) -> Tensor:
    """The states by the package's own interface: a decoupled cell returns its output before the state."""
    cell = type(cell).double(cell)
    decoupled = any("Decoupled" in base.__name__ for base in type(cell).__mro__)
    state, out = None, []
    with torch.no_grad():
        for each in x:
            result = cell(each, state)
            state = result[1] if decoupled else result
            out.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(out)
