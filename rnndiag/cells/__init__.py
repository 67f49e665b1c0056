"""The cells rnndiag knows: a new one is a file and a line here."""

from __future__ import annotations

from rnndiag.cells.cell import Cell
from rnndiag.cells.elman import Elman
from rnndiag.cells.gru import GRU
from rnndiag.cells.layer import CellKind
from rnndiag.cells.lstm import LSTM

CELLS: dict[CellKind, Cell] = {
    "tanh": Elman("tanh"),
    "relu": Elman("relu"),
    "gru": GRU(),
    "lstm": LSTM(),
}
