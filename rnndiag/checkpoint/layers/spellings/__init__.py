"""The spellings that rnndiag knows beyond PyTorch's names. A new spelling is a file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.layers.spellings.batchnorm import BatchNormLSTM
from rnndiag.checkpoint.layers.spellings.dreamer import Dreamer, SheepRL
from rnndiag.checkpoint.layers.spellings.equinox import Equinox
from rnndiag.checkpoint.layers.spellings.fastrnns import FastRNNs
from rnndiag.checkpoint.layers.spellings.flax import Flax
from rnndiag.checkpoint.layers.spellings.haiku import HaikuGRU, HaikuLSTM, HaikuRNN
from rnndiag.checkpoint.layers.spellings.haste import HasteGRU, HasteLSTM
from rnndiag.checkpoint.layers.spellings.icefall import Icefall, IcefallGRU
from rnndiag.checkpoint.layers.spellings.joined_linear import JoinedLinear
from rnndiag.checkpoint.layers.spellings.leaky import NN4N, Neurogym, PsychRNN
from rnndiag.checkpoint.layers.spellings.lstm_cell_subclass import LSTMCellSubclass
from rnndiag.checkpoint.layers.spellings.mlx import MLX
from rnndiag.checkpoint.layers.spellings.peephole import GateTensors, Torchrecurrent
from rnndiag.checkpoint.layers.spellings.reservoirs import PyRCN, ResDAG, Reservoirpy
from rnndiag.checkpoint.layers.spellings.tensorflow1 import TensorFlow1, TensorFlow1GRU

if TYPE_CHECKING:
    from rnndiag.checkpoint.layers.spellings.base import Spelling

SPELLINGS: Final[tuple[Spelling, ...]] = (
    FastRNNs(),
    LSTMCellSubclass(),
    Icefall(),
    BatchNormLSTM(),
    IcefallGRU(),
    HasteLSTM(),
    HasteGRU(),
    Dreamer(),
    SheepRL(),
    Torchrecurrent(),
    GateTensors(),
    Flax(),
    HaikuLSTM(),
    HaikuGRU(),
    HaikuRNN(),
    Equinox(),
    MLX(),
    TensorFlow1(),
    TensorFlow1GRU(),
    Neurogym(),
    PsychRNN(),
    NN4N(),
    Reservoirpy(),
    ResDAG(),
    PyRCN(),
    JoinedLinear(),
)
"""In the order in which they are tried; the first that reads a module keeps its tensors."""
