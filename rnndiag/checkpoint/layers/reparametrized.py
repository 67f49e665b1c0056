"""Weights that a file holds in parts, as torch.nn.utils reparametrises them, put together again."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from rnndiag.checkpoint.contents import Leaf, StoredTensor, Unusable, value_of
from rnndiag.files.text import listing, shape_of
from rnndiag.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SCALE: Final = re.compile(r"(?:.*\.)?(?:weight|bias)_(?:ih|hh|hr)_l\d{1,3}(?:_reverse)?_scale", re.DOTALL)
"""The names of icefall's scales."""
_NEW: Final = re.compile(r"(?P<module>(?:.*\.)?)parametrizations\.(?P<own>[^.]+)\.(?P<part>.+)", re.DOTALL)
"""The names that ``torch.nn.utils.parametrize`` gives."""


@dataclass(frozen=True, slots=True)
class _Scheme:
    """One way in which torch keeps a weight in parts."""

    parts: tuple[str, ...]
    """The part of the weight's own shape first."""
    evaluate: Callable[..., Tensor]
    """From the parts, in this order."""


def effective(tensors: Mapping[str, Leaf]) -> tuple[dict[str, Leaf], tuple[str, ...]]:
    """The same tensors with parametrised ones replaced by what the network computes with.

    Read are weight norm and spectral norm, each in both of torch's forms, orthogonal parametrisations, pruning masks
    and weights with a scale (``weight_hh_l0_scale``); what another parametrisation makes is ``Unusable``.

    Returns:
        The tensors by name, and the assumptions made, one sentence each.
    """
    tensors, notes = _with_scales(tensors)
    parts: defaultdict[str, dict[str, Leaf]] = defaultdict(dict)
    for name, leaf in tensors.items():
        whole, part = _split(name, tensors)
        parts[whole][part] = leaf
    result = {whole: held[""] if held.keys() == {""} else _whole(held) for whole, held in parts.items()}
    exponentials = [
        printable(whole)
        for whole, held in parts.items()
        if held.keys() == set(_ORTHOGONAL.parts) and not isinstance(leaf := result[whole], Unusable) and _square(leaf)
    ]
    if not exponentials:
        return result, notes
    note = (
        f"the matrix exponential, torch's default for square orthogonal weights, was taken for {listing(exponentials)}"
    )
    return result, (*notes, note)


def _with_scales(tensors: Mapping[str, Leaf]) -> tuple[Mapping[str, Leaf], tuple[str, ...]]:
    """The parameters of icefall's ``ScaledLSTM``, each ``weight * exp(scale)``."""
    scales = {name: name.removesuffix("_scale") for name in tensors if _SCALE.fullmatch(name)}
    scales = {name: whole for name, whole in scales.items() if whole in tensors}
    if not scales:
        return tensors, ()
    result = {name: leaf for name, leaf in tensors.items() if name not in scales}
    for name, whole in scales.items():
        result[whole] = _scaled(tensors[whole], tensors[name])
    modules = dict.fromkeys(printable(whole.rpartition(".")[0]) or "(top level)" for whole in scales.values())
    return result, (f"the parameters of {listing(list(modules), 3)} were multiplied by exp of their scales (icefall)",)


def _scaled(leaf: Leaf, scale: Leaf) -> Leaf:
    if isinstance(leaf, Unusable):
        return leaf
    if isinstance(scale, Unusable) or math.prod(scale.shape) != 1 or not scale.dtype.is_floating_point:
        return Unusable("its scale is not one number")

    def read() -> Tensor | Unusable:
        value, exponent = value_of(leaf), value_of(scale)
        if isinstance(value, Unusable) or isinstance(exponent, Unusable):
            return Unusable("it or its scale cannot be read")
        wide = torch.promote_types(value.dtype, torch.float32)
        return (value.to(wide) * exponent.to(wide).reshape(()).exp()).to(value.dtype)

    return StoredTensor(leaf.shape, leaf.dtype, read)


def _split(name: str, tensors: Mapping[str, Leaf]) -> tuple[str, str]:
    """The name of the whole, and which part of it this is; empty for a tensor that is whole."""
    match = _NEW.fullmatch(name)
    if match:
        return match["module"] + match["own"], match["part"]
    for scheme in _OLD:
        for part in scheme.parts:
            whole = name.removesuffix(part)
            if whole != name and whole not in tensors and all(whole + other in tensors for other in scheme.parts):
                return whole, part
    return name, ""


def _whole(held: Mapping[str, Leaf]) -> Leaf:
    scheme = next((scheme for scheme in (*_PRESENT, *_OLD) if held.keys() == set(scheme.parts)), None)
    if scheme is None:
        shown = listing([printable(part, 60) for part in held], 4)
        return Unusable(
            f"its parametrisation ({shown}) is none that is known: call"
            " torch.nn.utils.parametrize.remove_parametrizations before saving"
        )
    unusable = next((leaf for leaf in held.values() if isinstance(leaf, Unusable)), None)
    if unusable is not None:
        return unusable
    main = held[scheme.parts[0]]
    assert not isinstance(main, Unusable)

    def read() -> Tensor | Unusable:
        values = [value_of(held[part]) for part in scheme.parts]
        tensors = [value for value in values if isinstance(value, Tensor)]
        if len(tensors) < len(values):
            return next(value for value in values if isinstance(value, Unusable))
        # Half precision has no matrix exponential; nothing is lost by more digits on the way.
        wide = [tensor.to(torch.promote_types(tensor.dtype, torch.float32)) for tensor in tensors]
        try:
            with torch.no_grad():
                return scheme.evaluate(*wide).detach().to(tensors[0].dtype)
        except (RuntimeError, ValueError, IndexError, TypeError):  # parts that do not fit each other
            shapes = ", ".join(
                f"{printable(part, 60)} {shape_of(leaf.shape)}"
                for part, leaf in zip(scheme.parts, tensors, strict=True)
            )
            return Unusable(f"the parts of its parametrisation do not fit each other: {shapes}")

    return StoredTensor(tuple(main.shape), main.dtype, read)


def _square(leaf: StoredTensor) -> bool:
    return len(leaf.shape) == 2 and leaf.shape[0] == leaf.shape[1]


def _evaluate(weight: Tensor, install: Callable[[nn.Module], object], state: dict[str, Tensor]) -> Tensor:
    """The weight that torch's own parametrisation computes from a state."""
    holder = nn.Module()
    holder.register_parameter("weight", nn.Parameter(weight))
    install(holder)
    holder.load_state_dict({f"parametrizations.weight.{name}": tensor for name, tensor in state.items()})
    result: Tensor = holder.eval().weight  # type: ignore[assignment]
    return result


def _weight_norm(v: Tensor, g: Tensor) -> Tensor:
    """Salimans & Kingma 2016: ``g v / ||v||``, the norm taken over all axes but that of ``g``."""
    dims = [axis for axis, size in enumerate(g.shape) if g.ndim == v.ndim and size == v.shape[axis] > 1]
    if g.numel() > 1 and len(dims) != 1:
        raise ValueError("g has no axis of v")
    dim = dims[0] if dims else (None if g.ndim == 0 else 0)
    return _evaluate(
        torch.ones_like(v),
        lambda holder: parametrizations.weight_norm(holder, dim=dim),  # type: ignore[arg-type]  # None is allowed
        {"original0": g, "original1": v},
    )


def _spectral_norm(weight: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Miyato et al. 2018: ``W / (u W v)`` with the stored estimates of the leading singular vectors."""
    dim = 0 if u.numel() == weight.shape[0] else 1
    return _evaluate(
        torch.ones_like(weight),
        lambda holder: parametrizations.spectral_norm(holder, dim=dim),
        {"original": weight, "0._u": u, "0._v": v},
    )


def _orthogonal_of(weight: Tensor, base: Tensor) -> Tensor:
    """Lezcano-Casado 2019: ``base Q(weight)``, ``Q`` by torch's default map for the shape."""
    return _evaluate(
        torch.eye(*weight.shape, dtype=weight.dtype), parametrizations.orthogonal, {"original": weight, "0.base": base}
    )


_ORTHOGONAL: Final = _Scheme(("original", "0.base"), _orthogonal_of)
_PRESENT: Final = (
    _Scheme(("original1", "original0"), _weight_norm),
    _Scheme(("original", "0._u", "0._v"), _spectral_norm),
    _ORTHOGONAL,
)
"""By the names under ``parametrizations.<weight>.``"""
_OLD: Final = (
    _Scheme(("_v", "_g"), _weight_norm),
    _Scheme(("_orig", "_u", "_v"), _spectral_norm),
    _Scheme(("_orig", "_mask"), torch.mul),
)
"""By the suffixes that the hooks of ``torch.nn.utils`` and ``torch.nn.utils.prune`` give."""
