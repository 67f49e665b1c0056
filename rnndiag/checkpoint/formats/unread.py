"""Formats that rnndiag recognizes and does not read: the name of each format, and the conversion to make."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import translate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from rnndiag.checkpoint.formats.base import Candidate

    Test = Callable[[Candidate], bool]

MAX_TABLE_ENTRIES: Final = 64
"""The largest number of components in a file of Tesseract that fit into ``HEAD_BYTES``; Tesseract has 24 kinds."""


@dataclass(frozen=True, slots=True)
class UnreadFormat:
    """One format that has no reader."""

    name: str
    recognizes: Test
    """Whether the file or folder is of this format: by its first bytes, and by its name where they are ambiguous."""
    conversion: str
    """What the user can do."""
    parts: str = ""
    """A regular expression for the names of other files that belong to it, next to the file or in the folder.

    ``{stem}`` stands for the stem of the file. If it is empty, no file next to the file belongs to it, and all in the
    folder do."""
    searched: bool = True
    """False: most files of this format hold data, so a search through folders and archives skips them."""

    @property
    def refusal(self) -> str:
        """Why a file of this format is refused, and what to do."""
        return f"{self.name}, which rnndiag does not read: {self.conversion}"


def _any(*tests: Test) -> Test:
    return lambda candidate: any(test(candidate) for test in tests)


def _all(*tests: Test) -> Test:
    return lambda candidate: all(test(candidate) for test in tests)


def _begins(*heads: bytes, at: int = 0) -> Test:
    return lambda candidate: not candidate.is_folder and candidate.head.startswith(heads, at)


def _matches(pattern: bytes) -> Test:
    """Whether the first bytes match a regular expression."""
    compiled = re.compile(pattern, re.DOTALL)
    return lambda candidate: not candidate.is_folder and compiled.match(candidate.head) is not None


def _named(*patterns: str) -> Test:
    matched = re.compile("|".join(map(translate, patterns)), re.IGNORECASE).match
    return lambda candidate: matched(candidate.path.name) is not None


def _file_named(*patterns: str) -> Test:
    return _all(lambda candidate: not candidate.is_folder and candidate.size > 0, _named(*patterns))


def _json(*members: bytes) -> Test:
    """Whether it is a JSON object with one of these texts among its first bytes."""
    return _all(_matches(rb"\s*\{"), lambda candidate: any(member in candidate.head for member in members))


def _holds(*names: str) -> Test:
    """Whether it is a folder with all these entries."""
    return lambda candidate: candidate.is_folder and candidate.names.issuperset(names)


def _next_to_openvino(candidate: Candidate) -> bool:
    return _IR(candidate.sibling(".xml")) is not None


def _is_traineddata(candidate: Candidate) -> bool:
    """Whether it is a table of offsets as Tesseract writes it: the first component follows the table directly."""
    head = candidate.head
    count = int.from_bytes(head[:4], "little")
    if not 1 < count <= MAX_TABLE_ENTRIES or len(head) < 4 + 8 * min(count, MAX_TABLE_ENTRIES - 1):
        return False
    listed = [head[4 + 8 * i : 12 + 8 * i] for i in range(min(count, MAX_TABLE_ENTRIES - 1))]
    places = [place for place in (int.from_bytes(each, "little", signed=True) for each in listed) if place != -1]
    return bool(places) and places[0] == 4 + 8 * count and places == sorted(places) and places[-1] <= candidate.size


_IR: Final = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<net\b[^>]*\bversion=", re.DOTALL).match
_GIVE_ORIGIN: Final = "give the model that it was converted from"

UNREAD: Final[tuple[UnreadFormat, ...]] = (
    UnreadFormat(
        "a TensorFlow SavedModel",
        _any(_holds("saved_model.pb"), _holds("saved_model.pbtxt"), _file_named("saved_model.pb", "saved_model.pbtxt")),
        "load it with tf_keras.models.load_model and save it as .keras, or read its variables with"
        " tf.train.load_checkpoint('FOLDER/variables/variables') and save them with numpy.savez",
        parts=r"saved_model\.pb(?:txt)?|keras_metadata\.pb|fingerprint\.pb|variables|assets(?:\.extra)?",
    ),
    UnreadFormat(
        "a TensorFlow checkpoint",
        _any(_matches(rb"\0\0.\x08.{1,10}?\x1a\x02\x08"), _file_named("*.data-?????-of-?????", "*.ckpt*.meta")),
        "read its variables with tf.train.load_checkpoint and save them with numpy.savez",
        parts=r".*\.data-\d{5}-of-\d{5}|.*\.meta",
    ),
    UnreadFormat(
        "a TensorFlow graph (frozen, .pb)",
        _all(_matches(rb"\n[\x01-\xff][\x01-\x7f]{0,4}?\n[\x01-\x7f][\w./-]+\x12[\x01-\x7f][A-Z]\w+"), _named("*.pb")),
        "give the checkpoint that it was frozen from, or convert it with python -m tf2onnx.convert --graphdef",
    ),
    UnreadFormat(
        "a TensorFlow Lite (LiteRT) model",
        _begins(b"TFL3", at=4),
        "give the Keras model that it was converted from, or convert it with python -m tf2onnx.convert --tflite",
    ),
    UnreadFormat(
        "a TensorFlow.js model",
        _any(
            _json(b'"modelTopology"', b'"weightsManifest"', b'"layers-model"', b'"graph-model"'),
            _file_named("group*-shard*of*.bin", "group*-shard*of*"),
        ),
        "convert it with tensorflowjs_converter --input_format tfjs_layers_model --output_format keras model.json"
        " model.h5",
        parts=r"group\d+-shard\d+of\d+(?:\.bin)?",
    ),
    UnreadFormat(
        "an Orbax checkpoint",
        _any(
            _holds("_CHECKPOINT_METADATA"),
            _holds("_METADATA"),
            _holds("manifest.ocdbt"),
            _file_named("_checkpoint_metadata", "_metadata", "manifest.ocdbt"),
        ),
        "restore it with orbax.checkpoint.PyTreeCheckpointer and save its arrays by name with numpy.savez",
    ),
    UnreadFormat(
        "a Core ML model",
        _any(
            _all(_named("*.mlpackage"), _holds("Manifest.json")),
            _all(_named("*.mlmodelc"), _holds("coremldata.bin")),
            _all(_named("*.mlmodel"), _begins(b"\x08")),
        ),
        f"{_GIVE_ORIGIN}",
    ),
    UnreadFormat(
        "an OpenVINO model",
        _any(
            _all(lambda candidate: _IR(candidate.head) is not None, _named("*.xml")),
            _all(_file_named("*.bin"), _next_to_openvino),
        ),
        f"{_GIVE_ORIGIN}, such as an .onnx file",
        parts=r"{stem}\.bin",
    ),
    UnreadFormat(
        "a Tesseract model (.traineddata)",
        _is_traineddata,
        "no program converts it; your own code can read its matrices and give rnndiag the net with --import",
    ),
    UnreadFormat(
        "a Paddle model",
        _any(
            _matches(rb"\n.{1,5}?\x08\0\x10\xff{9}\x01"),
            _json(b'"magic":"pir"', b'"magic": "pir"'),
            _file_named("*.pdiparams"),
        ),
        "convert it with paddle2onnx, or save the arrays of paddle.load with numpy.savez",
    ),
    UnreadFormat(
        "an MXNet model",
        _any(_begins(b"\x12\x01" + bytes(14)), _all(_named("*-symbol.json"), _json(b'"nodes"'))),
        "read its .params file with mxnet.nd.load and save the arrays with numpy.savez",
    ),
    UnreadFormat(
        "a MATLAB file",
        _begins(b"MATLAB 5.0 MAT-file", b"MATLAB 7.3 MAT-file"),
        "read it with scipy.io.loadmat (version 7.3: with h5py) and save the weights with numpy.savez",
        searched=False,
    ),
    UnreadFormat(
        "a GGUF file",
        _begins(b"GGUF"),
        f"{_GIVE_ORIGIN}, such as a .safetensors file",
    ),
    UnreadFormat(
        "a model in ONNX Runtime's own format",
        _begins(b"ORTM", at=4),
        "give the .onnx file that it was made from",
    ),
    UnreadFormat(
        "a DyNet model",
        _begins(b"#Parameter# ", b"#LookupParameter# "),
        "load it with DyNet and save the arrays of its parameters with numpy.savez",
    ),
)
"""The first that recognizes a file names it. A new format is one entry."""


def unread_format(candidate: Candidate) -> UnreadFormat | None:
    """The format of a file or folder that no reader accepts; None if it is not in the table."""
    return next((each for each in UNREAD if each.recognizes(candidate)), None)
