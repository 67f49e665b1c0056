"""The cells rnndiag knows: a new one is a file and a line here."""

from __future__ import annotations

from rnndiag.cells.cell import Cell
from rnndiag.cells.elman import Elman
from rnndiag.cells.gru import GRU
from rnndiag.cells.gru_reset_first import GRUResetFirst
from rnndiag.cells.layer import CellKind, RecurrentLayer
from rnndiag.cells.lstm import LSTM

CELLS: dict[CellKind, Cell] = {
    "tanh": Elman("tanh"),
    "relu": Elman("relu"),
    "gru": GRU(),
    "lstm": LSTM(),
}

RESET_FIRST = GRUResetFirst()


def cell_of(layer: RecurrentLayer) -> Cell:
    """The cell that a layer runs and is differentiated by."""
    return CELLS[layer.cell] if layer.cell != "gru" or layer.reset_after else RESET_FIRST
