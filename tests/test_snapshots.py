"""Network snapshots of LAFITE's program become runs, and hostile files are refused."""

import hashlib
import json
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from synth.errors import UserError
from tests import kit_snapshots as kit
from tests.kit import invoke, json_lines
from tests.kit_train import SETTINGS, quiet
from train import checkpoint, pickles, runs, snapshots
from train.cli import app
from train.models import lafite_names
from train.sampling import draw
from train.start.request import TrainRequest

pytestmark = pytest.mark.usefixtures("one_thread", "stand_ins")


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    kit.stand_ins(monkeypatch)


def imported(file: Path, encoder: Path, out: Path) -> tuple[dict[str, Any], str]:
    """Returns the row and the notes of the command."""
    result = invoke(app, "import", file, "--encoder", encoder, "--out", out, raising=True)
    return json_lines(result)[0], result.stderr


def refused(file: Path, encoder: Path, sentence: str) -> None:
    """Asserts that a file is refused in one sentence, and that nothing is written or allocated."""
    out = file.with_name("run")
    tracemalloc.start()
    with pytest.raises(UserError, match=sentence) as error:
        snapshots.import_snapshot(str(file), str(encoder), str(out))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6 and "\n" not in str(error.value) and len(str(error.value)) < 600
    assert not out.exists()


def test_a_snapshot_is_not_left_alone_if_another_encoder_is_named(tmp_path: Path) -> None:
    file, out = tmp_path / "network-snapshot-000120.pkl", tmp_path / "run"
    file.write_bytes(b"a snapshot")
    out.mkdir()
    origin = {"from": file.name, "sha256": hashlib.sha256(b"a snapshot").hexdigest()}
    there = {"config": {}, "shards": {}, "captions": {}, "encoder": {"name": "mine", "digest": "0"}}
    (out / "config.json").write_text(json.dumps({**there, "imported": origin}))
    with pytest.raises(UserError, match="with the encoder mine, and --encoder is nano; give another --out"):
        snapshots.import_snapshot(str(file), "nano", str(out))


@pytest.mark.parametrize("protocol", [3, 4])
def test_a_snapshot_becomes_a_run_that_draws_its_pictures(
    tmp_path: Path, tiny_encoder: Path, protocol: int
) -> None:
    content = kit.snapshot()
    file = kit.write(tmp_path / "network-snapshot-000120.pkl", content, protocol=protocol)
    row, notes = imported(file, tiny_encoder, tmp_path / "run")
    assert (row["images_seen"], row["resolution"]) == (120_000, 16)
    assert "the file does not name its encoder" in notes

    # Weights and pictures are those of the average.
    tensors = kit.generator_tensors(kit.SMALL, 1)
    state = lafite_names.generator_state(tensors, kit.SMALL)
    model = runs.load(str(tmp_path / "run"))
    assert model.parts["generator"].sizes == kit.SMALL
    ours = model.parts["generator"].state_dict()
    assert ours.keys() == state.keys() and all(torch.equal(ours[name], state[name]) for name in state)
    pictures = draw.sample(runs.find(tmp_path / "run"), ["a star"], n=2, seed=0)
    assert pictures.shape == (2, 16, 16, 3) and pictures.std() > 1

    # G and D as well.
    folder = checkpoint.require(tmp_path / "run")
    d = lafite_names.discriminator_state(kit.discriminator_tensors(kit.SMALL, 2), kit.SMALL)
    theirs = checkpoint.tensors(folder, "discriminator.safetensors")
    assert theirs.keys() == d.keys() and all(torch.equal(theirs[name], d[name]) for name in d)
    g = lafite_names.generator_state(kit.generator_tensors(kit.SMALL, 0), kit.SMALL)
    assert torch.equal(checkpoint.tensors(folder, "generator.safetensors")["fixed_noise"], g["fixed_noise"])
    metadata = json.loads((tmp_path / "run/config.json").read_text())
    assert metadata["imported"]["from"] == file.name and len(metadata["imported"]["sha256"]) == 64

    # Again, nothing happens.
    before = (tmp_path / "run/config.json").stat().st_mtime_ns
    assert "is this snapshot already" in imported(file, tiny_encoder, tmp_path / "run")[1]
    assert (tmp_path / "run/config.json").stat().st_mtime_ns == before


def test_an_imported_run_is_fine_tuned_and_exported(
    tmp_path: Path, tiny_encoder: Path, undisturbed: Path, captioned: Path
) -> None:
    file = kit.write(tmp_path / "snapshot.pkl", kit.snapshot())
    imported(file, tiny_encoder, tmp_path / "run")
    sizes = [f"model.{name}={value}" for name, value in vars(kit.SMALL).items()]
    request = TrainRequest(
        "lafite-256",
        (str(undisturbed),),
        str(tmp_path / "tuned"),
        (str(captioned),),
        encoder=str(tiny_encoder),
        settings=(*(s for s in SETTINGS if not s.startswith("model.")), *sizes),
        source=str(tmp_path / "run"),
        images=8,
    )
    assert quiet(request) == 0
    tuned, source = (runs.load(str(tmp_path / name)).averages["ema"] for name in ("tuned", "run"))
    assert tuned.sizes == source.sizes
    json_lines(invoke(app, "export", tmp_path / "run", "--out", tmp_path / "g.safetensors", raising=True))
    part = runs.load_part(tmp_path / "g.safetensors")
    ours, theirs = part.state_dict(), source.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_features_that_the_program_would_cut_are_named(tmp_path: Path, tiny_encoder: Path) -> None:
    content = kit.snapshot()
    _, notes = imported(kit.write(tmp_path / "a.pkl", content), tiny_encoder, tmp_path / "a")
    assert "LAFITE's program cuts them at 256" not in notes
    content["G_ema"].get_submodule("synthesis.b8.conv0").bias.data.fill_(1000.0)
    _, notes = imported(kit.write(tmp_path / "b.pkl", content), tiny_encoder, tmp_path / "b")
    assert "on 64 pictures, and LAFITE's program cuts them at 256" in notes


def spoil_structure(content: dict[str, Any]) -> None:
    content["G"].get_submodule("synthesis.b16.conv1").structure = 1


def spoil_norm(content: dict[str, Any]) -> None:
    content["D"].use_norm = True


def spoil_pace(content: dict[str, Any]) -> None:
    content["G_ema"].get_submodule("mapping.fc0").bias_gain = 1


def spoil_filter(content: dict[str, Any]) -> None:
    content["D"].get_submodule("b16.conv1").resample_filter[0, 0] = 1


def spoil_further(content: dict[str, Any]) -> None:
    content["G_ema"].get_submodule("synthesis.b4").const_scale = nn.Parameter(torch.ones(3))


def spoil_channels(content: dict[str, Any]) -> None:
    content["G_ema"].get_submodule("synthesis.b8.conv1").weight = nn.Parameter(torch.ones(7, 16, 3, 3))


def spoil_shape(content: dict[str, Any]) -> None:
    content["D"].get_submodule("b4.fts").weight = nn.Parameter(torch.ones(32, 15))


def spoil_name(content: dict[str, Any]) -> None:
    del content["D"].get_submodule("b4.fts").weight


def spoil_network(content: dict[str, Any]) -> None:
    del content["G_ema"]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_structure, "structure of G.synthesis.b16.conv1 is 1, and ours has 2"),
        (spoil_norm, "use_norm of D is True, and ours has False"),
        (spoil_pace, "the learning rate multiplier of G_ema.mapping.fc0 is 1"),
        (spoil_filter, r"the filter b16.conv1.resample_filter differs from \[1, 3, 3, 1\]"),
        (spoil_further, "it has the tensor synthesis.b4.const_scale, which ours has not"),
        (spoil_channels, "its channels are 16 at 4 px, 7 at 8 px, 8 at 16 px"),
        (spoil_shape, r"meaning.weight is \(32, 15\), and ours is \(32, 16\)"),
        (spoil_name, "D has no 'b4.fts.weight'"),
        (spoil_network, "it has no Generator G_ema"),
    ],
)
def test_networks_that_ours_cannot_represent_are_refused_by_name(
    tmp_path: Path, tiny_encoder: Path, spoil: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    content = kit.snapshot()
    spoil(content)
    refused(kit.write(tmp_path / "snapshot.pkl", content), tiny_encoder, sentence)


def test_an_encoder_of_another_width_is_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    file = kit.write(tmp_path / "snapshot.pkl", kit.snapshot(replace(kit.SMALL, text_dim=48)))
    refused(file, tiny_encoder, "reads texts of 48 dimensions, and .* gives 32")


class Shell:
    """A pickle of it runs a command, if anybody lets it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (f"touch {self.place}",)


def rebuilt(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Any:
    """Returns a thing that is pickled as a tensor of this size in a storage of four elements."""
    storage = torch.zeros(4).storage()  # pickled by its bytes

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, {})

    return Hostile()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((5,), (1,), 0),
        ((10**9,), (0,), 0),
        ((2,), (1,), 3),
        ((2, 2), (3, 1), 0),
        ((1,), (1,), -1),
        ((2,), (-1,), 1),
    ],
)
def test_tensors_beyond_their_storage_are_refused(
    tmp_path: Path, tiny_encoder: Path, size: tuple[int, ...], stride: tuple[int, ...], offset: int
) -> None:
    file = kit.write(tmp_path / "hostile.pkl", {"G": rebuilt(size, stride, offset)})
    refused(file, tiny_encoder, "larger than its storage|no whole number")


def test_code_is_refused_and_not_run(tmp_path: Path, tiny_encoder: Path) -> None:
    for protocol in (2, 3, 4, 5):
        file = kit.write(tmp_path / "hostile.pkl", {"G": Shell(tmp_path / "ran")}, protocol=protocol)
        refused(file, tiny_encoder, "it names (posix|nt).system, which no snapshot does")
    assert not (tmp_path / "ran").exists()


DOUBLED = b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(1, 60))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x80\x04Nr\xff\xff\xff\x7f.", "it holds no dict"),  # a memo of 2^31 entries
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "it has the opcode 150"),  # a bytearray of 1 TB
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".", "it ends within a storage"),  # bytes of 1 TB
        (b"\x80\x04\x95" + struct.pack("<Q", 2**40) + b".", "."),  # a frame of 1 TB
        (b"\x80\x02)q\x01" + DOUBLED + b"}h\x3cNs.", "a dict with other keys than names"),  # 2^59 hashes
        pytest.param(b"\x80\x02" + b"(" * 600_000, "more than 500,000 opcodes", marks=pytest.mark.slow),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "it names builtins.eval"),
        (b"\x80\x02ctorch\nFloatStorage\n.", "it names torch.FloatStorage"),
        (
            b"\x80\x04\x8c\x02\n\x1b\x8c\x01a\x93.",
            r"it names \?\?\.a, which",
        ),  # a terminal's control character
        (b"\x80\x02X\x01\x00\x00\x00a)R.", "it calls something that is no name"),
        (b"\x80\x02c" + b"collections\nOrderedDict\n" + b"]\x85R.", "a dict of another form"),
        (b"\x80\x02Pid\n.", "it has the opcode 80"),
        (b"", "no network snapshot"),
        (b"PK\x03\x04", "it has the opcode 80|no network snapshot"),
    ],
)
def test_bombs_are_refused_at_once(tmp_path: Path, tiny_encoder: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "bomb.pkl").write_bytes(data)
    refused(tmp_path / "bomb.pkl", tiny_encoder, sentence)


def test_modules_without_end_are_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = {"_parameters": {}, "_buffers": {}}
    inner = pickles.Module("Layer", {**state, "_modules": {}})
    for _ in range(40):  # 2^40 paths to the innermost one
        inner = pickles.Module("Layer", {**state, "_modules": {"a": inner, "b": inner}})
    alike = pickles.Module("Layer", {**state, "_modules": {}})
    for _ in range(40):  # names that are equal as text
        alike = pickles.Module("Layer", {**state, "_modules": {1: alike, "1": alike}})
    endless: dict[str, Any] = {**state, "_modules": {}}
    endless["_modules"]["itself"] = pickles.Module("Layer", endless)
    for module in (inner, alike, pickles.Module("Generator", endless)):
        with pytest.raises(ValueError, match="nested without end"):
            pickles.tensors(module)


@pytest.mark.slow
def test_cut_and_changed_files_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    whole = kit.write(tmp_path / "whole.pkl", kit.snapshot()).read_bytes()
    for length in (1, 100, 5000, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pkl").write_bytes(whole[:length])
        refused(tmp_path / "cut.pkl", tiny_encoder, "is no network snapshot of LAFITE's program")
    chance = np.random.default_rng(0)
    for _ in range(40):  # single bytes: refused, or a weight has another value
        changed = bytearray(whole)
        changed[chance.integers(20_000)] ^= 1 << int(chance.integers(8))
        (tmp_path / "changed.pkl").write_bytes(changed)
        try:
            content = pickles.read(tmp_path / "changed.pkl")
        except UserError:
            continue
        assert all(type(value) in (pickles.Module, dict, str, type(None)) for value in content.values())


def test_tensors_that_share_their_memory_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    """A file of a few megabytes cannot make networks of gigabytes."""
    content = kit.snapshot(replace(kit.SMALL, text_width=256))
    views = [m for m in content["G_ema"].modules() if m.__class__.__name__ == "FullyConnectedLayer"]
    shared = nn.Parameter(torch.zeros(256, 256))
    for module in views:
        if module.weight.shape == (256, 256):
            module.weight = shared
    file = kit.write(tmp_path / "shared.pkl", {**content, "G": content["G_ema"]})
    refused(file, tiny_encoder, "G_ema: its tensors share their memory")


@pytest.mark.slow
def test_shapes_without_elements_are_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    content = kit.snapshot()
    for shape in ((), (0, 1), (0, 10**15)):
        for name in ("mapping.fc0", "synthesis.b4.conv1.pre_0", "synthesis.b16.conv1"):
            layer = content["G_ema"].get_submodule(name)
            whole, layer.weight = layer.weight, nn.Parameter(torch.zeros(shape))
            file = kit.write(tmp_path / "empty.pkl", content)
            refused(file, tiny_encoder, "holds a network that ours cannot represent: G_ema")
            layer.weight = whole


def test_a_snapshot_is_read_without_torch_load_or_the_unpickler_in_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = kit.write(tmp_path / "snapshot.pkl", kit.snapshot())
    for owner, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(owner, name, None)
    content = pickles.read(file)
    assert {"G", "D", "G_ema"} <= content.keys()
