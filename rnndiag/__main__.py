"""``python -m rnndiag`` and the console script: errors to one line, results to exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rnndiag import signals
from rnndiag.cleanup import run_cleanups

OK, BAD_INPUT, BUG = 0, 2, 3

COLLECT_AFTER = 20_000
"""New objects between two searches for cycles. At Python's own 700 they take a tenth of the time to import torch."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    signals.install()  # before the imports that take long
    import gc
    import io
    from pathlib import Path

    for name in ("stdout", "stderr"):  # None where the caller closed it
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets '?', not a traceback
    gc.set_threshold(COLLECT_AFTER)
    code = run(sys.argv[1:])
    if code in signals.EXIT_CODES.values():
        run_cleanups()
        os._exit(code)  # threads may still be computing, for which Python would wait
    signals.uninstall()
    gc.freeze()  # else the interpreter searches all that torch made for cycles as it ends: a quarter of a second
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """The exit code for some arguments: 0 done, 2 bad input, 3 a bug in rnndiag, 130 interrupted."""
    import traceback

    import typer

    from rnndiag.cli import app
    from rnndiag.cli.measuring import complain, refuse
    from rnndiag.errors import RnndiagError

    try:
        code = app(list(arguments) or ["--help"], prog_name="rnndiag", standalone_mode=False)
        sys.stdout.flush()
    except RnndiagError as error:
        refuse(error, verbose=_verbose(arguments))
        return error.exit_code
    except typer.TyperException as error:
        complain(f"{error.format_message()} (rnndiag --help lists commands and options)")
        return BAD_INPUT
    except BrokenPipeError:
        # The reader, `head` say, has seen enough. What Python flushes at exit must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except SystemExit:  # by which rich leaves a pipe whose reader has gone
        return OK
    except KeyboardInterrupt:
        return 130
    except signals.EndedBySignalError as error:
        return error.exit_code
    except OSError as error:
        complain(f"the output could not be written: {error.strerror or error}")
        return BAD_INPUT
    except Exception as error:
        # The one place where everything is caught: a user must never see a traceback unasked.
        if _verbose(arguments):
            traceback.print_exc()
        complain(f"a bug in rnndiag: {type(error).__name__}: {error}; run again with --verbose and report it")
        return BUG
    return code if isinstance(code, int) else OK


def _verbose(arguments: Sequence[str]) -> bool:
    return bool({"--verbose", "-v"} & set(arguments))


if __name__ == "__main__":
    main()
