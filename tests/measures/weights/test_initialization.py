"""p-values are uniform for fresh draws of each law, and tiny for trained weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from rnndiag import checkpoint
from rnndiag.cells.layer import RecurrentLayer
from rnndiag.measures.weights.goodness_of_fit import gaussian_p_value, kolmogorov_survival
from rnndiag.measures.weights.initialization import Shape, closest_init
from rnndiag.measures.weights.recurrent_weight import recurrent_weight
from tests.paths import SAMPLES

DRAWS = 200
SIZE = 48

LEVEL = 1e-4
"""At which uniformity is rejected; seeds are fixed."""


Draw = Callable[[Tensor, torch.Generator], object]


def by_block(draw: Draw) -> Draw:
    return lambda w, g: [draw(block, g) for block in w.split(w.shape[1])]


def truncated(weight: Tensor, generator: torch.Generator) -> Tensor:
    scale = 1 / math.sqrt(weight.shape[1]) / 0.87962566
    return nn.init.trunc_normal_(weight, 0, scale, -2 * scale, 2 * scale, generator=generator)


LAWS: dict[str, Draw] = {
    "pytorch_uniform": lambda w, g: w.uniform_(-(w.shape[1] ** -0.5), w.shape[1] ** -0.5, generator=g),
    "xavier_uniform": by_block(lambda w, g: nn.init.xavier_uniform_(w, generator=g)),
    "xavier_normal": by_block(lambda w, g: nn.init.xavier_normal_(w, generator=g)),
    "xavier_uniform_stacked": lambda w, g: nn.init.xavier_uniform_(w, generator=g),
    "xavier_normal_stacked": lambda w, g: nn.init.xavier_normal_(w, generator=g),
    "he_uniform": lambda w, g: nn.init.kaiming_uniform_(w, nonlinearity="relu", generator=g),
    "he_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    "xavier_normal_truncated": truncated,
    "gaussian": lambda w, g: w.normal_(0, 0.3 / math.sqrt(w.shape[1]), generator=g),
    "orthogonal": by_block(lambda w, g: nn.init.orthogonal_(w, gain=0.7, generator=g)),
}


def draws(name: str, gates: int, stored: torch.dtype, count: int = DRAWS) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(len(name))
    for _ in range(count):
        weight = torch.empty(gates * SIZE, SIZE)
        LAWS[name](weight, generator)
        yield weight.to(stored).double()


def uniformity(p_values: list[float]) -> float:
    """Kolmogorov-Smirnov p-value of p-values."""
    ordered, count = torch.tensor(p_values, dtype=torch.float64).sort().values, len(p_values)
    steps = torch.arange(count) / count
    distance = float(torch.maximum(ordered - steps, steps + 1 / count - ordered).max())
    return kolmogorov_survival((math.sqrt(count) + 0.12) * distance)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LAWS)
def test_p_values_of_fresh_draws_are_uniform(name: str, stored: torch.dtype) -> None:
    gates = 3
    shape = Shape(SIZE, SIZE, gates)
    found = [closest_init(weight, shape, stored) for weight in draws(name, gates, stored)]
    assert all(found)
    names = Counter(each.name for each in found if each is not None)
    assert names[name] >= 0.95 * DRAWS  # neighbours in shape may fit better
    p_values = [each.p_value for each in found if each is not None and each.name == name]
    assert uniformity(p_values) > LEVEL
    assert sum(p < 0.01 for p in p_values) <= 8  # 2 are expected


def test_every_trained_sample_is_told_from_every_law() -> None:
    layers = [
        layer
        for path in sorted(SAMPLES.glob("*.pt"))
        for stack in checkpoint.load(path).stacks
        for layer in stack.layers
    ]
    assert len(layers) >= 13
    for layer in layers:
        closest = recurrent_weight(layer.to(torch.float64), layer.weight_hh.dtype).closest_init
        assert closest is not None
        assert closest.p_value < 1e-3, layer.name


@pytest.mark.parametrize("name", ["pytorch_uniform", "xavier_normal", "orthogonal"])
def test_a_little_training_is_seen(name: str) -> None:
    (weight,) = draws(name, 1, torch.float32, 1)
    step = torch.outer(torch.linspace(-1, 1, SIZE), torch.linspace(1, 2, SIZE)).double()
    moved = weight + 0.6 * float(weight.abs().max()) * step / float(step.abs().max())
    closest = closest_init(moved, Shape(SIZE, SIZE, 1), torch.float32)
    assert closest is not None
    assert closest.p_value < 1e-3


@pytest.mark.parametrize(("gain", "name"), [(1.0, "identity"), (0.1, "identity"), (0.0, "zeros")])
def test_what_holds_exactly(gain: float, name: str) -> None:
    weight = torch.cat([gain * torch.eye(6)] * 3).double()
    closest = closest_init(weight, Shape(6, 6, 3), torch.float32)
    assert closest is not None
    assert (closest.name, closest.p_value) == (name, 1.0)


def test_orthogonal_columns_of_all_gates_together() -> None:
    """As Keras draws the recurrent kernel of a gated cell."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(DRAWS):
        weight = nn.init.orthogonal_(torch.empty(64, 16), generator=generator)
        found.append(closest_init(weight.double(), Shape(16, 16, 4), torch.float32))
    assert {each.name for each in found if each is not None} == {"orthogonal"}
    assert uniformity([each.p_value for each in found if each is not None]) > LEVEL


def test_a_projected_layer_and_its_blocks() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 32, proj_size=12).double()
    weights = lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, lstm.bias_hh_l0, lstm.weight_hr_l0
    measured = recurrent_weight(RecurrentLayer("l", "lstm", *(w.detach() for w in weights)))
    assert measured.closest_init is not None
    assert measured.closest_init.name == "pytorch_uniform"
    for block in measured.blocks.values():
        assert block.closest_init is not None
        assert block.closest_init.name == "pytorch_uniform"


def test_one_entry_tells_nothing() -> None:
    assert closest_init(torch.ones(1, 1).double(), Shape(1, 1, 1), torch.float32) is None


@pytest.mark.parametrize("count", [30, 1000])
def test_the_gaussian_test_needs_no_scale(count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    p_values = [gaussian_p_value(7e-3 * torch.randn(count, generator=generator).double()) for _ in range(400)]
    assert uniformity(p_values) > LEVEL
    assert gaussian_p_value(torch.rand(count, generator=generator).double() - 0.5) < (0.2 if count < 100 else 1e-6)


def test_kolmogorovs_law() -> None:
    """Tabulated quantiles; both series where they meet."""
    for x, survival in ((1.22385, 0.1), (1.35810, 0.05), (1.62762, 0.01), (0.82757, 0.5)):
        assert kolmogorov_survival(x) == pytest.approx(survival, abs=2e-5)
    assert kolmogorov_survival(1 - 1e-12) == pytest.approx(kolmogorov_survival(1 + 1e-12), abs=1e-10)
