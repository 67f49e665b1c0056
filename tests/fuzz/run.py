"""``python -m tests.fuzz.run [--seconds 600] [TARGET ...]``: fuzz each target in turn, going on after a crash.

It takes the extra ``fuzz``. What was found lies in ``FOLDER/TARGET/findings`` afterwards; the figures of each run are
added to ``FOLDER/figures.jsonl``, from which docs/security.md has its table. The corpus is kept and built upon.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.fuzz.seeds import SEEDS

DONE = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
MAX_CRASHES = 20


def fuzz(target: str, seconds: float, folder: Path) -> dict[str, object]:
    """One target; its figures."""
    here = folder / target
    corpus = here / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    started, runs, crashes, findings = time.monotonic(), 0, [], []
    figures: dict[str, float] = {}
    cov = ft = corp = 0
    while (left := seconds - (time.monotonic() - started)) > 1 and len(crashes) < MAX_CRASHES:
        command = [
            sys.executable, "-m", "tests.fuzz.harness", target, str(here), f"-max_total_time={int(left)}",
            f"-artifact_prefix={here}/findings/", str(corpus), str(SEEDS / target),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        (here / f"log-{int(time.time())}.txt").write_text(done.stdout + done.stderr)
        lines = DONE.findall(done.stderr)
        if lines:
            runs += int(lines[-1][0])
            cov, ft, corp = (max(a, int(b)) for a, b in zip((cov, ft, corp), lines[-1][1:], strict=True))
        findings += re.findall(r"^finding: (.*)$", done.stdout, re.MULTILINE)
        if (here / "figures.json").exists():
            last = json.loads((here / "figures.json").read_text())
            figures = {key: max(last[key], figures.get(key, 0)) for key in ("slowest", "mib")}
        if done.returncode == 0:
            break
        crashes.append(next(iter(re.findall(r"^SUMMARY: .*$", done.stderr, re.MULTILINE)), done.stderr[-300:]))
    return {
        "target": target, "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "seconds": round(time.monotonic() - started), "runs": runs, "cov": cov, "ft": ft, "corpus": corp,
        "findings": sorted(set(findings)), "crashes": crashes, **figures,
    }  # fmt: skip


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("targets", nargs="*", help="all by default")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    for target in arguments.targets or sorted(path.name for path in SEEDS.iterdir() if path.name != "distcp"):
        figures = fuzz(target, arguments.seconds, folder)
        with (folder / "figures.jsonl").open("a") as file:
            file.write(json.dumps(figures) + "\n")
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
