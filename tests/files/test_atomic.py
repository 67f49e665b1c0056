"""Files written whole: by many threads at once, with the access that any new file has."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rnndiag.files.atomic import replace_whole


@pytest.fixture(params=[0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Iterator[int]:
    before, interval = os.umask(request.param), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield request.param
    os.umask(before)
    sys.setswitchinterval(interval)


def test_no_thread_sees_another_mask(tmp_path: Path, mask: int) -> None:
    """Some write files whole while others make files the usual way: none is open to more than the mask leaves."""

    def write(thread: int) -> None:
        for i in range(1500):
            replace_whole(tmp_path / f"{thread}.whole{i % 3}", b"x" * i)
            (tmp_path / f"{thread}.plain{i}").touch()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o666 & ~mask}
    assert os.umask(mask) == mask
    assert not list(tmp_path.glob(".rnndiag*"))
