"""The recurrent operators of an ONNX model in onnxruntime, each as a model of one operator."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from rnndiag.parsers.onnx.model import parse
from rnndiag.parsers.onnx.operators import PEEPHOLES
from rnndiag.parsers.origin import OriginRuns, Place, layers_of, probe
from rnndiag.parsers.parsed import OP_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OPSET: Final = 14
_IR_VERSION: Final = 8
_OPERATORS: Final = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM"}
_ATTRIBUTES: Final = frozenset((
    "activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size", "input_forget",
    "linear_before_reset",
))  # fmt: skip
"""Those of the operators; ``layout`` is left at steps first."""


def run(path: Path) -> OriginRuns:
    """Run each recurrent operator whose weights were recognized.

    Args:
        path: the model.

    Raises:
        RefusedError: as ``parse``.
    """
    parsed = parse(path)
    runs = OriginRuns(f"onnxruntime {onnxruntime.__version__}")
    levels: defaultdict[tuple[str, int], dict[Place, dict[str, np.ndarray]]] = defaultdict(dict)
    for place, arrays in layers_of(parsed).items():
        levels[place.module, place.level][place] = arrays
    for (module, level), directions in levels.items():
        kind = _OPERATORS[parsed.conventions[module].cell or ""]
        settings = parsed.settings[module][level]
        if settings[OP_TYPE] == kind:
            _run_level(runs, kind, settings, directions)
        else:
            reason = f"{settings[OP_TYPE]} also rounds the inputs and states of each step"
            runs.failures |= dict.fromkeys(directions, reason)
    return runs


def _run_level(
    runs: OriginRuns, kind: str, settings: Mapping[str, Any], directions: Mapping[Place, Mapping[str, np.ndarray]]
) -> None:
    places = sorted(directions, key=lambda place: place.reverse)
    stored = [directions[place] for place in places]
    given = probe(stored[0]["ih"].shape[1])
    try:
        outputs = _outputs(kind, settings, stored, given)
    except Exception as error:  # onnxruntime has a class of its own for each failure
        reason = " ".join(str(error).split())[:200]
        runs.failures |= dict.fromkeys(places, f"onnxruntime does not run it: {reason}")
        return
    for i, place in enumerate(places):
        runs.inputs[place], runs.outputs[place] = given, outputs[:, i]


def _outputs(
    kind: str, settings: Mapping[str, Any], stored: Sequence[Mapping[str, np.ndarray]], given: np.ndarray
) -> np.ndarray:
    """``Y [T, directions, B, H]`` of one operator."""
    weights = {"W": np.stack([each["ih"] for each in stored]), "R": np.stack([each["hh"] for each in stored])}
    if "bias" in stored[0]:
        weights["B"] = np.stack([each["bias"] for each in stored])
    if PEEPHOLES[0] in stored[0]:
        weights["P"] = np.stack([np.concatenate([each[name] for name in PEEPHOLES]) for each in stored])
    names = ["X", "W", "R", "B" if "B" in weights else "", "", "", *(["", "P"] if "P" in weights else [])]
    attributes = {name: value for name, value in settings.items() if name in _ATTRIBUTES}
    node = helper.make_node(kind, names, ["Y"], hidden_size=weights["R"].shape[2], **_without_size(attributes))
    graph = helper.make_graph(
        [node],
        "one_operator",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, given.shape)],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"X": given})[0])


def _without_size(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name != "hidden_size"}
