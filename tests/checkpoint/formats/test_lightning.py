"""Checkpoints that Lightning's Trainer writes while it trains."""

from __future__ import annotations

import argparse
import datetime
import pathlib

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from tests.builders.changed_layers import members_that_differ, own_names, written
from tests.builders.modules import assert_same_run

lightning = pytest.importorskip("lightning")

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's many, of the machine and of its own libraries


class Schedule:
    """Something of the user's among the hyperparameters, which needs this class to be unpickled."""

    def __init__(self) -> None:
        self.start = datetime.date(2026, 1, 1)
        self.rates = {"warm": 0.1, "peak": [0.5, print]}


class Model(lightning.LightningModule):
    def __init__(self, nonlinearity, schedule, settings):
        super().__init__()
        self.save_hyperparameters()
        self.words = nn.Embedding(7, 3)
        self.model = nn.ModuleDict({"rnn": nn.RNN(3, 5, 2, nonlinearity=nonlinearity), "cell": nn.LSTMCell(5, 4)})

    def training_step(self, batch, _):
        states = self.model["rnn"](self.words(batch))[0]
        return self.model["cell"](states[-1])[0].square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters())
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model after two steps of training, and what the Trainer and its callback saved."""
    folder = tmp_path_factory.mktemp("lightning")
    settings = argparse.Namespace(path=pathlib.PurePosixPath("/data"), device=torch.device("cpu"), dtype=torch.float16)
    model = Model("relu", Schedule(), settings)
    keep = lightning.pytorch.callbacks.ModelCheckpoint(folder / "kept", save_last=True)
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=2, callbacks=[keep], logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(model, torch.utils.data.DataLoader(torch.randint(7, (4, 6)), batch_size=2))
    trainer.save_checkpoint(folder / "whole.ckpt")
    trainer.save_checkpoint(folder / "weights.ckpt", weights_only=True)
    return model.eval(), folder


@pytest.mark.parametrize("name", ["whole.ckpt", "weights.ckpt", "kept/last.ckpt"])
def test_a_trainer_s_checkpoint(trained, name):
    net, folder = trained
    model = load(folder / name)
    assert [stack.name for stack in model.stacks] == ["model.rnn", "model.cell"]
    assert [layer.cell for layer in model.stacks[0].layers] == ["relu", "relu"]
    for stack in model.stacks:
        assert_same_run(stack, net.model[stack.name.removeprefix("model.")])
    assert torch.equal(model.stacks[0].embedding, net.words.weight.detach())
    assumed, stated = model.notes
    assert assumed.startswith("nn.LSTMCell was assumed for model.cell")
    assert stated == "relu was taken for model.rnn: the file says so in hyper_parameters.nonlinearity"
    reasons = {skipped.name: skipped.reason for skipped in model.source.skipped}
    assert reasons.pop("words") == "embedding; --probe tokens draws its rows"
    assert set(reasons.values()) <= {"optimizer state", "not recurrent: kth_value []"}  # the latter a callback's


def test_changed_layers_are_written_back(trained, tmp_path):
    _, folder = trained
    changed = written(folder / "whole.ckpt", tmp_path / "new.ckpt")
    assert len(members_that_differ(folder / "whole.ckpt", tmp_path / "new.ckpt")) == 9  # of 12 weights, weight_ih stay
    old, new = (torch.load(path, weights_only=False) for path in (folder / "whole.ckpt", tmp_path / "new.ckpt"))
    assert old.keys() == new.keys()
    wanted = own_names(changed)
    for name, tensor in old["state_dict"].items():
        assert torch.equal(new["state_dict"][name], wanted[name].float() if name in wanted else tensor)
    for one, other in zip(*(each["optimizer_states"][0]["state"].values() for each in (old, new)), strict=True):
        assert all(torch.equal(value, other[key]) for key, value in one.items())
    fresh = Model.load_from_checkpoint(tmp_path / "new.ckpt", weights_only=False)
    assert torch.equal(fresh.state_dict()["model.cell.weight_hh"], wanted["model.cell.weight_hh"].float())
