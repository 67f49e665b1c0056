"""Saved models: from the bytes of a file to recurrent layers, without running anything in it.

A format (``formats.registry.FORMATS``) turns a file into named tensors; ``layers.find`` turns those into stacks.
"""

from rnndiag.checkpoint.load import load, read_contents
from rnndiag.checkpoint.model import Model, Skipped, Source

__all__ = ["Model", "Skipped", "Source", "load", "read_contents"]
