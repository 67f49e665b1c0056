"""Train the sample models: small recurrent nets on real data, some of them with a known defect.

    python sample_models/train.py              # all of them, a few minutes on one thread
    python sample_models/train.py gru lstm     # only these

The data are scikit-learn's 8×8 handwritten digits, read pixel by pixel (T=64, D=1). Every model but the
encoder-decoder names the digit from its last hidden state, so a net that forgets its early steps, or
scrambles them, pays for it in test accuracy. The healthy, vanishing, exploding and saturated tanh nets share
one training recipe and differ in their initial weights alone: the healthy one is the control of the others.

Every model starts from the same fixed seed on one thread, whichever others the run trains. The script writes
the checkpoints, ``digits.npy`` (real test sequences [B, T, D], to probe with) and ``results.json`` beside
itself. The accuracies are those of the last epoch: no epoch is picked by its test accuracy.
"""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
SEED = 0
PIXEL_MEAN, PIXEL_STD = 4.88, 6.02  # of all pixels, so that unit Gaussian noise is a fair stand-in for them
N_TEST = 360
N_CLASSES = 10
START = N_CLASSES  # the decoder's first input token, after the ten digits
SENTENCE = 4  # images in a row to transcribe
CURVE_POINTS = 10
MAX_BYTES = 300_000


class Classifier(nn.Module):
    """A recurrent stack whose last hidden state goes through a linear head."""

    def __init__(self, cell: str, hidden: int, layers: int = 1, bidirectional: bool = False) -> None:
        super().__init__()
        options: dict[str, Any] = {"batch_first": True, "num_layers": layers, "bidirectional": bidirectional}
        self.rnn: nn.RNNBase
        if cell in ("tanh", "relu"):
            self.rnn = nn.RNN(1, hidden, nonlinearity=cell, **options)
        else:
            self.rnn = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](1, hidden, **options)
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits for [B, T, 1]; each direction is read where it has seen the whole sequence."""
        _, state = self.rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        last: Tensor = torch.cat([h[-2], h[-1]], dim=1) if self.rnn.bidirectional else h[-1]
        logits: Tensor = self.head(last)
        return logits

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of the digits."""
        return nn.functional.cross_entropy(self(x), y)

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of digits named rightly."""
        return float((self(x).argmax(1) == y).float().mean())


class Transcriber(nn.Module):
    """Reads a row of digit images and writes their digits, one token at a time."""

    def __init__(self, hidden: int, embedding: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(8, hidden, batch_first=True)
        self.embedding = nn.Embedding(N_CLASSES + 1, embedding)
        self.decoder = nn.GRUCell(embedding, hidden)
        self.head = nn.Linear(hidden, N_CLASSES)

    def forward(self, x: Tensor, teacher: Tensor | None = None) -> Tensor:
        """Token logits [B, L, 10]; without a teacher each step is fed the decoder's own last token."""
        h = self.encoder(x)[1][0]
        token = torch.full((len(x),), START)
        logits = []
        for i in range(SENTENCE):
            h = self.decoder(self.embedding(token), h)
            logits.append(self.head(h))
            token = logits[-1].argmax(1) if teacher is None else teacher[:, i]
        return torch.stack(logits, dim=1)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy of the tokens, each predicted after the right ones before it."""
        return nn.functional.cross_entropy(self(x, y).flatten(0, 1), y.flatten())

    def accuracy(self, x: Tensor, y: Tensor) -> float:
        """Share of tokens right when decoding greedily, with no teacher."""
        return float((self(x).argmax(2) == y).float().mean())


Model = Classifier | Transcriber


@dataclass(frozen=True)
class Split:
    """Training and test inputs, with their targets."""

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def pixel_sequences() -> Split:
    """The digits as standardised sequences [B, 64, 1], with a fixed stratified split."""
    digits = load_digits()
    x = ((digits.data - PIXEL_MEAN) / PIXEL_STD).astype(np.float32)[:, :, None]
    parts = train_test_split(x, digits.target, test_size=N_TEST, random_state=SEED, stratify=digits.target)
    x_train, x_test, y_train, y_test = map(torch.from_numpy, parts)
    return Split(x_train, y_train, x_test, y_test)


def image_rows() -> Split:
    """Four random images after one another, eight pixels a step [B, 32, 8], and their digits [B, 4].

    Training sequences hold only training images, and test sequences only test images.
    """
    single = pixel_sequences()
    generator = torch.Generator().manual_seed(SEED)

    def draw(x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(x), (count, SENTENCE), generator=generator)
        return x.reshape(-1, 8, 8)[chosen].flatten(1, 2), y[chosen]

    return Split(*draw(single.x_train, single.y_train, 8000), *draw(single.x_test, single.y_test, 1000))


@dataclass(frozen=True)
class Start:
    """Initial recurrent weights; with no `ih_std`, the input weights keep PyTorch's uniform ones."""

    hh: str = "orthogonal"  # or "identity"; of each gate's block
    gain: float = 1.0
    ih_std: float | None = None
    bias_std: float = 0.0
    forget_bias: float = 0.0  # LSTM only

    @torch.no_grad()
    def apply(self, model: nn.Module) -> None:
        """Set the weights of every recurrent layer in `model`."""
        for name, p in model.named_parameters():
            if "weight_hh" in name:
                for block in torch.split(p, p.shape[1]):
                    nn.init.eye_(block) if self.hh == "identity" else nn.init.orthogonal_(block)
                    block.mul_(self.gain)
            elif "weight_ih" in name and self.ih_std is not None:
                nn.init.normal_(p, std=self.ih_std)
            elif "bias_hh" in name:
                p.zero_()
            elif "bias_ih" in name:
                nn.init.normal_(p, std=self.bias_std)
                if self.forget_bias:
                    p.chunk(4)[1].fill_(self.forget_bias)  # PyTorch's order: input, forget, cell, output

    def __str__(self) -> str:
        words = [f"W_hh {self.hh}" + (f" × {self.gain:g}" if self.gain != 1 else "")]
        words += [f"W_ih ~ N(0, {self.ih_std:g}²)"] if self.ih_std is not None else []
        words += [f"bias ~ N(0, {self.bias_std:g}²)" if self.bias_std else "bias 0"]
        words += [f"forget bias {self.forget_bias:g}"] if self.forget_bias else []
        return ", ".join(words)


@dataclass(frozen=True)
class Fit:
    """A training recipe; the learning rate falls to zero along a cosine."""

    optimizer: str
    lr: float
    epochs: int
    batch: int = 32
    clip: float = 1.0

    def __str__(self) -> str:
        optimizer = "SGD with momentum 0.9" if self.optimizer == "SGD" else self.optimizer
        return (
            f"{optimizer}, learning rate {self.lr:g} falling to 0 (cosine), batches of {self.batch}, "
            f"gradient norm clipped at {self.clip:g}, {self.epochs} epochs"
        )


@dataclass(frozen=True)
class Spec:
    """One sample model: what it is, how it starts, how it is trained and how it is saved."""

    name: str
    description: str
    build: Callable[[], Model]
    start: Start
    fit: Fit
    layout: str = "plain"  # of the checkpoint: see `save`
    data: Callable[[], Split] = pixel_sequences


def save(path: Path, spec: Spec, model: Model, optimizer: torch.optim.Optimizer) -> None:
    """Write the checkpoint, in one of the layouts that are met in the wild."""
    state = model.state_dict()
    match spec.layout:
        case "legacy":  # the format from before PyTorch 1.6, which is not a zip archive
            torch.save(state, path, _use_new_zipfile_serialization=False)
        case "parallel":  # named as DataParallel names it
            torch.save({f"module.{k}": v for k, v in state.items()}, path)
        case "lightning":  # of a LightningModule that keeps its net in self.model
            state = {f"model.{k}": v for k, v in state.items()}
            torch.save({"epoch": spec.fit.epochs, "state_dict": state, "hyper_parameters": {"lr": spec.fit.lr}}, path)
        case "training":  # to resume from; only the hyper-parameters tell that this RNN is a ReLU net
            hyper = {"nonlinearity": "relu", "lr": spec.fit.lr, "batch_size": spec.fit.batch}
            checkpoint = {"epoch": spec.fit.epochs, "model_state": state, "hyper_parameters": hyper}
            torch.save({**checkpoint, "optimizer_state": optimizer.state_dict()}, path)
        case "module":  # pickled whole: its class lives in __main__ and cannot be imported later
            torch.save(model, path)
        case _:
            torch.save(state, path)
    if path.stat().st_size >= MAX_BYTES:
        raise RuntimeError(f"{path.name} has {path.stat().st_size} bytes; a sample stays below {MAX_BYTES}")


def tanh_net() -> Model:
    """The net that the four tanh samples start from."""
    return Classifier("tanh", 64)


FORGET_BIAS = Start(forget_bias=1.0)
# Slow on purpose: Adam at 1e-3, or SGD at 1e-2, grows the vanishing net's recurrent weights and heals it.
SHARED = Fit("SGD", lr=2e-3, epochs=100, batch=64)
SPECS = (
    Spec("vanishing_tanh", "tanh RNN, 64 units, short memory", tanh_net, Start(gain=0.1, ih_std=0.1), SHARED),
    Spec("exploding_tanh", "tanh RNN, 64 units, chaotic", tanh_net, Start(gain=3.0, ih_std=0.1), SHARED),
    Spec("healthy_tanh", "tanh RNN, 64 units, healthy", tanh_net, Start(ih_std=0.1), SHARED),
    Spec("saturated_tanh", "tanh RNN, 64 units, saturated", tanh_net, Start(ih_std=8, bias_std=8), SHARED),
    Spec(
        "irnn_relu",
        "IRNN (Le, Jaitly and Hinton 2015): ReLU RNN, 100 units, started at the identity",
        lambda: Classifier("relu", 100),
        Start(hh="identity", ih_std=0.3),
        Fit("Adam", lr=1e-3, epochs=100, batch=16, clip=0.3),
        "training",
    ),
    Spec("gru", "GRU, 48 units", lambda: Classifier("gru", 48), Start(), Fit("Adam", 1e-2, 40), "lightning"),
    Spec("lstm", "LSTM, 48 units", lambda: Classifier("lstm", 48), FORGET_BIAS, Fit("Adam", 5e-3, 60), "legacy"),
    Spec(
        "bilstm_2layer",
        "two-layer bidirectional LSTM, 32 units a direction",
        lambda: Classifier("lstm", 32, layers=2, bidirectional=True),
        FORGET_BIAS,
        Fit("Adam", 5e-3, 30),
    ),
    Spec(
        "encoder_decoder",
        "GRU encoder and GRU-cell decoder, 64 units each, the decoder fed by an embedding of width 16: "
        "reads four digit images, eight pixels a step (T=32, D=8), and writes their digits",
        lambda: Transcriber(64, 16),
        Start(),
        Fit("Adam", 5e-3, 20, batch=64),
        "parallel",
        image_rows,
    ),
    Spec(
        "pickled_module",
        "two-layer GRU, 32 units a layer, pickled whole",
        lambda: Classifier("gru", 32, layers=2),
        Start(),
        Fit("Adam", 1e-2, 30),
        "module",
    ),
)


def train(spec: Spec) -> dict[str, Any]:
    """Train and save one model.

    Args:
        spec: Which one.

    Returns:
        Its entry in ``results.json``.
    """
    started = time.perf_counter()
    torch.manual_seed(SEED)
    data = spec.data()
    model = spec.build()
    spec.start.apply(model)
    optimizer: torch.optim.Optimizer
    if spec.fit.optimizer == "SGD":
        optimizer = torch.optim.SGD(model.parameters(), lr=spec.fit.lr, momentum=0.9)
    else:
        optimizer = torch.optim.Adam(model.parameters(), lr=spec.fit.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.fit.epochs)
    kept = {round(e) for e in np.linspace(1, spec.fit.epochs, CURVE_POINTS)}
    curve = []
    for epoch in range(1, spec.fit.epochs + 1):
        total = 0.0
        for batch in torch.split(torch.randperm(len(data.x_train)), spec.fit.batch):
            loss = model.loss(data.x_train[batch], data.y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), spec.fit.clip)
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        if epoch in kept:
            with torch.no_grad():
                accuracy = model.accuracy(data.x_test, data.y_test)
            point = {"epoch": epoch, "loss": total / len(data.x_train), "test_accuracy": accuracy}
            curve.append({key: round(value, 4) for key, value in point.items()})
    path = HERE / f"{spec.name}.pt"
    save(path, spec, model, optimizer)
    return {
        "file": path.name,
        "description": spec.description,
        "recipe": f"{spec.start}; {spec.fit}",
        "epochs": spec.fit.epochs,
        "test_accuracy": curve[-1]["test_accuracy"],
        "train_loss": curve[-1]["loss"],
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": path.stat().st_size,
        "seconds": round(time.perf_counter() - started, 1),
        "curve": curve,
    }


def _row(label: str, cells: Iterable[str]) -> str:
    """One line of the printed curve."""
    return f"  {label:<9}" + "".join(f"{cell:>7}" for cell in cells)


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Models to train; all without any.")] = None,
) -> None:
    """Train the sample models and write their checkpoints, digits.npy and results.json."""
    known = {spec.name: spec for spec in SPECS}
    if unknown := sorted(set(names or ()) - set(known)):
        raise typer.BadParameter(f"no model called {', '.join(unknown)}; there are {', '.join(known)}")
    torch.set_num_threads(1)  # one order of summation, so that a seed always gives the same weights
    torch.use_deterministic_algorithms(True)
    np.save(HERE / "digits.npy", pixel_sequences().x_test[:16].numpy())
    results_path = HERE / "results.json"
    results = json.loads(results_path.read_text()) if results_path.exists() else {}
    for name in names or known:
        entry = results[name] = train(known[name])
        curve = entry["curve"]
        print(f"{name}: {entry['description']}\n  {entry['recipe']}")
        print(_row("epoch", (str(point["epoch"]) for point in curve)))
        print(_row("loss", (f"{point['loss']:.3f}" for point in curve)))
        print(_row("accuracy", (f"{point['test_accuracy']:.3f}" for point in curve)))
        print(
            f"  test accuracy {entry['test_accuracy']:.1%}, {entry['parameters']} parameters, "
            f"{entry['bytes'] / 1000:.0f} kB, {entry['seconds']:.0f} s\n",
            flush=True,
        )
        # Written after each model, so that an interrupted run keeps what it has.
        ordered = {key: results[key] for key in known if key in results}
        results_path.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    typer.run(main)
