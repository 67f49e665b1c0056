"""Formats without a reader are named in the refusal, with the conversion to make, and found by a search."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.formats.registry import FORMATS, SUFFIXES
from rnndiag.checkpoint.formats.unread import UNREAD, UnreadFormat
from rnndiag.checkpoint.search import Search
from tests.builders.format_files import FILES
from tests.builders.unread_files import UNREAD_FILES
from tests.paths import ROOT

pytestmark = [
    pytest.mark.filterwarnings("ignore:The tensor attributes? self:UserWarning"),  # torch.export's
    pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning"),
    pytest.mark.filterwarnings("ignore:`isinstance:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

KNOWN = {each.name: each for each in UNREAD}
EVERY = pytest.mark.parametrize(
    ("name", "layout"), [(name, layout) for name, layouts in UNREAD_FILES.items() for layout in layouts]
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_every_unread_format_has_a_file() -> None:
    assert UNREAD_FILES.keys() == KNOWN.keys()


def test_the_documentation_names_every_conversion_and_every_name_of_a_model() -> None:
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").replace("`", "")
    for unread in UNREAD:
        assert f"| {unread.conversion} |" in text, unread.name
    (named,) = re.findall(r"ends like that of a model \((.*?)\)", text, re.DOTALL)
    assert set(re.split(r",\s+", named)) == {*SUFFIXES, ".index.json"}


@EVERY
def test_it_is_named_with_the_conversion(refusal: Callable[[Path], str], place: Path, name: str, layout: str) -> None:
    path = UNREAD_FILES[name][layout](place)
    assert refusal(path) == f"{path}: {name}, which rnndiag does not read: {KNOWN[name].conversion}"


@EVERY
def test_a_search_finds_it_once(place: Path, name: str, layout: str) -> None:
    path = UNREAD_FILES[name][layout](place)
    path = place if path.name == "saved_model.pb" else path
    expected = [path] if KNOWN[name].searched else []
    assert list(Search("here").models_in(place)) == expected
    assert list(Search("here").models_in(path if path.is_dir() else place)) == expected


@EVERY
def test_an_archive_lists_it_next_to_its_models(place: Path, name: str, layout: str) -> None:
    known, path = KNOWN[name], UNREAD_FILES[name][layout](place)
    path = place if path.name == "saved_model.pb" else path
    torch.save(nn.GRU(2, 3).state_dict(), place / "zzz")
    with tarfile.open(place.parent / "all.tgz", "w:gz") as archive:
        archive.add(place, "all")
    model = load(place.parent / "all.tgz")
    assert len(model.stacks) == 1
    listed = [(each.name, each.reason, each.recurrent) for each in model.source.skipped]
    expected = (f"all/{path.relative_to(place)}".removesuffix("/."), known.refusal, True)
    assert listed == ([expected] if known.searched else [])


@pytest.mark.parametrize("unread", UNREAD, ids=lambda unread: unread.name)
def test_no_format_that_is_read_is_taken_for_another(tmp_path: Path, unread: UnreadFormat) -> None:
    from rnndiag.checkpoint.formats.base import Candidate

    for format_, layouts in FILES.items():
        if format_ in ("keras", "keras-h5", "onnx", "sharded", "huggingface"):
            continue  # they need libraries that may be missing; the next test covers their order
        for layout, build in layouts.items():
            folder = tmp_path / f"{format_}{layout}"
            folder.mkdir()
            assert not unread.recognizes(Candidate(build(folder))), format_
    assert len(FORMATS) >= len(FILES)


def test_weights_of_openvino_are_named_by_the_graph_next_to_them(refusal: Callable[[Path], str], place: Path) -> None:
    path = UNREAD_FILES["an OpenVINO model"][""](place)
    assert ": an OpenVINO model, which" in refusal(path.with_suffix(".bin"))
    path.unlink()
    assert "of no known format" in refusal(path.with_suffix(".bin"))


@pytest.mark.parametrize(
    "content",
    [b"(dp0\nVrnn\np1\nI1\ns.", b"(lp0\nI1\na.", b"}q\x00(U\x03rnnq\x01K\x01u.", b"cmodels\nNet\np0\n(tp1\nRp2\n."],
    ids=["dict", "list", "protocol 1", "class"],
)
def test_a_pickle_of_an_early_protocol_is_no_text(
    refusal: Callable[[Path], str], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "model").write_bytes(content)
    assert "a text file" not in refusal(tmp_path / "model")
