"""SEC: what a file would have run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rnndiag.files.text import listing
from rnndiag.rules.base import FileRule, Finding
from rnndiag.rules.words import counted

if TYPE_CHECKING:
    from rnndiag.checkpoint.model import Source

MAX_SHOWN = 4
"""names in a message"""


class HarmfulPickle(FileRule):
    """Loading the file with Python's own unpickler would run programs or code.

    What it does:
        Lists the classes and functions that the pickles of the file name. The rule fires for each name that can run
        programs or code, open files or connections, or take other objects apart: ``os.system``, ``builtins.eval``,
        ``subprocess.Popen``, ``torch.hub.load`` and many others. rnndiag neither imports nor calls any of them.

    Why is this bad:
        ``torch.load(weights_only=False)``, ``pickle.load`` and ``joblib.load`` call whatever a file names, before they
        return anything. A model needs none of these functions.

    Formula:
        None.

    Example:
        A file that names ``posix.system`` and gives it a command.

    What to do:
        Do not load the file with these functions. Find out where the file comes from. Keep models as safetensors, or as
        a state_dict, which ``torch.load(weights_only=True)`` loads.

    Thresholds:
        one name.

    References:
        The documentation of Python's pickle module: "It is possible to construct malicious pickle data".
    """

    code, name, severity = "SEC001", "harmful-pickle", "error"
    cause = "the file was changed by somebody who wants to run code, or it stores functions next to the weights"

    def assess_file(self, source: Source) -> Iterator[Finding]:
        harmful = [each for each in source.pickled_names if each.harmful]
        called = [each.name for each in harmful if each.called]
        only_imported = [each.name for each in harmful if not each.called]
        how = f"when this file is loaded with {_loader(source)}"
        parts = []
        if called:
            parts.append(f"{listing(called, MAX_SHOWN)} would have run {how}")
        if only_imported:
            parts.append(f"{listing(only_imported, MAX_SHOWN)} would have been imported {how}")
        if parts:
            evidence = {"called": len(called), "imported": len(only_imported)}
            yield self.finding("", "; ".join(parts), evidence)


class ForeignPickle(FileRule):
    """Loading the file with Python's own unpickler would import packages whose code is not known.

    What it does:
        Lists the classes and functions that the pickles of the file name and that belong neither to Python, nor to
        PyTorch, NumPy and the packages around them. A pickled module of your own class is such a file.

    Why is this bad:
        An import runs the code of a package, whatever that code is. Without the package, the file cannot be loaded at
        all. A harmful file can use functions of any package that is installed.

    Formula:
        None.

    Example:
        ``torch.save(model, path)`` of a class of your own.

    What to do:
        Save ``model.state_dict()``, which names no classes.

    Thresholds:
        one name.

    References:
        PyTorch's tutorial on saving and loading models.
    """

    code, name, severity = "SEC002", "foreign-pickle", "info"
    cause = "the file stores whole objects, not only their weights"

    def assess_file(self, source: Source) -> Iterator[Finding]:
        foreign = [each for each in source.pickled_names if not each.harmful]
        if foreign:
            packages = list(dict.fromkeys(each.name.partition(".")[0] for each in foreign))
            names = listing([each.name for each in foreign], MAX_SHOWN)
            code = f"the code of {counted(len(packages), 'package')}: {listing(packages, MAX_SHOWN)}"
            message = f"loading this file with {_loader(source)} would have imported {names}, and run {code}"
            yield self.finding("", message, {"names": len(foreign), "packages": len(packages)})


def _loader(source: Source) -> str:
    return "pickle.load" if "pickle" in source.format else "torch.load(weights_only=False)"
