"""The CPU seconds and the memory that hostile files cost until they are refused or skipped.

The tests limit the counted work for the same files, which is the same on every machine. The seconds here depend on the
machine: ``python benchmarks/hostile.py --output benchmarks/hostile.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from clock import machine, table  # noqa: E402

from rnndiag.files.work_budget import MAX_UNITS  # noqa: E402
from tests.builders.hostile_pickles import BOMBS, HEAPS, TENSORS  # noqa: E402
from tests.builders.pickles import DATA, beside_layer, whole  # noqa: E402
from tests.builders.torch_files import legacy_of, zip_of  # noqa: E402

SHOWN = 20
"""The number of slowest files that are listed."""


def corpus(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file of the corpus, with its name; it may be removed when the next one is asked for."""
    path = folder / "model.pt"
    for kind, attacks in {"heap": HEAPS, "tensors": TENSORS, "bomb": BOMBS}.items():
        for name, attack in attacks.items():
            yield f"{kind}: {name}", zip_of(path, beside_layer(attack), DATA | {"1": b"12"})
            if kind == "heap":
                yield f"{kind}: {name} (legacy)", legacy_of(path, whole(b"(", attack, b"t"))
    yield "HDF5: damage in a heap", ROOT / "tests" / "parsers" / "found" / "slow.h5"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    output = parser.parse_args().output
    rows = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as copies:
        command = [sys.executable, "-m", "tests.builders.sandbox", copies]
        before = os.getloadavg()[0]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as sandbox:
            assert sandbox.stdin
            assert sandbox.stdout
            sandbox.stdout.readline()
            for name, path in corpus(Path(folder)):
                print(json.dumps([str(path), MAX_UNITS]), file=sandbox.stdin, flush=True)
                outcome = json.loads(sandbox.stdout.readline())
                rows.append((outcome["seconds"], name, path.stat().st_size / 2**20, outcome["mib"]))
            sandbox.stdin.close()
    rows.sort(reverse=True)
    listed = [(name, f"{size:.1f}", f"{seconds:.2f}", f"{mib:.0f}") for seconds, name, size, mib in rows[:SHOWN]]
    total = sum(row[0] for row in rows)
    load = f"load average {before:.1f} at the start, {os.getloadavg()[0]:.1f} at the end, {os.cpu_count()} cores"
    text = "\n".join(
        [
            "# Hostile files",
            "",
            f"{machine()}",
            "",
            f"The machine was {'busy' if before > 1 else 'idle'}: {load}. CPU seconds grow with the load.",
            "",
            f"All {len(rows)} files together took {total:.0f} CPU seconds. The {SHOWN} slowest files:",
            "",
            table(("file", "MiB", "CPU seconds", "MiB of memory"), listed),
            "",
        ]
    )
    if output is None:
        print(text)
    else:
        output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
