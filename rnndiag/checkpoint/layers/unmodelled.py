"""Recurrent layers that rnndiag recognizes and does not model. A refusal names them; a new one is a line here."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rnndiag.checkpoint.contents import ModuleFacts, Unusable
from rnndiag.checkpoint.layers.shapes import PARAMETER
from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rnndiag.checkpoint.contents import Leaf

NOTHING_KNOWN: Final = ModuleFacts()

MAX_SHOWN: Final = 3
"""The largest number of modules of one kind that a reason names."""

_LAST: Final = chr(0x10FFFF)
"""Sorts after every character of a name."""

SIGNATURES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("a Mamba layer", ("A_log", "dt_proj.weight")),
    ("a gated DeltaNet layer", ("A_log", "dt_bias", "in_proj_qkvz.weight")),
    ("a gated DeltaNet layer", ("A_log", "dt_bias", "in_proj_qkv.weight")),
    ("a gated DeltaNet layer", ("A_log", "dt_bias", "a_proj.weight", "b_proj.weight")),
    ("a Mamba-2 layer", ("A_log", "dt_bias", "in_proj.weight")),
    ("an RWKV layer", ("time_decay", "receptance.weight", "key.weight")),
    ("an RWKV-7 layer", ("k_k", "k_a", "r_k")),
    ("an xLSTM layer (mLSTM)", ("igate.weight", "fgate.weight")),
    ("an xLSTM layer (mLSTM)", ("igate_preact.weight", "fgate_preact.weight")),
    ("an xLSTM layer (sLSTM)", ("_recurrent_kernel_",)),
    ("a multiplicative LSTM", ("wmx", "wmh", "wh")),
    ("a multiplicative LSTM", ("wmx.weight", "wmh.weight", "wh.weight")),
    ("a multiplicative LSTM", ("weight_mx", "weight_mh")),
    ("an RG-LRU layer", ("recurrent_param", "input_gate_weight")),
    ("an S4 layer", ("log_dt", "log_A_real")),
    ("an S4 layer", ("log_dt", "inv_A_real")),
    ("an S4 layer", ("log_dt", "A_real")),
    ("an S5 layer", ("Lambda_re", "Lambda_im", "log_step")),
    ("an LRU layer", ("nu_log", "theta_log")),
    ("a LinOSS layer", ("A_diag", "steps")),
    ("a minGRU layer", ("to_hidden_and_gate.weight",)),
    ("a minLSTM layer", ("to_hidden_and_f_i_gate.weight",)),
    ("an SRU layer", ("weight_c", "weight")),
    ("an IndRNN layer", ("vector_u", "weight_ih")),
    ("a Li-GRU layer", ("w.weight", "u.weight", "norm.weight")),
    ("a closed-form continuous-time cell (CfC)", ("ff1.weight", "ff2.weight", "time_a.weight")),
    ("a liquid time-constant cell (LTC)", ("gleak", "vleak", "sensory_w")),
    ("an LSTM of madmom, with an object for each gate", ("input_gate.recurrent_weights", "cell.recurrent_weights")),
    ("a gated linear attention layer", ("q_proj.weight", "gk_proj.0.weight")),
)
"""What the layer is called, and tensors that together only such a layer has, relative to its module."""

_BY_ANCHOR: Final[dict[str, list[tuple[str, tuple[str, ...]]]]] = {}
"""The signatures by the tensor that is looked for first."""
for _title, (_anchor, *_rest) in SIGNATURES:
    _BY_ANCHOR.setdefault(_anchor, []).append((_title, tuple(_rest)))

CLASSES: Final = {
    **dict.fromkeys(("mamba", "mambamixer"), "a Mamba layer"),
    **dict.fromkeys(("mamba2", "mamba2mixer"), "a Mamba-2 layer"),
    **dict.fromkeys(("convlstm", "convlstmcell", "convlstm2d", "convlstm2dcell"), "a ConvLSTM"),
    **dict.fromkeys(("convgru", "convgrucell"), "a ConvGRU"),
    **dict.fromkeys(("qrnn", "qrnnlayer"), "a QRNN layer"),
    **dict.fromkeys(("sru", "srucell", "srupp", "sruppcell"), "an SRU layer"),
    **dict.fromkeys(("indrnn", "indrnncell", "indrnnv2"), "an IndRNN layer"),
    **dict.fromkeys(("mingru", "minlstm"), "a minGRU or minLSTM layer"),
    **dict.fromkeys(("mlstm", "mlstmcell", "mlstmlayer", "slstm", "slstmcell", "slstmlayer"), "an xLSTM layer"),
    **dict.fromkeys(("liquidcell", "ltccell", "ltc", "cfc", "cfccell"), "a liquid network cell"),
    "linearrecurrentunit": "an LRU layer",
}
"""The same by the class that a file names, in lower case."""


TORCHRECURRENT: Final = {
    "ATRCell": "an addition-subtraction twin-gated cell (ATR)",
    "AntisymmetricRNNCell": "an antisymmetric RNN",
    "MUT2Cell": "a mutation of the GRU (MUT2)",
    "MUT3Cell": "a mutation of the GRU (MUT3)",
    "MiRU2Cell": "a minimal recurrent unit (MiRU2)",
    "OriginalLSTMCell": "an LSTM of 1997, without a forget gate",
    "SGRNCell": "a simple gated recurrent cell (SGRN)",
    "tauGRUCell": "a tau-GRU",
}
"""Classes of the package torchrecurrent that have the parameters of a cell of PyTorch and compute something else."""


@dataclass(frozen=True, slots=True)
class Unmodelled:
    """One module of a kind that is not modelled."""

    path: str
    title: str
    seen: tuple[str, ...]
    """Names or facts that it was recognized by."""
    tensors: tuple[str, ...]
    """All tensors of the module, by their whole names."""


def unmodelled(tensors: Mapping[str, Leaf], facts: Mapping[str, ModuleFacts]) -> list[Unmodelled]:
    """The modules among named tensors that rnndiag recognizes and does not model, in the order of the file."""
    ordered = sorted(tensors)
    by_class = {path: title for path, each in facts.items() if (title := _title_of(each.class_path))}
    for name in tensors:  # PyTorch's own modules in a module that only has the name of another kind
        module, _, own = name.rpartition(".")
        if PARAMETER.fullmatch(own) and facts.get(module, NOTHING_KNOWN).class_path.startswith("torch.nn."):
            by_class.pop(module.rpartition(".")[0], None)
    found: dict[str, Unmodelled] = {}
    for name in tensors:
        for path, title, seen in _recognized(name, tensors, by_class):
            if path not in found and not any(path.startswith(f"{other}.") for other in found):
                inside = _inside(path, ordered) if path else [part for part in seen if part in tensors]
                found[path] = Unmodelled(path, title, seen, tuple(inside))
    return list(found.values())


def _recognized(
    name: str, tensors: Mapping[str, Leaf], by_class: Mapping[str, str]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The modules that the name of one tensor reveals: path, title, and what it was recognized by."""
    path, _, own = name.rpartition(".")
    parent, _, last = path.rpartition(".")
    for owner in (parent, path):
        if by_class.get(owner):
            yield owner, by_class[owner], ("its class",)
    for tail in (own, f"{last}.{own}"):
        for title, rest in _BY_ANCHOR.get(tail, ()):
            prefix = name[: len(name) - len(tail)]
            if all(prefix + other in tensors for other in rest):
                yield prefix.removesuffix("."), title, (tail, *rest)
    shape = _shape(tensors[name])
    prefix = f"{path}." if path else ""
    fed = _shape(tensors.get(f"{prefix}weight_ih"))
    if own == "weight_hh" and len(shape) == 1 and fed[:1] == shape and f"{prefix}weight_ch" not in tensors:
        yield path, "an IndRNN layer", ("weight_hh is a vector",)
    if last == "conv" and own == "weight" and _is_convolutional(parent, shape):
        yield parent, "a ConvLSTM or ConvGRU", ("conv.weight",)


def _title_of(class_path: str) -> str:
    package, _, name = class_path.rpartition(".")
    title = CLASSES.get(name.lower(), "")
    return title or (TORCHRECURRENT.get(name, "") if package.startswith("torchrecurrent") else "")


def _is_convolutional(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a convolution feeds the gates of a cell: 3 or 4 times H channels from D + H."""
    if len(shape) not in (3, 4, 5) or not any(word in path.lower() for word in ("lstm", "gru", "cell", "rnn")):
        return False
    return any(shape[0] % gates == 0 and shape[1] > shape[0] // gates for gates in (3, 4))


def _inside(path: str, ordered: list[str]) -> list[str]:
    prefix = f"{path}."
    return ordered[bisect_left(ordered, prefix) : bisect_left(ordered, prefix + _LAST)]


def _shape(leaf: Leaf | None) -> tuple[int, ...]:
    return () if leaf is None or isinstance(leaf, Unusable) else tuple(leaf.shape)


def reasons(modules: list[Unmodelled]) -> Iterator[tuple[str, str]]:
    """The path and the reason for each kind of layer: the first module stands for the others of its kind."""
    alike: defaultdict[str, list[Unmodelled]] = defaultdict(list)
    for module in modules:
        alike[module.title].append(module)
    for title, (first, *others) in alike.items():
        more = f", like {listing([printable(other.path, 60) for other in others], MAX_SHOWN)}" if others else ""
        yield (
            first.path,
            f"recurrent, but {title} ({', '.join(first.seen[:2])}){more}: rnndiag does not model this kind of cell; "
            "--import can measure its step function",
        )
