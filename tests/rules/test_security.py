"""What a pickle would have run: each name is reported in every format, and nothing is run."""

from __future__ import annotations

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.model import PickledName, Source
from rnndiag.checkpoint.unpickling.harmful_names import is_common, is_harmful
from rnndiag.checkpoint.unpickling.imported import ImportedNames
from rnndiag.errors import CheckpointError, NotAModelError
from rnndiag.rules.security import ForeignPickle, HarmfulPickle
from tests.builders.pickled_files import module_of
from tests.builders.pickles import DATA, beside_layer, calls, name, text, whole
from tests.builders.torch_files import legacy_of, zip_of

HARMFUL = (
    "os.system", "posix.system", "nt.system", "builtins.eval", "__builtin__.execfile", "builtins.getattr",
    "subprocess.Popen", "sys.modules", "torch.hub.load", "torch.load", "webbrowser.open", "runpy._run_code",
    "importlib.import_module", "shutil.rmtree", "socket.create_connection", "ctypes.CDLL", "pickle.loads",
    "types.CodeType", "operator.attrgetter", "io.open", "torch.serialization.os.system",
    "numpy.testing._private.utils.runstring",
    "torch.fx.graph_module.reduce_graph_module", "collections.abc.sys.modules", "torch.nn.Module.__reduce_ex__",
    "torch." + "nn.modules." * 40 + "Module",
)  # fmt: skip
FOREIGN = ("mymodels.MyNet", "flair.embeddings.token.FlairEmbeddings", "asteroid.engine.system.System", "__main__.Net")
COMMON = (
    "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.nn.modules.rnn.LSTM", "torch.FloatStorage",
    "numpy.core.multiarray._reconstruct", "numpy.dtype", "builtins.set", "__builtin__.object",
    "copy_reg._reconstructor",
    "_codecs.encode", "argparse.Namespace", "pathlib.PosixPath", "pathlib._local.PosixPath", "functools.partial",
    "re._compile", "datetime.datetime", "enum.Enum", "random.Random", "pytorch_lightning.callbacks.ModelCheckpoint",
    "joblib.numpy_pickle.NumpyArrayWrapper", "sklearn.pipeline.Pipeline", "torch.jit._pickle.restore_type_tag",
    "__torch__.torch.nn.modules.rnn.GRU", "logging.getLogger", "types.SimpleNamespace", "operator.itemgetter",
)  # fmt: skip


@pytest.mark.parametrize("dotted", HARMFUL)
def test_harmful_names(dotted):
    assert is_harmful(dotted)


@pytest.mark.parametrize("dotted", FOREIGN)
def test_names_of_other_packages(dotted):
    assert not is_harmful(dotted)
    assert not is_common(dotted)


@pytest.mark.parametrize("dotted", COMMON)
def test_common_names(dotted):
    assert is_common(dotted)
    assert not is_harmful(dotted)


NOT_READ = ("extension code", "wide extension code", "textual reference")
"""Ways to call for which the file is refused."""


@pytest.mark.parametrize("form", [zip_of, legacy_of, None], ids=["zip", "legacy", "plain"])
@pytest.mark.parametrize("opcode", [each for each in calls("") if each not in NOT_READ])
def test_each_way_to_call_is_found(tmp_path, form, opcode):
    attack = calls(f"touch {tmp_path / 'sentinel'}")[opcode]
    if form is zip_of:
        names = load(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA)).source.pickled_names
        assert any(each.harmful for each in names)
        assert any(each.called for each in names) == (not opcode.startswith("BUILD"))
        return
    path = tmp_path / "model.pkl"
    if form is None:
        path.write_bytes(whole(attack))
    else:
        legacy_of(path, whole(attack))
    with pytest.raises(
        CheckpointError, match=r"would have (run|been imported) when this file is loaded with"
    ) as caught:
        load(path)
    assert not isinstance(caught.value, NotAModelError)  # which a run over many files skips
    assert str(caught.value).startswith(f"{path}: ")
    assert not (tmp_path / "sentinel").exists()


def test_a_file_that_is_refused_says_it_too(tmp_path):
    path = zip_of(tmp_path / "model.pt", whole(name("os system"), text("true"), b"\x85R", b"\xff"))
    with pytest.raises(CheckpointError, match=r"has no place in a model.*; os\.system would have run when"):
        load(path)


def test_a_member_of_an_archive_that_is_not_read(tmp_path):
    """The archive is measured; the other file in it is reported."""
    bad = zip_of(tmp_path / "bad.pt", whole(calls("true")["REDUCE"]))
    torch.save(nn.RNN(1, 2).state_dict(), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive:
        archive.write(bad, "bad.pt")
        archive.write(tmp_path / "good.pt", "good.pt")
    assert load(tmp_path / "models.zip").source.pickled_names == (PickledName("os.system", called=True, harmful=True),)


def source(*names: PickledName, format_: str = "torch") -> Source:
    return Source("model.pt", format_, pickled_names=names)


def test_what_the_rules_say():
    names = (
        PickledName("os.system", True, True),
        PickledName("os.path", False, True),
        PickledName("my.Net", True, False),
    )
    (harmful,) = HarmfulPickle().assess_file(source(*names))
    assert harmful.message == (
        "os.system would have run when this file is loaded with torch.load(weights_only=False); os.path would have been"
        " imported when this file is loaded with torch.load(weights_only=False)"
    )
    assert harmful.layer == ""
    assert harmful.severity == "error"
    (foreign,) = ForeignPickle().assess_file(source(*names, format_="zip/pickle"))
    assert foreign.message == (
        "loading this file with pickle.load would have imported my.Net, and run the code of 1 package: my"
    )
    assert foreign.severity == "info"
    assert not list(HarmfulPickle().assess_file(source()))
    assert not list(ForeignPickle().assess_file(source()))


ORDINARY = {
    "a state_dict": lambda: nn.LSTM(2, 3).state_dict(),
    "a checkpoint": lambda: {
        "model": nn.GRU(2, 3).state_dict(),
        "loss": np.float64(1.5),
        "classes": {"a", "b"},
        "x": b"x",
    },
    "a pickled module": lambda: nn.Sequential(nn.Embedding(3, 2), nn.LSTM(2, 3)),
    "arrays": lambda: {key: tensor.numpy() for key, tensor in nn.RNN(2, 3).state_dict().items()},
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.RNN(2, 3), "weight_hh_l0").state_dict(),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_models_are_silent(save, kind, legacy):
    assert load(save(ORDINARY[kind](), legacy=legacy)).source.pickled_names == ()


def test_a_class_of_ones_own_is_listed(tmp_path):
    with module_of("mymodels", "Net") as own:
        data = pickle.dumps(own.Net(rnn=nn.RNN(1, 2)))
    (tmp_path / "model.pkl").write_bytes(data)
    assert load(tmp_path / "model.pkl").source.pickled_names == (
        PickledName("mymodels.Net", called=True, harmful=False),
    )


def test_names_without_end_are_bounded():
    names = ImportedNames()
    for i in range(1000):
        names.add(f"mymodels.Net{i}", is_called=True)
    names.add("os.system", is_called=False)
    assert len(names.names) == 101
    assert names.names[0] == PickledName("os.system", called=False, harmful=True)


FORMATS = {
    "table": "SEC001 harmful-pickle\n",
    "markdown": "**error** SEC001 harmful-pickle: os.system would have run",
    "github": "title=SEC001 harmful-pickle::os.system would have run",
    "junit": 'message="os.system would have run',
    "sarif": '"ruleId": "SEC001"',
    "json": '"rule":"SEC001"',
    "jsonl": '"rule":"SEC001"',
}


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_shows_it(cli, tmp_path, format_):
    path = zip_of(tmp_path / "model.pt", beside_layer(calls("true")["REDUCE"]), DATA)
    command = "inspect" if format_ in ("table", "json", "jsonl") else "check"
    done = cli(command, path, "--T", 5, "--no-treat", "--batch", 2, "--select", "SEC", "--format", format_)
    assert done.code == (1 if command == "check" else 0)
    shown = done.out.replace('": "', '":"') if format_ in ("json", "jsonl") else done.out
    assert FORMATS[format_] in shown
    if format_ == "json":
        report = json.loads(done.out)
        assert report["source"]["pickled_names"] == [{"name": "os.system", "called": True, "harmful": True}]
        assert [finding["layer"] for finding in report["findings"]] == [""]


def test_check_fails_and_a_policy_can_switch_it_off(cli, tmp_path):
    path = zip_of(tmp_path / "model.pt", beside_layer(calls("true")["REDUCE"]), DATA)
    options = (path, "--T", 5, "--no-treat", "--batch", 2)
    done = cli("check", *options, "--select", "SEC")
    assert done.code == 1
    assert "error SEC001 harmful-pickle: os.system would have run" in " ".join(done.out.split())
    assert "SEC001" not in cli("check", *options, "--ignore", "SEC001").out
