"""Options of the test run, and its random numbers."""

from __future__ import annotations

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="rewrite the golden files")


def pytest_collectstart(collector: pytest.Collector) -> None:
    """A net that a module draws when it is imported is the same in every run and in every order."""
    del collector
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A net that a test or its fixtures draw is the same in every run and in every order."""
    del item
    torch.manual_seed(0)
