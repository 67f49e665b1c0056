"""``--verify``: the states of Keras layers against those of Keras itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnndiag.checkpoint import load, verification
from rnndiag.checkpoint.layers.answers import Answers
from tests.builders.keras3 import ON_NUMPY_2, kl, sequential
from tests.builders.swapped_gates import findings_of, swapped

runtime = pytest.importorskip("rnndiag.parsers.keras.runtime")  # after the builder, which chooses the backend
pytestmark = ON_NUMPY_2
VERIFY = Answers(verify=True)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = sequential(
        kl.Bidirectional(kl.LSTM(5, return_sequences=True)),
        kl.GRU(4, return_sequences=True),
        kl.GRU(4, reset_after=False, return_sequences=True),
        kl.SimpleRNN(4, activation="relu", go_backwards=True),
        dtype="float32",
    )
    path = tmp_path_factory.mktemp("keras") / "net.keras"
    model.save(path)
    return path


def test_keras_layers_agree_with_keras(keras_file: Path) -> None:
    plain, checked = load(keras_file), load(keras_file, VERIFY)
    assert len(checked.stacks) == len(plain.stacks) > 0
    (note,) = set(checked.notes) - set(plain.notes)
    assert "are those that Keras " in note


def test_no_code_of_a_keras_file_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    name = str(marker)
    path = tmp_path / "net.keras"
    code = kl.Lambda(lambda x: (open(name, "w").close(), x)[1])  # noqa: PTH123  # Keras stores no imports with it
    sequential(code, kl.GRU(4), dtype="float32").save(path)
    marker.unlink()
    runs = runtime.run(path)
    assert not marker.exists()
    monkeypatch.setattr(verification, "origin_runs", lambda *arguments, **options: runs)
    findings = findings_of("keras", path)
    assert len(verification.verified(findings, "keras", path).stacks) == 1
    assert not verification.verified(swapped(findings), "keras", path).stacks
