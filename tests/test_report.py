"""The report: JSON, its schema, determinism, and the pipeline's own errors."""

from __future__ import annotations

import json
import math
from importlib.resources import files

import jsonschema
import pytest
import torch

import rnndiag
from rnndiag.cells.layer import Stack
from rnndiag.checkpoint.model import Model, Source
from rnndiag.config.settings import Settings
from rnndiag.diagnose import diagnose
from rnndiag.errors import ProbeError, SettingsError
from rnndiag.probes import Probe
from rnndiag.random_nets import RandomNet
from rnndiag.renderers import json as as_json
from rnndiag.report import Report, json_schema, schema_text, to_builtins
from tests.oracles.nets import KINDS, layer, stack

SHORT = Probe(length=20, batch=3)


def reports() -> list[Report]:
    broken = layer("tanh", 3, 4)
    broken.weight_hh[0, 0] = math.inf
    zero = layer("tanh", 3, 4, bias=False)
    zero.weight_hh.zero_()
    models = [RandomNet(kind, 6, 3).build() for kind in KINDS]
    models += [Model(Source("made here", "random"), (Stack("rnn", ((net,),)),)) for net in (broken, zero)]
    models.append(Model(Source("made here", "random"), (stack("lstm", 2, bidirectional=True, proj=2),)))
    models.append(Model(Source("made here", "random"), (stack("reset-first", 2),)))
    return [diagnose(model, SHORT) for model in models]


def test_shipped_schema_is_the_types_own() -> None:
    shipped = files("rnndiag").joinpath("report.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text(), "run: python -m rnndiag.report"


def test_every_report_is_valid_json_by_the_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json_schema())
    for report in reports():
        text = as_json.render([report])
        document = json.loads(text, parse_constant=lambda name: pytest.fail(f"not JSON: {name}"))
        validator.validate(document)


def test_schema_refuses_what_is_not_a_report() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    document = to_builtins(reports()[0])
    for path, value in ((["verdict"], "fine"), (["layers", 0, "gradient", "rate"], "huge"), (["schema_version"], "2")):
        changed = json.loads(json.dumps(document))
        at = changed
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value
        assert not validator.is_valid(changed), path


def test_contracts_fields_are_there() -> None:
    document = to_builtins(diagnose(RandomNet("lstm", 6, 3).build(), SHORT))
    (layer_,) = document["layers"]
    (stack_,) = document["stacks"]
    assert set(document) >= {
        "schema_version",
        "rnndiag_version",
        "source",
        "probe",
        "verdict",
        "layers",
        "stacks",
        "findings",
        "theory",
    }
    assert set(layer_["recurrent_weight"]) >= {
        "singular_values", "spectral_norm", "spectral_radius", "condition_number", "nonnormality", "outliers",
        "closest_init",
    }  # fmt: skip
    assert set(layer_["gradient"]) >= {
        "log10_gain", "log10_gain_interval", "log10_by_lag", "rate", "multiplier", "horizon", "bound_log10_gain",
        "credit",
    }  # fmt: skip
    assert set(layer_["lyapunov"]) >= {"exponents", "standard_errors", "live_directions"}
    assert set(layer_["saturation"]) >= {"rate", "per_step", "threshold", "dead_units"}
    assert set(layer_["gates"]["forget"]) >= {"mean", "open", "closed"}
    assert set(stack_["gradient"]) >= {"log10_gain", "log10_gain_interval", "log10_by_lag", "rate", "horizon"}
    assert len(layer_["jacobian"]["norm_per_step"]) == len(layer_["saturation"]["per_step"]) == SHORT.length
    assert len(layer_["gradient"]["log10_by_lag"]) == SHORT.length


def test_numbers_that_are_not_finite_are_strings() -> None:
    document = to_builtins(reports()[5])  # zero recurrent weight
    assert document["layers"][0]["gradient"]["log10_gain"] == "-inf"
    assert document["layers"][0]["recurrent_weight"]["condition_number"] == "inf"


def test_a_fixed_seed_gives_the_same_report() -> None:
    one, again, other = (
        diagnose(RandomNet(seed=s, hidden=8).build(), Probe(length=20, batch=3, seed=s), Settings(seed=s))
        for s in (3, 3, 4)
    )
    assert as_json.render([one]) == as_json.render([again])
    assert as_json.render([one]) != as_json.render([other])


def test_choosing_a_layer_does_not_change_its_numbers() -> None:
    model = RandomNet(layers=2, hidden=8).build()
    whole = diagnose(model, SHORT)
    part = diagnose(model, SHORT, Settings(layers="*.l1"))
    assert [la.name for la in part.layers] == ["rnn.l1"]
    assert part.layers[0] == whole.layers[1]
    assert part.stacks == whole.stacks


def test_float32_gives_the_same_report_within_its_precision() -> None:
    model = RandomNet(sigma=0.9, hidden=16).build()
    double, single = (diagnose(model, SHORT, Settings(dtype=dtype)) for dtype in ("float64", "float32"))
    assert double.layers[0].gradient is not None
    assert single.layers[0].gradient is not None
    assert single.layers[0].gradient.log10_gain == pytest.approx(double.layers[0].gradient.log10_gain, abs=1e-3)
    assert single.verdict == double.verdict


def test_progress_counts_every_piece_of_work() -> None:
    seen: list[tuple[str, int, int]] = []
    diagnose(RandomNet(layers=2, hidden=4).build(), SHORT, progress=lambda *call: seen.append(call))
    assert [done for _, done, _ in seen] == list(range(11))
    assert {total for _, _, total in seen} == {10}
    assert [name for name, _, _ in seen][:2] == ["rnn: states", "rnn.l0: spectrum"]


def test_lag_beyond_the_probe() -> None:
    with pytest.raises(SettingsError, match="--lag 21 is longer than the probe; expected at most --T 20"):
        diagnose(RandomNet(hidden=4).build(), SHORT, Settings(lag=21))


def test_layer_glob_without_a_match() -> None:
    with pytest.raises(SettingsError, match=r"--layer 'enc\*' matches no layer of .*; it has rnn.l0"):
        diagnose(RandomNet(hidden=4).build(), SHORT, Settings(layers="enc*"))


def test_device_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="--device nonsense: not available here"):
        diagnose(RandomNet(hidden=4).build(), SHORT, Settings(device="nonsense"))


def test_a_stack_that_the_probe_does_not_fit_is_passed_over_with_the_reason() -> None:
    fits, differs = (
        Stack("a", ((layer("tanh", 3, 4, name="a.l0"),),)),
        Stack("b", ((layer("tanh", 5, 4, name="b.l0"),),)),
    )
    own = Probe.from_array(torch.randn(2, 20, 3))
    report = diagnose(Model(Source("made here", "random"), (fits, differs)), own)
    assert [stack.name for stack in report.stacks] == ["a"]
    assert [(s.name, "[T, 5]" in s.reason) for s in report.source.skipped] == [("b", True)]
    with pytest.raises(ProbeError, match=r"b expects a probe of shape \[T, 5\] or \[B, T, 5\], got width 3"):
        diagnose(Model(Source("made here", "random"), (differs,)), own)


def test_public_api() -> None:
    report = rnndiag.simulate(rnndiag.RandomNet(sigma=0.5, hidden=8), length=30, settings=rnndiag.Settings(lag=25))
    assert isinstance(report, rnndiag.Report)
    assert (report.probe.length, report.stacks[0].lag) == (30, 25)
    assert rnndiag.simulate(rnndiag.RandomNet(hidden=8), settings=rnndiag.Settings(lag=30)).probe.length == 30
