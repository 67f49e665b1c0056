"""What reading one small LSTM out of a checkpoint of many gigabytes takes: seconds and memory beyond importing torch.

    python benchmarks/reading.py --gib 20 --output benchmarks/reading.md

The checkpoints are sparse where the format allows it; torch's takes its size on the disk. The alternative
is ``torch.load`` with and without ``mmap``, the latter on a file of one gigabyte only.
"""

from __future__ import annotations

import argparse
import json
import platform
import struct
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch
from torch import nn

BLOCK = 1 << 28  # float32 numbers: 1 GiB

READ = """
import json, sys, time
import torch
import rnndiag.checkpoint
path, how = sys.argv[1:]

def peak():  # getrusage's would be the parent's where that is larger
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])

before = peak()
start = time.perf_counter()
if how == "rnndiag":
    model = rnndiag.checkpoint.load(path)
    weight = model.stacks[0].layers[0].weight_hh
else:
    state = torch.load(path, mmap=how == "mmap", weights_only=True)
    weight = state["rnn.weight_hh_l0"]
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "mib": (peak() - before) / 1024, "sum": float(weight.double().sum())}))
"""


def lstm() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"rnn.{name}": value for name, value in nn.LSTM(64, 128).state_dict().items()}


def write_torch(path: Path, gib: int) -> None:
    """By torch.save, the large tensors mapped from a file of zeros so that they take no memory."""
    with tempfile.NamedTemporaryFile(dir=path.parent) as zeros:
        zeros.truncate(4 * BLOCK)
        blocks = {}
        for i in range(gib):
            storage = torch.UntypedStorage.from_file(zeros.name, shared=False, nbytes=4 * BLOCK)
            blocks[f"block.{i}.weight"] = torch.empty(0).set_(storage).view(-1, 4096)
        torch.save(blocks | lstm(), path)


def write_safetensors(path: Path, gib: int) -> None:
    """The layout of the format, sparse: its own writer would need the tensors in memory."""
    header: dict[str, object] = {}
    at = 0
    for i in range(gib):
        header[f"block.{i}.weight"] = {
            "dtype": "F32",
            "shape": [BLOCK // 4096, 4096],
            "data_offsets": [at, at + 4 * BLOCK],
        }
        at += 4 * BLOCK
    tensors = lstm()
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.seek(4 * BLOCK * gib, 1)
        for value in tensors.values():
            file.write(value.numpy().tobytes())


def measured(path: Path, how: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", READ, str(path), how], capture_output=True, text=True, check=True)
    outcome: dict[str, float] = json.loads(done.stdout)
    assert outcome["sum"] == float(lstm()["rnn.weight_hh_l0"].double().sum())
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows = []
    for name, write, gib, ways in (
        ("small.pt", write_torch, 1, ("rnndiag", "mmap", "whole")),
        ("large.pt", write_torch, given.gib, ("rnndiag", "mmap")),
        ("large.safetensors", write_safetensors, given.gib, ("rnndiag",)),
    ):
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            path = Path(folder) / name
            write(path, gib)
            for how in ways:
                outcome = min((measured(path, how) for _ in range(3)), key=lambda run: run["seconds"])
                what = {"rnndiag": "rnndiag", "mmap": "torch.load(mmap=True)", "whole": "torch.load"}[how]
                rows.append(
                    f"| {path.suffix} of {gib} GiB | {what} | {outcome['seconds']:.3f} | {outcome['mib']:.0f} |"
                )
                print(rows[-1], file=sys.stderr)
    text = "\n".join(
        [
            "# Reading one LSTM out of a large checkpoint",
            "",
            f"`python benchmarks/reading.py --gib {given.gib}`, {date.today().isoformat()}, {platform.machine()},"
            f" Python {platform.python_version()}, torch {torch.__version__}; an LSTM of 128 units"
            " beside blocks of 1 GiB; least of three runs, beyond importing torch and rnndiag's reader.",
            "",
            "| file | read by | seconds | MiB |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
