"""Mutations that keep to a format's grain: by opcode for pickles, with checksums put right for tar."""

from __future__ import annotations

import pickle
import pickletools
import random
import re
import struct
from typing import Final

NAMES: Final = (
    "os system", "builtins eval", "builtins getattr", "subprocess Popen", "torch.hub load", "socket socket",
    "collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_parameter", "torch._utils _rebuild_parameter_with_state",
    "torch._tensor _rebuild_from_type_v2", "torch.jit._pickle restore_type_tag", "torch.nn.modules.rnn GRU",
    "torch FloatStorage", "torch HalfStorage", "torch LongStorage", "torch BFloat16Storage", "torch.storage Untyped",
    "__torch__.Net RNN", "copyreg _reconstructor", "numpy.core.multiarray _reconstruct", "numpy dtype",
    "numpy._core.multiarray scalar", "numpy._core.numeric _frombuffer", "numpy ndarray", "_codecs encode",
    "torch.storage _load_from_bytes", "joblib.numpy_pickle NumpyArrayWrapper", "mymodels.nets Net",
)  # fmt: skip
WORDS: Final = (
    "storage", "module", "cpu", "0", "1", "99", "weight_ih", "weight_hh", "weight_ih_l0", "weight_hh_l0_reverse",
    "bias_hh_l0", "rnn.weight_hh_l1", "_parameters", "_buffers", "_modules", "mode", "RNN_TANH", "nonlinearity", "relu",
    "optimizer", "param_groups", "state", "parametrizations.weight_hh_l0.original0", "weight_hh_l0_g", "\n", "\x1b[2J",
    "a" * 300, ".", "", "..", "embedding.weight",
    "f4", "f8", "O8", "bfloat16", "<", ">", "latin1", "shape", "dtype", "order", "F", "C",
    "numpy_array_alignment_bytes",
)  # fmt: skip
NUMBERS: Final = (0, 1, 2, 3, 4, 8, 64, 65, 255, 2**31 - 1, 2**31, 2**61, 2**62, 2**64, -1, -2, -(2**63))


def _tokens() -> list[bytes]:
    tokens = [bytes([code]) for code in range(256)]
    tokens += [pickle.BINPUT + bytes([n]) for n in range(8)] + [pickle.BINGET + bytes([n]) for n in range(8)]
    tokens += [b"c" + name.replace(" ", "\n").encode() + b"\n" for name in NAMES]
    tokens += [b"i" + name.replace(" ", "\n").encode() + b"\n" for name in NAMES[:4]]
    tokens += [pickle.dumps(word, 2)[2:].removesuffix(b"q\0.") for word in WORDS]
    tokens += [pickle.dumps(number, 2)[2:-1] for number in NUMBERS]
    tokens += [opcode + struct.pack("<Q", 2**40) for opcode in (b"\x8d", b"\x8e", b"\x96", b"\x95")]
    return tokens


TOKENS: Final = _tokens()


def opcodes(data: bytes) -> list[bytes]:
    """A pickle cut into its operations; what does not parse stays in one piece."""
    starts = [0]
    try:
        for _, _, position in pickletools.genops(data):
            if position:
                starts.append(position)
    except Exception:  # pickletools lets out whatever damage brings
        pass
    stops = [*starts[1:], len(data)]
    pieces = [data[start:stop] for start, stop in zip(starts, stops, strict=True)]
    if data[-1:] != pickle.STOP and pieces and len(pieces[-1]) > 1:
        pieces[-1:] = [pieces[-1][:1], pieces[-1][1:]]
    return pieces


def shuffled(pieces: list[bytes], tokens: list[bytes], rng: random.Random) -> list[bytes]:
    """One to eight pieces inserted, replaced, removed, doubled, moved or repeated."""
    pieces = list(pieces) or [b""]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, token = rng.randrange(len(pieces)), rng.choice(tokens)
        other = rng.randrange(len(pieces))
        span = rng.randrange(1, 12)
        match rng.randrange(7):
            case 0:
                pieces.insert(at, token)
            case 1:
                pieces[at] = token
            case 2 if len(pieces) > 1:
                del pieces[at]
            case 3:
                pieces[at:at] = pieces[other : other + span]
            case 4:
                pieces[at], pieces[other] = pieces[other], pieces[at]
            case 5:
                pieces[at:at] = [token] * rng.choice((2, 3, 60))
            case 6 if len(pieces) > span:
                del pieces[at : at + span]
        pieces = pieces or [b""]
    return pieces


def pickled(data: bytes, rng: random.Random) -> bytes:
    """Another pickle, by opcode."""
    return b"".join(shuffled(opcodes(data), TOKENS, rng))


def script(data: bytes, rng: random.Random) -> bytes:
    """Other code, or another pickle after it."""
    code, _, pickled_part = data.partition(b"\0")
    if rng.random() < 0.7:
        return code + b"\0" + pickled(pickled_part, rng)
    return _joined(code, b"\n", CODE, rng) + b"\0" + pickled_part


CODE: Final = [
    b"class RNN(Module):",
    b"def forward(self):",
    b"torch.rnn_tanh(",
    b"torch.rnn_relu_cell(",
    b"torch.tanh(",
]
JSON: Final = [
    b'"rnn.weight_ih_l0":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}',
    b'"rnn.weight_hh_l0":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}',
    b'"__metadata__":{"nonlinearity":"relu"}', b'"dtype":"BF16"', b'"shape":[4294967296,4294967296]', b'"shape":[-1]',
    b'"data_offsets":[0,18446744073709551615]', b'"data_offsets":[8,0]', b"[[[[", b"{}", b"1e999", b'"\\ud800"', b"NaN",
]  # fmt: skip
ENTRIES: Final = [
    b"weight_ih_l0 8,3", b"weight_hh_l0 8,2", b"bias_hh_l0 8", b"weight_hr_l0 1,2", b"weight_hh_l0_reverse 8,2",
    b"weight_ih 6,3 f", b"weight_hh 6,2 f", b"embedding.weight 10,3",
    b"rnn.parametrizations.weight_hh_l0.original0 8,1",
    b"rnn.parametrizations.weight_hh_l0.original1 8,2", b"weight_hh_l0_g 8,1", b"weight_hh_l0_v 8,2",
    b"enc_w_hh 4,4", b"enc_w_ih 2,4", b"enc_b 4", b"enc.recurrent_kernel 2,6", b"enc.kernel 3,6", b"enc.bias 2,6",
    b"rnn.0.U 3,3", b"rnn.0.W 3,3", b"a.h2h.weight 4,4", b"a.i2h.weight 4,4", b"weight_orig 4,4", b"weight_u 4",
    b"parametrizations.weight_hh_l0.original 8,8", b"parametrizations.weight_hh_l0.0.base 8,8", b"weight_hh_l999 4,4",
    b"module._orig_mod.weight_hh_l0 8,2", b"x 999999999,999999999", b"weight_hh_l0 0,0", b"weight_hh_l0 8,2 !",
]  # fmt: skip
MAPPINGS: Final = [
    b"hh=*.U", b"ih=*.W", b"bias=*.b", b"cell=gru", b"cell=lstm", b"cell=relu", b"order=zrh", b"reset=before",
    b"layout=columns", b"layout=rows", b"hh=dec/*/hh", b"ih=dec/*/ih", b"bias_hh=*", b"hh=*", b"=", b"****",
]  # fmt: skip


VALUES: Final = [
    *(bytes([code]) for code in range(0x80, 0x100)), b"\x81\xa6kernel", b"\xa6params", b"\xc7\x11\x01\x93\x90",
    b"\x93\x92\x02\x03", b"\xa7float32", b"\xa8bfloat16", b"\xc4\x04abcd", b"\xb9__msgpack_chunked_array__",
    b"\xa6chunks",
    b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xcf" + b"\xff" * 8,
]  # fmt: skip


def msgpack(data: bytes, rng: random.Random) -> bytes:
    """Other values between the names of a tree."""
    return b"".join(shuffled(re.split(rb"(?=[\xa1-\xbf\xc4-\xc9])", data), VALUES, rng))


def json_like(data: bytes, rng: random.Random) -> bytes:
    """Other entries between commas."""
    return _joined(data, b",", JSON, rng)


def lines(data: bytes, rng: random.Random) -> bytes:
    """Other named tensors."""
    return _joined(data, b"\n", ENTRIES, rng)


def mapping(data: bytes, rng: random.Random) -> bytes:
    """Other settings."""
    return _joined(data, b",", MAPPINGS, rng)


def _joined(data: bytes, separator: bytes, tokens: list[bytes], rng: random.Random) -> bytes:
    return separator.join(shuffled(data.split(separator), tokens, rng))
