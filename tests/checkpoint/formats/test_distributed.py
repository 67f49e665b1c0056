"""Folders of torch.distributed.checkpoint, written by one process and by two that share each tensor."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from rnndiag.checkpoint import load
from rnndiag.checkpoint.layers.answers import Answers
from tests.builders.changed_layers import own_names, written
from tests.builders.modules import MODULES, Net, assert_same_run

dcp = pytest.importorskip("torch.distributed.checkpoint")

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized")


@pytest.fixture
def write(tmp_path):
    def to_folder(content):
        dcp.save(content, checkpoint_id=tmp_path / "saved")
        return tmp_path / "saved"

    return to_folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", MODULES)
def test_hidden_states(write, kind, dtype):
    net = Net(MODULES[kind]().to(dtype))
    model = load(write(net.state_dict()), Answers(nonlinearity="relu" if kind == "relu" else None))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert model.stacks[0].layers[0].weight_hh.dtype == dtype
    assert_same_run(model.stacks[0], net.rnn)
    assert model.source.format == "distributed"
    assert {skipped.name for skipped in model.source.skipped} == {"norm", "head"}


def test_a_training_checkpoint(write):
    net = Net(nn.LSTM(3, 5))
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    content = {"net": {"ema": net.state_dict()}, "first": optimizer.state_dict(), "step": 3, "losses": [torch.ones(2)]}
    model = load(write(content))
    assert [stack.name for stack in model.stacks] == ["rnn"]
    assert_same_run(model.stacks[0], net.rnn)
    assert {s.name: s.reason for s in model.source.skipped}["first"] == "optimizer state"


def test_metadata_of_each_process_alone_are_refused(tmp_path, refusal):
    dcp.save(nn.GRU(2, 3).state_dict(), checkpoint_id=tmp_path / "saved", use_collectives=False)
    assert "save it without use_collectives=False" in refusal(tmp_path / "saved")


RANK = """
    import os, sys, torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.cell = nn.LSTM(3, 5, 2, bidirectional=True), nn.GRUCell(3, 5)

        def forward(self, x):
            return self.cell(self.rnn(x)[0])

    dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[1]), world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    model = Model()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if dist.get_rank() == 0:
        torch.save(state, "expected.pt")
    for name, place in {"rows": Shard(0), "columns": Shard(-1), "copies": Replicate()}.items():
        spread = {k: distribute_tensor(v, mesh, [place]) for k, v in state.items()}
        dcp.save({"model": spread, "step": 3}, checkpoint_id=name)
    fully_shard(model, mesh=mesh)
    dcp.save({"model": model.state_dict()}, checkpoint_id="fsdp")
    dist.barrier()
    os._exit(0)  # at a proper exit, gloo's threads may abort the process
"""


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """What two processes saved of one model, spread over them in four ways."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | ({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(RANK)]
    processes = [
        subprocess.Popen([*command, str(rank), str(folder / "store")], cwd=folder, env=environment) for rank in (0, 1)
    ]
    # Both take some 10 s on an idle machine.
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("layout", ["rows", "columns", "copies", "fsdp"])
def test_tensors_that_two_processes_share(ranks, layout):
    modules = nn.ModuleDict({"rnn": nn.LSTM(3, 5, 2, bidirectional=True), "cell": nn.GRUCell(3, 5)})
    modules.load_state_dict(torch.load(ranks / "expected.pt"))
    model = load(ranks / layout)
    assert sorted(stack.name for stack in model.stacks) == ["cell", "rnn"]
    for stack in model.stacks:
        assert_same_run(stack, modules[stack.name])


@pytest.mark.parametrize("layout", ["rows", "columns", "copies", "fsdp"])
def test_changed_layers_are_written_back(ranks, tmp_path, layout):
    new = own_names(written(ranks / layout, tmp_path / "new"))
    old = torch.load(ranks / "expected.pt")
    state = {"model": {name: torch.zeros_like(tensor) for name, tensor in old.items()}}
    dcp.load(state, checkpoint_id=tmp_path / "new")
    assert state["model"].keys() == new.keys()
    assert all(torch.equal(tensor, new[name].float()) for name, tensor in state["model"].items())


@pytest.fixture
def changed(ranks, tmp_path):
    """A copy of the folder whose tensors lie in two chunks, its metadata changed by a function."""

    def copy(change=lambda metadata: None):
        for file in (ranks / "rows").iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        metadata = pickle.loads((tmp_path / ".metadata").read_bytes())
        change(metadata)
        (tmp_path / ".metadata").write_bytes(pickle.dumps(metadata))
        return tmp_path

    return copy


NAME = "model.cell.weight_hh"


def tensor_of(metadata):
    return metadata.state_dict_metadata[NAME]


def places_of(metadata):
    return [place for index, place in metadata.storage_data.items() if index.fqn == NAME]


def set_chunk(number, **fields):
    return lambda metadata: vars(tensor_of(metadata).chunks[number]).update(fields)


def set_place(**fields):
    return lambda metadata: [vars(place).update(fields) for place in places_of(metadata)]


def set_tensor(**fields):
    return lambda metadata: vars(tensor_of(metadata)).update(fields)


def same_place(metadata):
    first, second = places_of(metadata)
    vars(second).update(vars(first))


def overlap(metadata):
    """The second chunk a row below the start of the first: as many numbers as there should be, and a hole."""
    tensor_of(metadata).chunks[1].offsets = torch.Size([1, 0])
    (second,) = [i for i in metadata.storage_data if i.fqn == NAME and i.offset[0]]
    metadata.storage_data[type(second)(NAME, (1, 0))] = metadata.storage_data.pop(second)


LIES = {
    "a chunk outside": (set_chunk(1, offsets=torch.Size([9, 0])), "its chunk at [9, 0] lies in 0 places"),
    "a chunk too large": (set_chunk(1, sizes=torch.Size([80, 5])), "its chunk [80, 5] at [8, 0] is not within [15, 5]"),
    "a chunk too small": (set_chunk(1, sizes=torch.Size([1, 5])), "its chunks do not fill [15, 5]"),
    "a chunk of other dimensions": (set_chunk(1, sizes=torch.Size([35])), "a chunk has 1 dimensions, expected 2"),
    "a chunk left out": (set_tensor(chunks=[]), "its chunks do not fill [15, 5]"),
    "another shape": (set_tensor(size=torch.Size([16, 5])), "its chunks do not fill [16, 5]"),
    "an enormous shape": (set_tensor(size=torch.Size([2**40, 2**20])), "do not fill"),
    "another order of chunks": (same_place, "expected a chunk [7, 5] of torch.float32, got [8, 5] of torch.float32"),
    "overlapping chunks": (overlap, "its chunks overlap and do not fill [15, 5]"),
    "beyond the file": (set_place(length=2**40), "lies beyond the end of __0_0.distcp"),
    "no room": (set_place(length=8), "its chunk [8, 5] is larger than the 8 bytes that hold it"),
    "compressed": (set_place(transform_descriptors=["zstd"]), "its chunks are compressed"),
    "another place": (set_place(offset=3), "cut short or followed by other data"),
    "a missing file": (set_place(relative_path="__7_0.distcp"), "__7_0.distcp is missing"),
    "a file elsewhere": (set_place(relative_path="../x.distcp"), "expected the name of a file in the same folder"),
    "no file": (set_place(relative_path=3), "_StorageInfo.relative_path: expected a str"),
    "a negative place": (set_place(offset=-1), "lies beyond the end"),
    "no list": (set_tensor(chunks=3), "TensorStorageMetadata.chunks: expected a list"),
    "no size": (set_tensor(size=[15, 5]), "TensorStorageMetadata.size: expected a StandIn"),
}  # fmt: skip


def test_the_copy_is_read(changed):
    assert {stack.name for stack in load(changed()).stacks} == {"rnn", "cell"}


@pytest.mark.parametrize("lie", LIES)
def test_metadata_that_lie(changed, lie):
    change, words = LIES[lie]
    try:
        reasons = {skipped.name: skipped.reason for skipped in load(changed(change)).source.skipped}
        reason = reasons["cell"]
    except Exception as error:
        reason = str(error)
    assert words in reason


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (pickle.dumps({}), "expected the metadata of torch.distributed.checkpoint"),
        (pickle.dumps(os.system), "expected the metadata"),
        (pickle.dumps(3), "expected the metadata"),
    ],
)
def test_other_pickles(refusal, tmp_path, content, words):
    (tmp_path / ".metadata").write_bytes(content)
    assert words in refusal(tmp_path)


def test_no_call_is_made(sandbox, changed, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'sentinel'}",)

    path = changed(lambda metadata: vars(metadata).update(planner_data=Attack()))
    pickle.loads((path / ".metadata").read_bytes())
    (tmp_path / "sentinel").unlink()
    assert sandbox(path)["layers"]
    assert not (tmp_path / "sentinel").exists()


def deep_paths(metadata):
    keys = [f"{i}" for i in range(63)]
    properties = tensor_of(metadata)
    for i in range(2000):
        metadata.planner_data[f"t{i}"] = (f"branch {i}", *keys)
        metadata.state_dict_metadata[f"t{i}"] = properties


def twice(metadata):
    metadata.planner_data |= {"a": ("x",), "b": ("x", "y"), "c": ("model",), "d": (), "e": (("x",),)}
    metadata.state_dict_metadata |= dict.fromkeys("abcde", tensor_of(metadata))


@pytest.mark.parametrize("change", [deep_paths, twice])
def test_paths_that_are_none(sandbox, changed, change):
    outcome = sandbox(changed(change))
    assert "layers" in outcome, outcome
    assert "cell" in outcome["layers"]


def test_a_missing_file_of_another_process(changed, refusal):
    path = changed()
    (path / "__1_0.distcp").unlink()
    assert "__1_0.distcp is missing: copy all files of the model into one folder" in refusal(path)


def test_damage_in_a_chunk_is_a_refusal(changed, refusal):
    path = changed()
    for file in path.glob("*.distcp"):
        file.write_bytes(b"\0" * file.stat().st_size)
    assert "cut short or followed by other data" in refusal(path)
