"""What was found in a file, right and with a mistake in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from rnndiag.checkpoint.formats import parser_process
from rnndiag.checkpoint.layers.find import Findings, find


def findings_of(format_: str, path: Path) -> Findings:
    return find(parser_process.parse(format_, path, extra=format_))


def swapped(findings: Findings) -> Findings:
    """The findings with two blocks of the first layer's recurrent weight in each other's place."""
    (first, *rest) = findings.stacks
    layer = first.layers[0]
    blocks = list(layer.weight_hh.split(layer.hidden_size))
    wrong = replace(layer, weight_hh=torch.cat([blocks[1], blocks[0], *blocks[2:]]))
    return replace(findings, stacks=(replace(first, levels=((wrong,), *first.levels[1:])), *rest))
