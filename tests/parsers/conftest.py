from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("onnx") else ["test_onnx*.py", "test_parser_process.py"]
"""Tests of formats whose libraries are not installed."""
