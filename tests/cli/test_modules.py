"""What each command imports: no more than it needs, since each module is time before the first answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import SAMPLES

HEALTHY, VANISHING = str(SAMPLES / "healthy_tanh.pt"), str(SAMPLES / "vanishing_tanh.pt")

LIBRARIES = {
    "dask", "distributed", "fsspec", "h5py", "msgspec", "numpy", "onnx", "plotext", "rich", "safetensors", "scipy",
    "torch", "yaml",
}  # fmt: skip
"""Watched; the rest comes with these."""

ALWAYS = {"cli", "errors", "files", "printable", "process", "renderers", "version"}
RULES = ALWAYS | {"kinds", "measures", "rules"}
MEASURING = RULES | {
    "api", "bench", "cells", "checkpoint", "config", "diagnose", "machine", "measuring_cost", "operators", "parsers",
    "probes", "random_nets", "report", "seeds", "theory", "trajectory", "treatments",
}  # fmt: skip
FILES = MEASURING | {"fleet"}

TORCH = {"msgspec", "numpy", "rich", "safetensors", "torch"}
DRAWN = TORCH | {"plotext"}

SIMULATE = ["simulate", "--hidden", "8", "--T", "10"]
SWEEP = ["sweep", "--sigma", "0.5:2:3", "--hidden", "8", "--T", "10"]


CASES: list[tuple[list[str], set[str], set[str]]] = [
    (["--version"], set(), ALWAYS),
    (["schema"], set(), ALWAYS),
    (["--help"], {"rich"}, ALWAYS),
    (["inspect", "--help"], {"rich"}, ALWAYS),
    (["check", "--help"], {"rich"}, ALWAYS),
    (["simulate", "--help"], {"rich"}, ALWAYS),
    (["sweep", "--help"], {"rich"}, ALWAYS),
    (["trend", "--help"], {"rich"}, ALWAYS),
    (["prescribe", "--help"], {"rich"}, ALWAYS),
    (["rules"], {"rich"}, RULES),
    (["explain", "VAN001"], {"rich"}, RULES),
    (["explain", "TRD001"], {"rich"}, RULES),
    (["inspect", HEALTHY], DRAWN, FILES),
    (["inspect", HEALTHY, "--format", "json"], TORCH - {"rich"}, FILES),
    (["check", HEALTHY], TORCH, FILES),
    (["check", HEALTHY, "--config", "settings.yaml"], TORCH | {"yaml"}, FILES),
    (SIMULATE, DRAWN, MEASURING),
    (SWEEP, DRAWN, MEASURING | {"sweep"}),
    (["compare", HEALTHY, HEALTHY], TORCH, MEASURING | {"comparison"}),
    (["prescribe", VANISHING, "--T", "20"], TORCH, MEASURING | {"prescription"}),
    (["trend", HEALTHY, VANISHING, "--order", "name", "--T", "20"], DRAWN, FILES | {"trend"}),
]
"""Arguments, the libraries and the rooms they need."""


@pytest.mark.parametrize(
    ("arguments", "libraries", "rooms"), CASES, ids=[" ".join(Path(word).name for word in case[0]) for case in CASES]
)
def test_a_command_imports_what_it_needs(
    arguments: list[str], libraries: set[str], rooms: set[str], tmp_path: Path
) -> None:
    code = (
        "import sys; from rnndiag.__main__ import run; "
        f"code = run({arguments!r}); "
        "print('imported:', *sys.modules, file=sys.stderr); sys.exit(code)"
    )
    (tmp_path / "settings.yaml").write_text("lag: 20\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    modules = [name.split(".") for name in done.stderr.rpartition("imported: ")[2].split()]
    assert {top for top, *_ in modules} & LIBRARIES == libraries
    assert {rest[0] for top, *rest in modules if top == "rnndiag" and rest} - {"__main__"} == rooms
