"""Files of ``torch.export.save`` in its present layout and in two older layouts."""

from __future__ import annotations

import zipfile

import torch
from torch._export.serde.schema import SCHEMA_VERSION
from torch._export.serde.serialize import serialize
from torch.export.pt2_archive._package import PT2ArchiveWriter


def present(program, path):
    torch.export.save(program, path)


def pt2_of_2_8(program, path):
    """As of PyTorch 2.8: a PT2 archive with the state_dict as one file of torch.save."""
    saved = serialize(program)
    with path.open("wb") as file, PT2ArchiveWriter(file) as archive:
        archive.write_bytes("models/model.json", saved.exported_program)
        archive.write_bytes("data/weights/model.pt", saved.state_dict)
        archive.write_bytes("data/constants/model.pt", saved.constants)
        archive.write_bytes("data/sample_inputs/model.pt", saved.example_inputs)


def zip_of_2_4(program, path):
    """As of PyTorch 2.2 to 2.7: a plain zip archive."""
    saved = serialize(program)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", saved.exported_program)
        archive.writestr("serialized_state_dict.pt", saved.state_dict)
        archive.writestr("serialized_constants.pt", saved.constants)
        archive.writestr("serialized_example_inputs.pt", saved.example_inputs)
        archive.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        archive.writestr("extra_files/notes.txt", "x")
