"""The version of rnndiag. No module imports the package root to get it."""

from __future__ import annotations

__version__ = "0.1.0"
