"""Makes ``tests/golden/library_states.npz``: parameters of many libraries' cells, and the states that they compute.

Each case has the parameters under the names that its library gives them, random inputs ``[T, B, D]`` and the library's
own states ``[T, B, H]``, in float64. Made with jax 0.10.2, flax 0.12.8, dm-haiku 0.0.17, equinox 0.13.8, mlx 0.32.4 and
reservoirpy 0.4.2 (``library_states.py jax mlx reservoirpy``), and with resdag 6.0.0 and nn4n 1.1.1 on PyTorch
(``library_states.py torch``). A run replaces the cases of the libraries that it names and keeps all others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden" / "library_states.npz"
STEPS, BATCH, INPUTS, UNITS = 6, 2, 3, 5

Case = tuple[str, dict[str, np.ndarray], np.ndarray, np.ndarray]
"""name, parameters by name, inputs and states"""


def case(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The parameters of a stored case by name, its inputs and its states."""
    with np.load(GOLDEN) as golden:
        held = {key.partition("|")[2]: golden[key] for key in golden if key.startswith(f"{name}|")}
    return held, held.pop("inputs"), held.pop("states")


def _inputs(width: int = INPUTS) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((STEPS, BATCH, width))


def _flat(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """A tree of dicts by paths with slashes."""
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    found: dict[str, np.ndarray] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}/{key}" if prefix else str(key))
    return found


def _jax() -> Iterator[Case]:
    import jax

    jax.config.update("jax_enable_x64", True)
    yield from _linen()
    yield from _nnx()
    yield from _haiku()
    yield from _equinox()


def _linen() -> Iterator[Case]:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    options = {"features": UNITS, "bias_init": nn.initializers.normal(0.5), "param_dtype": jnp.float64}
    for name in ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"):
        cell, inputs = getattr(nn, name)(**options), _inputs()
        carry = cell.initialize_carry(jax.random.key(0), inputs[0].shape)
        tree = cell.init(jax.random.key(1), carry, inputs[0])
        states = []
        for x in inputs:
            carry, output = cell.apply(tree, carry, x)
            states.append(np.asarray(output))
        yield f"flax.linen.{name}", _flat({"params": {f"{name}_0": tree["params"]}}), inputs, np.stack(states)


def _nnx() -> Iterator[Case]:
    import jax.numpy as jnp
    from flax import nnx

    normal = nnx.initializers.normal(0.5)
    for name in ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"):
        options: dict[str, Any] = {"bias_init": normal, "param_dtype": jnp.float64, "dtype": jnp.float64}
        cell, inputs = getattr(nnx, name)(INPUTS, UNITS, rngs=nnx.Rngs(0), **options), _inputs()
        carry = cell.initialize_carry(inputs[0].shape, nnx.Rngs(1))
        states = []
        for x in inputs:
            carry, output = cell(carry, jnp.asarray(x))
            states.append(np.asarray(output))
        yield (
            f"flax.nnx.{name}",
            _flat({"cell": nnx.to_pure_dict(nnx.state(cell, nnx.Param))}),
            inputs,
            np.stack(states),
        )


def _haiku() -> Iterator[Case]:
    import haiku as hk
    import jax
    import jax.numpy as jnp

    for name in ("LSTM", "GRU", "VanillaRNN"):

        def unroll(x: Any, name: str = name) -> Any:
            core = getattr(hk, name)(UNITS)
            return hk.dynamic_unroll(core, x, core.initial_state(BATCH))[0]

        inputs = jnp.asarray(_inputs())
        transformed = hk.without_apply_rng(hk.transform(unroll))
        tree = jax.tree.map(_moved, transformed.init(jax.random.key(0), inputs))
        states = np.asarray(transformed.apply(tree, inputs))
        yield f"haiku.{name}", _flat({key: dict(value) for key, value in tree.items()}), np.asarray(inputs), states


def _moved(parameter: Any) -> Any:
    """A parameter whose numbers are not all zero."""
    return parameter + 0.3 * np.random.default_rng(1).standard_normal(parameter.shape)


def _equinox() -> Iterator[Case]:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    for name in ("LSTMCell", "GRUCell"):
        cell, inputs = getattr(eqx.nn, name)(INPUTS, UNITS, key=jax.random.key(2)), _inputs()
        zero = jnp.zeros((BATCH, UNITS))
        state: Any = (zero, zero) if name == "LSTMCell" else zero
        states = []
        for x in inputs:
            state = jax.vmap(cell)(jnp.asarray(x), state)
            states.append(np.asarray(state[0] if name == "LSTMCell" else state))
        held = {f"cell.{own}": np.asarray(getattr(cell, own)) for own in ("weight_ih", "weight_hh", "bias")}
        held |= {"cell.bias_n": np.asarray(cell.bias_n)} if name == "GRUCell" else {}
        yield f"equinox.{name}", held, inputs, np.stack(states)


def _mlx() -> Iterator[Case]:
    import mlx.core as mx
    import mlx.nn as nn
    from mlx.utils import tree_flatten, tree_map

    mx.set_default_device(mx.cpu)
    for name in ("LSTM", "GRU", "RNN"):
        layer, inputs = getattr(nn, name)(INPUTS, UNITS), _inputs()
        layer.update(tree_map(lambda p: p.astype(mx.float64), layer.parameters()))
        outputs = layer(mx.array(inputs.swapaxes(0, 1), dtype=mx.float64))
        states = np.array(outputs[0] if name == "LSTM" else outputs).swapaxes(0, 1)
        held = {f"layers.0.{own}": np.array(value) for own, value in tree_flatten(layer.parameters())}
        yield f"mlx.{name}", held, inputs, states


def _reservoirpy() -> Iterator[Case]:
    from reservoirpy.nodes import Reservoir

    for name, lr in (("Reservoir", 0.3), ("Reservoir with a leak per unit", np.linspace(0.1, 0.9, UNITS))):
        drawn = np.random.default_rng(3)
        node = Reservoir(
            W=drawn.standard_normal((UNITS, UNITS)),
            Win=drawn.standard_normal((UNITS, INPUTS)),
            bias=drawn.standard_normal(UNITS) if name == "Reservoir" else 0.4,
            lr=lr,
        )
        inputs = _inputs()
        states = np.stack(
            [np.asarray(node.run(inputs[:, b])) if not b else _run_again(node, inputs[:, b]) for b in range(BATCH)], 1
        )
        held = {"W": node.W, "Win": node.Win, "bias": node.bias, "lr": lr}
        yield (
            f"reservoirpy.{name}",
            {own: np.asarray(value, dtype=float) for own, value in held.items()},
            inputs,
            states,
        )


def _run_again(node: Any, inputs: np.ndarray) -> np.ndarray:
    node.reset()
    return np.asarray(node.run(inputs))


def _torch() -> Iterator[Case]:
    import torch
    from nn4n.model import CTRNN
    from resdag.layers.reservoirs.esn import ESNLayer

    torch.set_default_dtype(torch.float64)
    for name, leak in (("ESNLayer", 0.4), ("ESNLayer with a leak per unit", [0.1, 0.2, 0.5, 0.9, 1.0])):
        layer = ESNLayer(UNITS, feedback_size=2, input_size=1, spectral_radius=1.1, leak_rate=leak, seed=0)
        inputs = torch.tensor(_inputs())
        states = layer(inputs[..., :2].transpose(0, 1), inputs[..., 2:].transpose(0, 1)).transpose(0, 1)
        held = {own: value.double().numpy() for own, value in layer.state_dict().items()}
        yield f"resdag.{name}", held, inputs.numpy(), states.detach().numpy()
    for activation in ("relu", "tanh"):
        model = CTRNN(dims=[INPUTS, UNITS, 2], activation=activation, tau=100, dt=25, biases="normal").double()
        inner, currents = model.recurrent_layer, []
        for part in (inner.input_layer, inner.hidden_layer):  # their forward casts inputs to float32
            part.forward = lambda x, part=part: x @ part.weight.T + part.bias
        v = torch.zeros(BATCH, UNITS)
        rate = inner.activation(v)
        for x in torch.tensor(_inputs()):
            rate, v = inner._recurrence(rate, v, x)
            currents.append(v)
        held = {own: value.numpy() for own, value in model.state_dict().items()}
        yield f"nn4n.CTRNN {activation}", held, _inputs(), torch.stack(currents).detach().numpy()


LIBRARIES = {"jax": _jax, "mlx": _mlx, "reservoirpy": _reservoirpy, "torch": _torch}


def main(libraries: list[str]) -> None:
    """Replace the cases of some libraries."""
    arrays = dict(np.load(GOLDEN)) if GOLDEN.exists() else {}
    for library in libraries:
        for name, held, inputs, states in LIBRARIES[library]():
            arrays = {key: value for key, value in arrays.items() if not key.startswith(f"{name}|")}
            arrays |= {f"{name}|{own}": value for own, value in held.items()}
            arrays |= {f"{name}|inputs": inputs, f"{name}|states": states}
            print(name, {own: value.shape for own, value in held.items()})
    np.savez_compressed(GOLDEN, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
