"""Groups of options, spread into the parameters of a command."""

from __future__ import annotations

from inspect import signature

import pytest

from rnndiag.cli.options import ProbeOptions
from rnndiag.cli.spread_options import spread_options


def test_a_command_offers_the_options_of_its_groups_except_those_left_out() -> None:
    def command(probe: ProbeOptions) -> ProbeOptions:
        return probe

    command.__annotations__["probe"] = ProbeOptions  # as in a module that does not postpone annotations
    spread = spread_options(leave_out=["length", "seed"])(command)
    assert list(signature(spread).parameters) == ["batch", "probe", "layout", "scale"]
    built = spread(batch=3, probe=None, scale=2.0)
    assert (built.batch, built.scale, built.length, built.seed) == (3, 2.0, None, None)


def test_an_option_that_no_group_has_cannot_be_left_out() -> None:
    """A renamed option would otherwise appear again in the commands that left it out."""

    def command(probe: ProbeOptions) -> None: ...

    command.__annotations__["probe"] = ProbeOptions
    with pytest.raises(TypeError, match="leave_out of command: no group has the options lenght, steps"):
        spread_options(leave_out=["lenght", "seed", "steps"])(command)
