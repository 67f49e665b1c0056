"""At home in CI: the pytest helper, the GitHub action's own script, the pre-commit hook."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from rnndiag.__main__ import run
from rnndiag.testing import assert_healthy
from tests.paths import ROOT, SAMPLES


def test_assert_healthy() -> None:
    report = assert_healthy(SAMPLES / "gru.pt", length=64, fail_on="warning")
    assert report.verdict == "healthy"
    with pytest.raises(
        AssertionError, match=r"saturated_tanh.pt is vanishing: .*\n  error VAN001 gradient-vanishes in rnn"
    ):
        assert_healthy(SAMPLES / "saturated_tanh.pt", length=64)
    with pytest.raises(AssertionError, match="warning SAT001"):
        assert_healthy(SAMPLES / "saturated_tanh.pt", length=64, fail_on="warning")
    with pytest.raises(AssertionError, match="RNN is vanishing"):
        assert_healthy(torch.nn.RNN(2, 3))
    with pytest.raises(AssertionError, match="step is exploding"):
        assert_healthy(lambda h, x: 2 * h + x, torch.zeros(2), torch.randn(30, 2))


@pytest.mark.parametrize(("model", "code"), [("gru", 0), ("vanishing_tanh", 1), ("missing", 2)])
def test_the_actions_script(tmp_path: Path, model: str, code: int) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    step = action["runs"]["steps"][-1]
    assert set(action["inputs"]) == {re.search(r"inputs\.(\w+)", value)[1] for value in step["env"].values()}
    summary = tmp_path / "summary.md"
    summary.touch()
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RNNDIAG_PATHS": f"{SAMPLES / model}.pt",
            "RNNDIAG_ARGS": "--T 64 --seed 1",
            "RUNNER_TEMP": str(tmp_path),
            "GITHUB_STEP_SUMMARY": str(summary),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("VAN001" in summary.read_text(encoding="utf-8")) == (code == 1)
    assert ("::error" in done.stdout) == (code == 1)


def test_the_pre_commit_hook() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    matching = [str(p) for p in sorted(SAMPLES.iterdir()) if re.search(hook["files"], p.name) and "gru" in p.name]
    assert matching == [str(SAMPLES / "gru.pt")]
    assert run([*shlex.split(hook["entry"])[1:], *matching, "--T", "64"]) == 0
