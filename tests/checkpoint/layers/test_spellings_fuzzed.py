"""Files with the names of a spelling and anything else wrong: each is measured or skipped, never a crash."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnndiag.checkpoint.contents import Container, Contents, KeyPath, Unusable, in_memory
from rnndiag.checkpoint.layers.answers import Answers
from rnndiag.checkpoint.layers.find import find
from tests.builders.library_states import GOLDEN, case

with np.load(GOLDEN) as _golden:
    CASES = tuple(dict.fromkeys(key.partition("|")[0] for key in _golden))
OTHERS = {
    "tensorflow1.lstm": {"lstm_cell.kernel": (8, 20), "lstm_cell.bias": (20,)},
    "tensorflow1.gru": {
        "gru_cell.gates.kernel": (8, 10),
        "gru_cell.gates.bias": (10,),
        "gru_cell.candidate.kernel": (8, 5),
        "gru_cell.candidate.bias": (5,),
    },
    "neurogym": {"rnn.input2h.weight": (5, 3), "rnn.h2h.weight": (5, 5), "rnn.h2h.bias": (5,), "rnn.alpha": (1,)},
    "psychrnn": {"W_rec": (5, 5), "W_in": (5, 3), "b_rec": (5,), "rec_connectivity": (5, 5)},
    "joined": {"i2h.weight": (5, 8), "i2h.bias": (5,), "i2o.weight": (4, 8)},
    "dropped": {"module.weight_ih_l0": (20, 3), "weight_hh_l0_raw": (20, 5)},
    "scaled": {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "weight_hh_l0_scale": ()},
}


def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    if name in OTHERS:
        return OTHERS[name]
    return {own.replace("/", "."): value.shape for own, value in case(name)[0].items()}


SHAPES = st.lists(st.sampled_from((0, 1, 2, 3, 5, 8, 15, 20)), max_size=3).map(tuple)
DTYPES = st.sampled_from((torch.float64, torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64))


@given(st.data(), st.sampled_from((*CASES, *OTHERS)))
@settings(deadline=None, max_examples=300)
def test_anything_may_be_wrong_with_the_tensors(data: st.DataObject, name: str) -> None:
    shapes = dict(shapes_of(name))
    tensors = {}
    for own, shape in shapes.items():
        fault = data.draw(st.sampled_from(("none", "none", "none", "shape", "dtype", "missing", "unusable", "renamed")))
        if fault == "missing":
            continue
        new = data.draw(SHAPES) if fault == "shape" else shape
        dtype = data.draw(DTYPES) if fault == "dtype" else torch.float64
        leaf = Unusable("damaged") if fault == "unusable" else in_memory(torch.ones(new).to(dtype))
        tensors[data.draw(st.sampled_from(list(shapes))) if fault == "renamed" else own] = leaf
    contents = Contents(1 << 20, (Container(KeyPath(), tensors),))
    alpha = data.draw(st.sampled_from((None, 0.3, 1.0)))
    for traced in (False, True):
        findings = find(contents, Answers(alpha=alpha), traced=traced)
        for skipped in findings.skipped:
            assert "\n" not in skipped.reason
        for stack in findings.stacks:
            for layer in stack.layers:
                rows = len(layer.gates) * layer.hidden_size
                assert layer.weight_hh.shape == (rows, layer.output_size)
                assert layer.weight_ih.shape == (rows, layer.input_size)
