"""The cells that rnndiag measures. A new cell is a file, a line here and a line in ``rnndiag.kinds``."""

from __future__ import annotations

from rnndiag.cells.cell import Cell
from rnndiag.cells.elman import Elman
from rnndiag.cells.gru import GRU
from rnndiag.cells.gru_reset_first import GRUResetFirst
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.cells.leaky import Leaky, LeakyCurrent
from rnndiag.cells.linear import Linear
from rnndiag.cells.lstm import LSTM

CELLS: dict[str, Cell] = {
    "tanh": Elman("tanh"),
    "relu": Elman("relu"),
    "linear": Linear(),
    "gru": GRU(),
    "lstm": LSTM(),
    "hard_sigmoid_lstm": LSTM(),
    "hard_sigmoid_gru": GRU(),
    "relu_lstm": LSTM(),
    "relu_gru": GRU(),
    "leaky_tanh": Leaky("tanh"),
    "leaky_relu": Leaky("relu"),
    "leaky_current_tanh": LeakyCurrent("tanh"),
    "leaky_current_relu": LeakyCurrent("relu"),
    "layernorm_lstm": LSTM(),
    "layernorm_gru": GRU(),
    "peephole_lstm": LSTM(),
    "batchnorm_lstm": LSTM(),
}

RESET_FIRST = GRUResetFirst()


def cell_of(layer: RecurrentLayer) -> Cell:
    """The cell that a layer runs and is differentiated by."""
    return CELLS[layer.cell] if layer.reset_after else RESET_FIRST
