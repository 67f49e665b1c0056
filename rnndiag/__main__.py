"""``python -m rnndiag`` and the console script: errors to one line, results to exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rnndiag.process import signals
from rnndiag.process.cleanup import run_cleanups

OK, BAD_INPUT, BUG = 0, 2, 3

COLLECT_AFTER = 20_000
"""New objects between two searches for cycles. At Python's own 700 they take a tenth of the time to import torch."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    signals.install()  # this comes before the slow imports
    import gc

    from rnndiag.cli.stderr import print_error
    from rnndiag.cli.streams import limit_terminal_size, output_failure, protect

    protect()
    limit_terminal_size()
    gc.set_threshold(COLLECT_AFTER)
    code = run(sys.argv[1:])
    failure = output_failure()
    if failure is not None:
        print_error(f"the results could not be written to stdout: {failure.strerror or failure}")
        code = max(code, BAD_INPUT)
    if code in signals.EXIT_CODES.values():
        run_cleanups()
        os._exit(code)  # do not wait for threads that are still computing
    signals.uninstall()
    gc.freeze()  # else the interpreter searches all that torch made for cycles as it ends: a quarter of a second
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """The exit code for some arguments: 0 done, 2 bad input, 3 a bug in rnndiag, 128 plus the number of a signal."""
    import traceback

    import typer

    from rnndiag.cli import app
    from rnndiag.cli.stderr import print_error, print_exception
    from rnndiag.cli.streams import say_lines
    from rnndiag.cli.usage import usage_message
    from rnndiag.errors import RnndiagError

    try:
        code = app(list(arguments) or ["--help"], prog_name="rnndiag", standalone_mode=False)
        sys.stdout.flush()
    except RnndiagError as error:
        print_exception(error, verbose=_verbose(arguments))
        return error.exit_code
    except typer.TyperException as error:
        print_error(usage_message(error))
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130
    except signals.EndedBySignalError as error:
        return error.exit_code
    except OSError as error:
        print_error(f"the output could not be written: {error.strerror or error}")
        return BAD_INPUT
    except Exception as error:
        # The one place where everything is caught: a user must never see a traceback unasked.
        if _verbose(arguments):
            say_lines(traceback.format_exc())
        print_error(f"a bug in rnndiag: {type(error).__name__}: {error}; run again with --verbose and report it")
        return BUG
    return code if isinstance(code, int) else OK


def _verbose(arguments: Sequence[str]) -> bool:
    return bool({"--verbose", "-v"} & set(arguments))


if __name__ == "__main__":
    main()
