"""Which names run programs or code when a pickle calls them, and which come from packages that nets are built with."""

from __future__ import annotations

import re
import sys
from typing import Final

MAX_CHARACTERS: Final = 300
"""A longer name is harmful: no class has such a name, and a chain of modules can be as long as somebody likes."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RUNNING_MODULES: Final = _words("""
    os nt posix posixpath ntpath subprocess _posixsubprocess sys importlib imp runpy pty pip popen2 commands code
    codeop shutil socket _socket socketserver ssl select selectors webbrowser antigravity ctypes _ctypes cffi
    multiprocessing _winapi _multiprocessing pickle _pickle cPickle shelve marshal dill inspect gc timeit trace bdb
    pdb profile cProfile asyncio _asyncio threading _thread concurrent signal http urllib urllib2 httplib ftplib
    smtplib telnetlib xmlrpc requests httpx aiohttp paramiko tempfile zipimport pkgutil setuptools distutils venv
    ensurepip idlelib lib2to3 doctest unittest ptyprocess pexpect fabric atexit linecache tarfile zipfile sqlite3
    fileinput builtins __builtin__ __builtins__ _osx_support _pyrepl cgitb
""")
"""Modules whose functions run programs or code, or change files or the network."""

_HARMLESS_BUILTINS: Final = _words("""
    object bytes bytearray str unicode basestring int long float complex bool set frozenset dict list tuple slice
    range xrange type NoneType Ellipsis NotImplemented print len sum min max abs round sorted reversed zip enumerate
    any all isinstance issubclass callable repr hash id iter next map filter divmod pow chr ord hex oct bin format
    ascii property classmethod staticmethod super memoryview unichr cmp
""")

_RUNNING_NAMES: Final = re.compile(
    r"types\.(?:FunctionType|LambdaType|CodeType|ModuleType|MethodType|new_class)"
    r"|_?operator\.(?:attrgetter|methodcaller|call)"
    r"|_?io\.(?:open|open_code|FileIO)|codecs\.open|logging\.config\..*|platform\.popen"
    r"|torch\.(?:hub|package|utils\.cpp_extension|_inductor|_dynamo|distributed\.rpc|multiprocessing\.spawn)\..*"
    r"|torch\.(?:load|save|serialization\.(?:load|save)|jit\.(?:load|frontend\..*)|(?:ops|classes)\.load_library)"
    r"|torch\.fx\..*(?:reduce_\w*|_forward_from_src|_exec_with_source|_method_from_src)"
    r"|torch\.utils\.(?:collect_env|bottleneck|model_zoo|_import_utils)\..*"
    r"|numpy\.(?:load|save|savez|fromfile|f2py\..*|distutils\..*|testing\..*|ctypeslib\..*)"
    r"|(?:sklearn\.externals\.)?joblib\.(?:load|dump|numpy_pickle\.(?:load|dump)|externals\..*)"
    r"|pandas\.(?:read_\w+|eval|io\..*)|cloudpickle\.(?:.*\.)?(?:loads?|subimport|dynamic_subimport)",
    re.DOTALL,
)
"""Names of other modules that run code, take objects apart, or read and write files."""

_COMMON: Final = _words("""
    torch torchvision torchaudio torchtext __torch__ numpy scipy pandas sklearn joblib ml_dtypes jax jaxlib flax
    copy_reg skorch lightning pytorch_lightning lightning_fabric lightning_utilities transformers omegaconf
""")
"""Packages with which nets are built, trained and saved."""

_TAKES_APART: Final = re.compile(
    r"__(?:globals|builtins|subclasses|reduce|reduce_ex|getattribute|code|loader|import)__"
)

_REACHED: Final = _words("""
    os nt posix sys subprocess importlib runpy pty shutil socket ctypes builtins webbrowser marshal
""")
"""Parts of a name that lead to a harmful module, whatever module they are reached through."""


def is_harmful(name: str) -> bool:
    """Whether a name can run programs or code, or change files, when it is called.

    A module shows the modules that it imports itself, so ``torch.serialization.os.system`` is ``os.system``.
    """
    if len(name) > MAX_CHARACTERS:
        return True
    first, *rest = name.split(".")
    if first in ("builtins", "__builtin__"):
        return not rest or rest[0] not in _HARMLESS_BUILTINS or len(rest) > 1
    if first in _RUNNING_MODULES or _TAKES_APART.search(name):
        return True
    reached = next((i for i, part in enumerate(rest, 1) if part in _REACHED), 0)
    return reached > 0 or _RUNNING_NAMES.fullmatch(name) is not None


def is_common(name: str) -> bool:
    """Whether a name stands for plain data, or comes from Python itself or a package with which nets are built."""
    first = name.partition(".")[0]
    return first in _COMMON or first in sys.stdlib_module_names or first == "__builtin__"
