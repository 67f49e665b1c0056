"""A model that is a folder: all of it is in the copy, byte by byte."""

from __future__ import annotations

import os
import shutil

import pytest
from safetensors.torch import save_file
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.write import folder_copy, patch
from rnndiag.checkpoint.write.write_back import rewrite
from rnndiag.errors import CheckpointError, OutputError
from tests.builders.changed_layers import layers_of, treated, written


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    (path / "words" / "more").mkdir(parents=True)
    (path / "empty").mkdir()
    save_file(nn.GRU(2, 3).state_dict(), path / "model.safetensors")
    for name in ("config.json", "words/vocabulary", "words/more/merges"):
        (path / name).write_text("{}" + name)
    return path


def changed_of(path):
    return {name: treated(layer) for name, layer in layers_of(load(path)).items()}


def tree(path):
    """By the system's own walk, links followed: what whoever opens the folder sees."""
    found = {}
    for place, _, files in os.walk(path, followlinks=True):
        found[os.path.relpath(place, path)] = {name: (path / place / name).read_bytes() for name in files}
    weights = found["."].pop("model.safetensors")
    return found, len(weights)


@pytest.mark.parametrize("absolute", [False, True])
def test_links_within_it(folder, tmp_path, absolute):
    """To a folder beside, to one through another link, to a file in a folder below."""
    (folder / "tokenizer").symlink_to(folder / "words" if absolute else "words")
    (folder / "words" / "again").symlink_to(folder / "tokenizer" / "more" if absolute else "../tokenizer/more")
    (folder / "first").symlink_to(folder / "words" / "vocabulary" if absolute else "words/vocabulary")
    before = tree(folder)
    written(folder, tmp_path / "new")
    shutil.rmtree(folder)  # nothing of the copy may lead back into it
    assert tree(tmp_path / "new") == before


def test_over_itself_with_links(folder):
    (folder / "tokenizer").symlink_to("words")
    before = tree(folder)
    rewrite(folder, folder, changed_of(folder), force=True)
    assert tree(folder) == before
    assert (folder / "tokenizer").is_symlink()


def test_a_snapshot_of_the_hub(folder, tmp_path):
    """Its files are links into a folder beside; others lead anywhere."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for file in ("model.safetensors", "config.json"):
        shutil.copy(folder / file, blobs)
        (snapshot / file).symlink_to(f"../../blobs/{file}")
    written(snapshot, tmp_path / "new")
    assert sorted(entry.name for entry in (tmp_path / "new").iterdir()) == ["config.json", "model.safetensors"]
    assert not any(entry.is_symlink() for entry in (tmp_path / "new").iterdir())


@pytest.mark.parametrize(
    ("target", "words"),
    [("/etc/passwd", "leads out"), ("../beside", "leads out"), ("nothing", "leads nowhere"), ("link", "leads nowhere")],
)
@pytest.mark.parametrize("place", [".", "words"])
def test_links_elsewhere(folder, tmp_path, target, words, place):
    (tmp_path / "beside").mkdir()
    target = "../" * (place != ".") + target if target.startswith("..") else target
    (folder / place / "link").symlink_to(target)
    with pytest.raises(CheckpointError, match=f"model: link is a link that {words}"):
        rewrite(folder, tmp_path / "new", changed_of(folder))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_may_not_be_read(folder, tmp_path, monkeypatch):
    listed, changed = os.scandir, changed_of(folder)

    def closed(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(CheckpointError, match=r"model: more cannot be read \(Permission denied\)"):
        rewrite(folder, tmp_path / "new", changed)


@pytest.mark.parametrize("what", ["a byte", "a file more", "a file less"])
def test_what_came_out_otherwise_is_noticed(folder, tmp_path, monkeypatch, what):
    honest = patch.apply

    def careless(parts, copy):
        honest(parts, copy)
        file = copy.parent / "words" / "more" / ("merges" if what != "a file more" else "added")
        if what == "a file less":
            file.unlink()
        else:
            file.write_text("[]words/more/merges")

    monkeypatch.setattr(patch, "apply", careless)
    with pytest.raises(OutputError, match="not written"):
        rewrite(folder, tmp_path / "new", changed_of(folder))
    assert not (tmp_path / "new").exists()


def test_a_file_is_its_only_entry(folder):
    assert [
        (folder / "config.json" / path, kind) for path, kind in folder_copy.entries(folder / "config.json").items()
    ] == [(folder / "config.json", "file")]
