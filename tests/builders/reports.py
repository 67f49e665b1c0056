"""Reports to render: each severity, numbers that are not finite, rules not assessed, and names meant to do harm."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import torch

from rnndiag.cells.layer import RecurrentLayer, Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.diagnose import diagnose
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.report import Report
from rnndiag.rules.base import Finding, NotAssessed, Suggestion
from tests.oracles.nets import layer

SHORT = Probe(length=20, batch=3)

HOSTILE = (
    "a|b",
    "`tick` ``two``",
    "<script>alert(1)</script>",
    "50% %0A",
    "two\nlines\r\n::error::three",
    "# heading",
    "- item",
    "a:b,c=d",
    "Größe 重み 🎉",
    "\x00\x1b[31m\x07\x7f\x85\u2028\ufffe",
    "\ud800 and \udcff",
    "\u202etxt.tp",
    "[link](http://example.org) ![image](x) {0} {",
    "*bold* _it_ ~~no~~ $x$ \\| \\",
    "@someone #12 https://example.org www.example.org <a@example.org>",
    "&amp; &lt;b&gt; ]]> <!--",
    " ",
    "",
)


@cache
def vanishing() -> Report:
    return diagnose(RandomNet(sigma=0.3, hidden=8, layers=2).build(), SHORT)


@cache
def without_memory() -> Report:
    """Numbers that are not finite: a recurrent weight of zero."""
    zero = layer("tanh", 3, 4, bias=False)
    zero.weight_hh.zero_()
    return diagnose(model("models/zero.pt", zero), SHORT)


@cache
def healthy() -> Report:
    return diagnose(RandomNet(init="orthogonal", hidden=8, input_scale=0.01).build(), SHORT)


@cache
def broken() -> Report:
    """A weight is NaN: most rules could not be assessed."""
    net = layer("gru", 3, 4)
    net.weight_hh[0, 0] = math.nan
    return diagnose(model("/srv/runs/épo que.pt", net), SHORT)


@cache
def hostile(name: str, sound: bool = True) -> Report:
    """A net whose path, stack, layer and every text are ``name``, and which vanishes or is broken."""
    net = layer("tanh", 3, 4, scale=0.2, name=name or "l0")
    if not sound:
        net.weight_hh[0, 0] = math.nan
    report = diagnose(Model(Source(name, "torch"), (Stack(name, ((net,),)),)), SHORT)
    return replace(report, notes=(name,), findings=tuple(_in_every_text(f, name) for f in report.findings))


def _in_every_text(finding: Finding, name: str) -> Finding:
    suggestions = tuple(replace(each, action=name, evidence=name) for each in finding.suggestions)
    return replace(finding, message=name, evidence={name: name, "nan": math.nan}, suggestions=suggestions)


def model(path: str, net: RecurrentLayer) -> Model:
    return Model(Source(path, "torch", "ab" * 32), (Stack("rnn", ((net,),)),))


@cache
def golden() -> tuple[Report, ...]:
    """A report whose numbers are exact on every machine, with findings that no rule rewords; and a broken one."""
    half = RecurrentLayer("enc.rnn.l0", "tanh", torch.zeros(4, 3).double(), 0.5 * torch.eye(4).double())
    report = diagnose(model("models/half.pt", half), Probe("zeros", 20, 2))
    (only,) = report.layers
    assert only.lyapunov is not None
    errors = (0.01,) * len(only.lyapunov.exponents)  # measured, they are rounding alone
    report = replace(report, layers=(replace(only, lyapunov=replace(only.lyapunov, standard_errors=errors)),))
    gated = Suggestion("gated", "use an LSTM", "a step multiplies the gradient by 0.5")
    starting = Suggestion("init", "raise W_hh", "||W_hh|| is 0.5 < 1")
    findings = (
        Finding("VAN001", "gradient-vanishes", "error", "rnn", "6 %: gone", {"horizon": 10}, (gated, starting)),
        Finding("VAN003", "contraction-guaranteed", "warning", "enc.rnn.l0", "||W_hh|| is 0.5 < 1", {}, (starting,)),
        Finding("VAN002", "layer-forgets", "info", "enc.rnn.l0", "a, b: c"),
    )
    kept = replace(report, findings=findings, not_assessed=(), summary="rnn forgets: 10^-6 is left.")
    missing = NotAssessed("VAN001", "rnn", "gradient not measured"), NotAssessed("SAT001", "enc.rnn.l0", "no slopes")
    return kept, replace(kept, findings=(), not_assessed=missing, notes=("tanh was assumed",))
