"""Damage in a valid model of any format gives a model or one line, in bounded work, and no foreign exception."""

from __future__ import annotations

import shutil

import pytest

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import FORMATS, format_of
from rnndiag.checkpoint.search import models_in
from rnndiag.errors import CheckpointError
from tests.builders.format_files import FILES
from tests.builders.refusals import clean_line

NO_MODEL = {"npy": "one array, [2, 2] of float32"}
"""Formats whose valid files are refused, because they hold too little for a layer, and what is said of them."""

OTHER_PROCESS = ("keras", "keras-h5", "onnx")
"""Formats that are parsed in a process of its own, which takes a third of a second for each file."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:The tensor attributes? self:UserWarning"),  # torch.export's
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

EVERY = pytest.mark.parametrize(
    "valid",
    [(format_, layout) for format_, layouts in FILES.items() for layout in layouts],
    ids=lambda key: "-".join(filter(None, key)),
    indirect=True,
)


@pytest.fixture(scope="module")
def valid(request, tmp_path_factory):
    """The format, and the path of a valid model in a folder of its own."""
    format_, layout = request.param
    return format_, FILES[format_][layout](tmp_path_factory.mktemp("valid"))


@pytest.fixture
def damaged(valid, tmp_path):
    """Each file of the model with what damages it, in a copy of the folder: ``model, damage`` for each file."""
    _, path = valid
    folder = path if path.is_dir() else path.parent
    copied = shutil.copytree(folder, tmp_path / "copy")
    model = copied if path.is_dir() else copied / path.name
    files = sorted(file for file in copied.rglob("*") if file.is_file())

    def each():
        for file in files:
            whole = file.read_bytes()
            yield model, whole, file.write_bytes
            file.write_bytes(whole)

    return list(files), each


def spread(valid, size, small, processes):
    """The places to damage: each byte of a small file, 300 of a large file, fewer where each takes a process."""
    count = processes if valid[0] in OTHER_PROCESS else size if size < small else 300
    return sorted({*range(0, size, -(-size // count)), size - 1})


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 0x21]) + data[at + 1 :]


def layers(model):
    return {layer.name: layer for stack in model.stacks for layer in stack.layers}


def parameters(layer):
    """The dtype, the shape and the bytes of each parameter, by name."""
    return {name: (p.dtype, p.shape, p.contiguous().numpy().tobytes()) for name, p in layer.parameters.items()}


def test_every_format_has_a_valid_file():
    """A format that is registered is tested here by its entry in ``FILES``."""
    assert FILES.keys() == {each.name for each in FORMATS}


@EVERY
def test_the_valid_file_is_read(valid, refusal):
    format_, path = valid
    assert format_of(path).name == format_
    if format_ in NO_MODEL:
        assert NO_MODEL[format_] in refusal(path)
    else:
        assert load(path).source.format == format_
        assert load(path).stacks


@EVERY
def test_a_search_through_folders_finds_it(valid):
    """As a file, or as a folder that is a model."""
    format_, path = valid
    found = list(models_in(path if path.is_dir() else path.parent))
    assert [layers(load(each)).keys() for each in found] == ([] if format_ in NO_MODEL else [layers(load(path)).keys()])


@EVERY
def test_every_cut_is_refused_with_one_line(valid, damaged, refusal):
    """A download that stopped, at each length.

    Of several files, some may not be needed for the layers. A model that is read although such a file is cut has the
    parameters of the valid model. Only the nonlinearity may be lost with a config file; the layer then says so.
    """
    files, each = damaged
    expected = layers(load(valid[1])) if len(files) > 1 else {}
    for model, whole, write in each():
        for stop in spread(valid, len(whole), 500, 12):
            write(whole[:stop])
            if len(files) == 1:
                refusal(model)
                continue
            try:
                found = layers(load(model))
            except CheckpointError as error:
                clean_line(error, model)
            else:
                assert found.keys() == expected.keys()
                for name, layer in found.items():
                    assert parameters(layer) == parameters(expected[name])
                    assert layer.direction == expected[name].direction
                    assert layer.cell == expected[name].cell or layer.nonlinearity_assumed


@EVERY
def test_flipped_bytes_bring_out_no_foreign_exception(valid, damaged):
    read = tried = 0
    for model, whole, write in damaged[1]():
        for at in spread(valid, len(whole), 2000, 24):
            write(flip(whole, at))
            tried += 1
            try:
                read += bool(load(model).stacks)
            except CheckpointError as error:
                clean_line(error, model)
    assert valid[0] in NO_MODEL or 0 < read < tried


DAMAGE = {
    "nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "zeros from the middle on": lambda data: data[: len(data) // 2].ljust(len(data), b"\0"),
    "zeros from the start on": lambda data: data[:16].ljust(len(data), b"\0"),
    "ones from the start on": lambda data: data[:16].ljust(len(data), b"\xff"),
    "zeros at the end": lambda data: data[: len(data) - 64].ljust(len(data), b"\0"),
    "twice": lambda data: data * 2,
    "more behind it": lambda data: data + b"\xff" * 4096,
    "more before it": lambda data: b"\xff" * 4096 + data,
    "reversed": lambda data: data[::-1],
    "flipped in the middle": lambda data: flip(data, len(data) // 2),
    "flipped at the start": lambda data: flip(data, min(9, len(data) - 1)),
}


@EVERY
def test_damage_takes_no_more_than_any_file(valid, damaged, sandbox):
    """In the sandbox: bounded work and memory, nothing executed, nothing left behind."""
    outcomes = []
    for model, whole, write in damaged[1]():
        for damage in DAMAGE.values():
            write(damage(whole))
            outcomes.append(sandbox(model))
    assert all("refused" in outcome or outcome["layers"] for outcome in outcomes)
    assert any("refused" in outcome for outcome in outcomes)
