"""What is in force for a command: option before config file before default, and where each value came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rnndiag.errors import ConfigError, SettingsError

if TYPE_CHECKING:
    from torch import nn

    from rnndiag.checkpoint.layers.answers import Answers
    from rnndiag.checkpoint.layers.mapping import RoleMap
    from rnndiag.cli.options import MeasureOptions, ModelOptions, ProbeOptions, RuleOptions
    from rnndiag.config.file import ConfigFile, Located
    from rnndiag.config.settings import Settings, Thresholds
    from rnndiag.diagnose import Progress
    from rnndiag.probes import Probe
    from rnndiag.report import Report
    from rnndiag.rules.base import Rule
    from rnndiag.rules.policy import Override, Policy


@dataclass(frozen=True, slots=True)
class Values:
    """The value of each option that a config file can set as well; the defaults are those without option and file."""

    paths: Sequence[str] = ()
    probe: str = "noise"
    length: int | None = None
    batch: int | None = None
    scale: float = 1.0
    layout: Literal["BTD", "TBD"] | None = None
    seed: int = 0
    lag: int | None = None
    layer: str = "*"
    nonlinearity: Literal["tanh", "relu"] | None = None
    alpha: float | None = None
    map: Sequence[str] = ()
    assume: str | None = None
    verify: bool = False
    exponents: int | str = 8
    dtype: Literal["float64", "float32"] = "float64"
    device: str = "cpu"
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    fail_on: Literal["error", "warning", "info", "never"] = "error"
    treat: bool = True


@dataclass(frozen=True, slots=True)
class Choices:
    """Values by name, each with its origin; rule settings stay in the file they came from."""

    values: Values
    origins: Mapping[str, str]
    """by the name of the value: the option, the path of the config file, or ``default``"""
    file: Located | None
    of_runs: bool = False
    """whether the command judges runs, by the rules of trends"""

    @property
    def settings(self) -> Settings:
        """How to measure."""
        from rnndiag.config.settings import Settings

        return Settings(
            lag=self.values.lag,
            exponents=parse_exponents(self.values.exponents),
            dtype=self.values.dtype,
            device=self.values.device,
            seed=self.values.seed,
            layers=self.values.layer,
            thresholds=self.thresholds,
            treat=self.values.treat,
        )

    @property
    def thresholds(self) -> Thresholds:
        """The healthy band and what counts as saturated, open or closed."""
        from rnndiag.config.settings import Thresholds

        if self.file is None:
            return Thresholds()
        given = self.file.config.thresholds
        changed = {name: getattr(given, name) for name in given.__struct_fields__}
        return Thresholds(**{name: value for name, value in changed.items() if value is not None})

    @property
    def probe(self) -> Probe:
        """What to measure on; a file named in a config lies relative to it."""
        from rnndiag import api

        values = self.values
        return api.make_probe(
            self._probe_spec,
            length=values.length,
            batch=values.batch,
            scale=values.scale,
            settings=self.settings,
            layout=values.layout,
        )

    @property
    def _probe_spec(self) -> str:
        return self.values.probe if self.probe_file is None else str(self.probe_file)

    @property
    def probe_file(self) -> Path | None:
        """The file of the probe; None for a probe that is generated."""
        if self.origins["probe"] == "default":
            return None
        from rnndiag.probes import GENERATED

        spec = self.values.probe
        if spec in GENERATED:
            return None
        if self.file is not None and self.origins["probe"] == str(self.file.path):
            return self.file.path.parent / str(spec)
        return Path(str(spec))

    @property
    def input_files(self) -> list[Path]:
        """The files that are read apart from the models: the config file and the file of the probe."""
        config = None if self.file is None else self.file.path
        return [file for file in (config, self.probe_file) if file is not None]

    @property
    def paths(self) -> list[str]:
        """The models; those of a config lie relative to it.

        Raises:
            SettingsError: where neither names any.
        """
        if not self.values.paths:
            raise SettingsError("no PATH given, and no paths: in a config file; name a model to measure")
        if self.file is None or self.origins["paths"] != str(self.file.path):
            return list(self.values.paths)
        return [str(self.file.path.parent / path) for path in self.values.paths]

    @property
    def maps(self) -> list[RoleMap]:
        """Which tensors are what, in the user's word.

        Raises:
            SettingsError: for a mapping that is not understood.
        """
        if not self.values.map:
            return []
        from rnndiag.checkpoint.layers.mapping import parse_map

        return [parse_map(text, self._where("map")) for text in self.values.map]

    @property
    def alpha(self) -> float | None:
        """The leak of leaky layers whose file does not hold it.

        Raises:
            SettingsError: it is not in (0, 1].
        """
        if self.values.alpha is None:
            return None
        from rnndiag.checkpoint.layers.leak import checked_alpha

        return checked_alpha(self.values.alpha, self._where("alpha"))

    @property
    def answers(self) -> Answers:
        """What the user says about layers where the file does not.

        Raises:
            SettingsError: for a mapping that is not understood, a kind of cell that does not exist, or a leak that is
            out of range.
        """
        from rnndiag.checkpoint.layers.answers import Answers, known_kind

        values, assumed = self.values, known_kind(self.values.assume, self._where("assume"))
        return Answers(values.nonlinearity, tuple(self.maps), assumed, self.alpha, values.verify)

    @property
    def policy(self) -> Policy:
        """Which rules apply, and how.

        Raises:
            SettingsError: for a code that no rule has, a threshold that its rule has not, or a selection that leaves
            no rule.
        """
        from rnndiag.rules.policy import Policy, check_codes
        from rnndiag.rules.registry import CATALOG, REPORT_RULES, TREND_RULES

        select = check_codes(self.values.select, CATALOG, self._where("select"))
        ignore = check_codes(self.values.ignore, CATALOG, self._where("ignore"))
        own: tuple[Rule, ...] = TREND_RULES if self.of_runs else REPORT_RULES
        if select and not any(rule.code.startswith(select) for rule in own):  # nothing would ever be found
            whose = "are not of trends; rnndiag check" if self.of_runs else "are of trends alone; rnndiag trend"
            raise SettingsError(f"{self._where('select')}: the rules {', '.join(select)} {whose} applies them")
        overrides = () if self.file is None else tuple(_overrides(self.file, CATALOG))
        return Policy(select, ignore, overrides)

    def inspect(
        self, model: str | Path | nn.Module, *, treat: bool | None = None, progress: Progress | None = None
    ) -> Report:
        """Diagnose a model under these settings.

        Args:
            model: a saved model, or a module.
            treat: whether suggestions are tried; None: as the settings say.
            progress: called before each piece of work.

        Raises:
            RnndiagError: for a model that cannot be measured.
        """
        from rnndiag import api

        settings, values = self.settings, self.values
        return api.inspect(
            model,
            probe=self.probe if isinstance(model, str | Path) else self._probe_spec,
            length=values.length,
            batch=values.batch,
            scale=values.scale,
            layout=values.layout,
            nonlinearity=self.values.nonlinearity,
            alpha=self.alpha,
            mapping=self.maps if isinstance(model, str | Path) else (),
            assume=self.values.assume,
            verify=self.values.verify,
            settings=settings if treat is None else replace(settings, treat=treat),
            policy=self.policy,
            progress=progress,
        )

    def _where(self, name: str) -> str:
        origin = self.origins[name]
        return origin if origin.startswith("--") else f"{origin}: at {name}"


def choose(rules: RuleOptions, *groups: ModelOptions | ProbeOptions | MeasureOptions, of_runs: bool = False) -> Choices:
    """Decide every value; an option that is None or empty was not given.

    Args:
        rules: the options that include ``--config``; without it, the nearest config file from the working directory
            upward counts.
        groups: the other options of the command.
        of_runs: whether the command judges runs, by the rules of trends.
    """
    file = _config_file(rules.config)
    options = {each.name: getattr(group, each.name) for group in (rules, *groups) for each in fields(group)}
    for name in ("select", "ignore"):
        options[name] = [code for text in options[name] or () for code in text.split(",")]
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in Values.__dataclass_fields__:
        option, configured = options.get(name), None if file is None else getattr(file.config, name)
        origins[name] = "default"
        if option not in (None, (), []):
            values[name], origins[name] = option, f"--{name.replace('_', '-')}"
        elif file is not None and configured not in (None, ()):
            values[name], origins[name] = configured, str(file.path)
    return Choices(Values(**values), origins, file, of_runs)


def _config_file(config: Path | None) -> Located | None:
    if config is not None:
        from rnndiag.config.file import read

        if not os.path.lexists(config):
            raise ConfigError(f"--config {config}: no such file")
        return read(config)
    from rnndiag.config.search import NAMES, may_configure

    try:
        here = Path.cwd()
    except FileNotFoundError:  # the working directory was deleted
        return None
    if not any(may_configure(folder / name) for folder in (here, *here.parents) for name in NAMES):
        return None  # and nothing to import for it
    from rnndiag.config.file import find

    return find(here)


def _overrides(file: Located, rules: tuple[Rule, ...]) -> Iterator[Override]:
    from rnndiag.rules.policy import Override, check_codes

    config: ConfigFile = file.config
    yield from _rule_overrides(config.rules, "*", f"{file.path}: at rules", rules)
    for glob, layer in config.layers.items():
        place = f"{file.path}: at layers[{glob!r}]"
        for code in check_codes(layer.ignore, rules, f"{place}.ignore"):
            yield Override(glob, code, off=True)
        yield from _rule_overrides(layer.rules, glob, f"{place}.rules", rules)


def _rule_overrides(
    by_code: Mapping[str, Mapping[str, float | str]], glob: str, place: str, rules: tuple[Rule, ...]
) -> Iterator[Override]:
    from difflib import get_close_matches

    from rnndiag.rules.base import SEVERITIES
    from rnndiag.rules.policy import Override, check_codes, misfit

    for given, entries in by_code.items():
        (code,) = check_codes([given], rules, place)
        known = {name for rule in rules if rule.code.startswith(code) for name in rule.thresholds}
        numbers: dict[str, float] = {}
        severity: Any = None
        for name, value in entries.items():
            if name == "severity":
                if value not in (*SEVERITIES, "off"):
                    raise SettingsError(
                        f"{place}.{given}.severity: expected {', '.join(SEVERITIES)} or off, got {value!r}"
                    )
                severity = value
            elif name not in known:
                near = get_close_matches(name, [*known, "severity"], 1, 0.4)
                hint = f"did you mean {near[0]!r}?" if near else f"expected {', '.join(sorted({*known, 'severity'}))}"
                raise SettingsError(f"{place}.{given}: unknown key {name!r}; {hint}")
            elif isinstance(value, str):
                raise SettingsError(f"{place}.{given}.{name}: expected a number, got {value!r}")
            elif wrong := misfit(name, value):
                raise SettingsError(f"{place}.{given}.{name}: {wrong}")
            else:
                numbers[name] = float(value)
        yield Override(glob, code, None if severity == "off" else severity, numbers, off=severity == "off")


def parse_exponents(given: int | str) -> Any:
    """``all`` or a count.

    Raises:
        SettingsError: for anything else.
    """
    if given == "all":
        return "all"
    try:
        return int(given)
    except ValueError:
        raise SettingsError(f"--exponents: expected a whole number or 'all', got {given!r}") from None
