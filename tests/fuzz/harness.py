"""``python -m tests.fuzz.harness TARGET FOLDER [libFuzzer's options and corpora]``: fuzz until told to stop.

Files go to FOLDER, which should lie in memory, and findings to ``FOLDER/findings``; ``FOLDER/figures.json`` has the
rest. ``tests.fuzz.run`` calls it, and again after a crash.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import atheris

INSTRUMENTED = ("rnndiag", "pickle", "zipfile", "tarfile")


def main(target_name: str, folder: Path, options: list[str]) -> None:
    """Warm up on the seeds, then fuzz."""
    files, temporary, findings = (folder / name for name in ("files", "temporary", "findings"))
    for each in (files, temporary, findings):
        each.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(temporary)
    for name in [name for name in sys.modules if name.split(".")[0] in INSTRUMENTED]:
        del sys.modules[name]  # to be imported again, instrumented
    with atheris.instrument_imports(include=list(INSTRUMENTED), enable_loader_override=False):
        import rnndiag.checkpoint  # noqa: F401
        from tests.fuzz.oracle import MIB, Oracle, Watch, memory
        from tests.fuzz.targets import TARGETS
    target = TARGETS[target_name]
    corpora = [Path(option) for option in options if not option.startswith("-")]
    for encoding in (
        "cp437",
        "utf-16-le",
        "utf-16-be",
        "utf-32-le",
        "utf-32-be",
        "utf-8-sig",
        "latin-1",
        "raw-unicode-escape",
    ):
        "".encode(encoding)  # each is a module, imported on first use
    "".encode("raw-unicode-escape")
    unwatched = Oracle(target.run, files, None)
    for seed in [path for corpus in corpora[-1:] for path in sorted(corpus.iterdir())]:
        problem = unwatched.judge(seed.read_bytes())
        if problem:
            print(f"finding: seed {seed.name}: {problem}", flush=True)
    watch = Watch(folder)
    oracle = Oracle(target.run, files, watch)
    base = memory()
    runs = 0

    def run(data: bytes) -> None:
        nonlocal runs
        runs += 1
        before = len(oracle.findings)
        problem = oracle.judge(data)
        if len(oracle.findings) > before:
            name = f"{target_name}-{abs(hash(problem)):x}"
            (findings / name).write_bytes(data)
            (findings / f"{name}.txt").write_text(problem)
            print(f"finding: {problem}", flush=True)
        if not runs & 1023:
            figures = {"runs": runs, "slowest": oracle.slowest, "mib": memory() - base, "base": base}
            (folder / "figures.json").write_text(json.dumps(figures))

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if target.mutate is None or rng.random() < 0.4:
            return atheris.Mutate(data, max_size)
        return target.mutate(data, rng)[:max_size]

    arguments = [
        sys.argv[0], f"-rss_limit_mb={int(base) + MIB}", "-timeout=20", f"-max_len={target.max_len}", "-len_control=20",
        *options,
    ]  # fmt: skip
    if target.mutate:
        atheris.Setup(arguments, run, custom_mutator=mutated)
    else:
        atheris.Setup(arguments, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
