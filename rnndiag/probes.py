"""Probe sequences: what the nets are driven with while they are measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from rnndiag.cells.layer import Layout
from rnndiag.errors import ProbeError
from rnndiag.machine.device import available_memory
from rnndiag.printable import printable
from rnndiag.seeds import generator

ProbeKind = Literal["noise", "zeros", "constant", "sine", "impulse", "tokens", "file"]
GENERATED = tuple(kind for kind in get_args(ProbeKind) if kind != "file")

COPIES = 3
"""The copies of an array that are in memory at the same time: as read, as scaled, and one temporary copy."""

Shape = tuple[int, int, int]
"""``(T, B, D)``"""


class Driven(Protocol):
    """What a probe drives."""

    @property
    def name(self) -> str:
        """The name for messages."""
        ...

    @property
    def input_size(self) -> int:
        """``D``."""
        ...

    @property
    def embedding(self) -> Tensor | None:
        """``[V, D]``: the table of the same model whose rows are the inputs, where there is one."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """Inputs for any stack: generated to its width, or a user's own array.

    ``noise``: independent N(0, 1) entries. ``zeros`` (one sequence says all). ``constant``: one N(0, 1)
    vector a sequence, held. ``sine``: each input of each sequence with its own phase and period (log-uniform, 4
    steps to T). ``impulse``: one N(0, 1) vector at the first step, zero after. ``tokens``: random rows of the
    embedding that feeds the stack. All times ``scale``. ``file``: ``array`` as it is, times ``scale``.
    """

    kind: ProbeKind = "noise"
    length: int = 100
    batch: int = 16
    scale: float = 1.0
    seed: int = 0
    array: Tensor | None = None
    """``[T, B, D]``, kind ``file`` only"""
    assumption: str = ""
    """which axes of the array were taken for steps and sequences, as one sentence; empty if no other reading exists"""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ProbeKind) or (self.kind == "file") != (self.array is not None):
            raise ProbeError(f"probe: expected one of {', '.join(GENERATED)}, or an array, got {self.kind!r}")
        if self.length < 1:
            raise ProbeError(f"--T: expected at least 1 step, got {self.length}")
        if self.batch < 1:
            raise ProbeError(f"--batch: expected at least 1 sequence, got {self.batch}")
        if not math.isfinite(self.scale):
            raise ProbeError(f"--scale: expected a finite number, got {self.scale}")

    @classmethod
    def from_array(
        cls,
        array: Tensor,
        *,
        length: int | None = None,
        batch: int | None = None,
        scale: float = 1.0,
        name: str = "array",
        layout: Layout | None = None,
    ) -> Probe:
        """A user's own sequences: ``[T, D]`` (one sequence) or ``[B, T, D]``; optionally the first of them only.

        Args:
            array: the sequences.
            length: the number of steps to use; None: all.
            batch: the number of sequences to use; None: all.
            scale: multiplies the sequences.
            name: the name of the array in error messages.
            layout: the order of the axes. None: nothing says it, so ``[B, T, D]`` is assumed, and the report says so.

        Raises:
            ProbeError: for another number of axes, no elements, values that are not finite real
                numbers, or a length or batch larger than the array has.
        """
        if array.ndim not in (2, 3) or 0 in array.shape:
            raise ProbeError(f"{name}: expected an array [T, D] or [B, T, D], got shape {list(array.shape)}")
        if array.dtype.is_complex:
            raise ProbeError(f"{name}: expected real numbers, got {array.dtype}")
        check_lengths(tuple(array.shape), length, batch, name, layout)
        several = array.detach() if array.ndim == 3 else array.detach()[:, None]
        by_step = layout == "TBD" or array.ndim == 2
        used = (several if by_step else several.transpose(0, 1))[:length, :batch]
        check_fits(used.numel(), name)
        # Copy only the used part: a view would keep the whole array in memory and send it to other processes.
        sequences = used.to("cpu", torch.float64, copy=True)
        if not bool(sequences.isfinite().all()):
            raise ProbeError(f"{name}: expected finite numbers, got NaN or infinity among them")
        read = _assumed_layout(array, name) if layout is None else ""
        return cls("file", sequences.shape[0], sequences.shape[1], scale, 0, sequences, read)

    def misfit(self, stack: Driven) -> str | None:
        """Why this probe cannot drive a stack; None if it can."""
        if self.array is not None and self.array.shape[-1] != stack.input_size:
            expected = f"[T, {stack.input_size}] or [B, T, {stack.input_size}]"
            hint = ids_hint(self.array)
            return f"{stack.name} expects a probe of shape {expected}, got width {self.array.shape[-1]}{hint}"
        if self.kind == "tokens" and stack.embedding is None:
            return (
                f"--probe tokens: {stack.name} expects an embedding [V, {stack.input_size}] in the same "
                "model, got none; use --probe noise or your own array"
            )
        return None

    def inputs(self, stack: Driven) -> Tensor:
        """The inputs ``[T, B, D]`` for a stack, float64 on the CPU.

        Raises:
            ProbeError: where the probe does not fit (see ``misfit``).
        """
        reason = self.misfit(stack)
        if reason is not None:
            raise ProbeError(reason)
        stream = generator(self.seed, "probe")
        if self.array is not None:
            drawn = self.array
        elif self.kind == "tokens":
            assert stack.embedding is not None  # misfit() has looked
            table = stack.embedding.to("cpu", torch.float64)
            drawn = table[torch.randint(len(table), (self.length, self.batch), generator=stream)]
        else:
            drawn = _GENERATORS[self.kind]((self.length, self.batch, stack.input_size), stream)
        return drawn * self.scale


def ids_hint(array: Tensor) -> str:
    """What to do about an array that looks like token ids: whole numbers of at least 0, at least one above 1."""
    whole = bool((array == array.round()).all()) and bool((array >= 0).all()) and bool((array > 1).any())
    hint = "; if these are token ids, give their embeddings, or draw tokens by --probe tokens"
    return hint if whole else ""


def _assumed_layout(array: Tensor, name: str) -> str:
    """The sentence about an array of several sequences and several steps, either of which may be the first axis."""
    if array.ndim != 3 or 1 in array.shape[:2]:
        return ""
    sequences, steps, _ = array.shape
    return (
        f"{printable(name, 200)}: its array {list(array.shape)} was read as [B, T, D], {sequences} sequences of "
        f'{steps} steps; if it is [T, B, D], give --layout TBD (layout="TBD" in Python)'
    )


def check_lengths(
    shape: tuple[int, ...], length: int | None, batch: int | None, name: str, layout: Layout | None = None
) -> None:
    """Compare the length and batch asked for with an array ``[T, D]``, ``[B, T, D]`` or, by its layout, ``[T, B, D]``.

    Raises:
        ProbeError: if the array is smaller.
    """
    steps, sequences = shape[-2], shape[0] if len(shape) == 3 else 1
    if layout == "TBD" and len(shape) == 3:
        steps, sequences = sequences, steps
    held = {"--T": (length, steps, sequences), "--batch": (batch, sequences, steps)}
    for option, (wanted, there, swapped) in held.items():
        if wanted is not None and wanted > there:
            other = ""
            if len(shape) == 3 and layout is None and wanted <= swapped:
                other = "; it was read as [B, T, D]: if it is [T, B, D], give --layout TBD"
            raise ProbeError(f"{name}: {option} {wanted} is more than the {there} that the array has{other}")


def check_fits(numbers: int, name: str) -> None:
    """Refuse a probe that does not fit into memory, before it is read.

    Raises:
        ProbeError: with the sizes and the options that lower them.
    """
    needed, free = COPIES * 8 * numbers, available_memory()
    if needed > free:
        raise ProbeError(
            f"{name}: {numbers:,} numbers take about {needed / 2**30:.3g} GiB as float64 with the copies that a "
            f"measurement makes; {free / 2**30:.3g} GiB of memory are free; lower --T or --batch"
        )


def _normal(shape: Shape | tuple[int, ...], stream: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=stream)


def _noise(shape: Shape, stream: torch.Generator) -> Tensor:
    return _normal(shape, stream)


def _zeros(shape: Shape, stream: torch.Generator) -> Tensor:
    del stream
    return torch.zeros(shape, dtype=torch.float64)


def _constant(shape: Shape, stream: torch.Generator) -> Tensor:
    return _normal(shape[1:], stream).expand(shape)


def _sine(shape: Shape, stream: torch.Generator) -> Tensor:
    length = shape[0]
    phase, position = torch.rand((2, *shape[1:]), dtype=torch.float64, generator=stream)
    period = 4 * (max(length, 8) / 4) ** position
    step = torch.arange(length, dtype=torch.float64)[:, None, None]
    angle: Tensor = 2 * math.pi * (step / period + phase)
    return angle.sin()


def _impulse(shape: Shape, stream: torch.Generator) -> Tensor:
    inputs = torch.zeros(shape, dtype=torch.float64)
    inputs[0] = _normal(shape[1:], stream)
    return inputs


_GENERATORS: dict[str, Callable[[Shape, torch.Generator], Tensor]] = {
    "noise": _noise,
    "zeros": _zeros,
    "constant": _constant,
    "sine": _sine,
    "impulse": _impulse,
}
