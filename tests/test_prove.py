"""`train prove`: a run is trained again from its config, and its weights are compared."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from synth.errors import UserError
from tests.kit import invoke, json_lines, together
from tests.kit_train import SETTINGS, quiet
from train import checkpoint, machine, runs
from train.cli import app
from train.distributed import Ranks
from train.export import export
from train.prove import prepare, prove
from train.start.request import TrainRequest

pytestmark = pytest.mark.usefixtures("one_thread")

LIVE = (
    *("model.itself=4", "model.reads=4", "model.resolution=8", "model.channels=32,32", "model.text_width=32"),
    *(
        "training.batch=8",
        "training.drop_vector=1",
        "training.precision=fp32",
        "live.scenes_flat.pictures=64",
    ),
    *("live.noise.share=0.25", "live.noise.pictures=16", "live.scenes_flat.size=32"),
    *("run.tick=16", "run.checkpoint=8", "run.samples=32", "run.workers=0"),
)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of a denoiser on two live sets, with checkpoints at 8, 16 and 24 images."""
    out = tmp_path_factory.mktemp("live") / "run"
    request = TrainRequest("diffusion-32", (), str(out), images=24, device="cpu", settings=LIVE)
    assert quiet(replace(request, live=("scenes_flat", "noise"), text="blend:0.9,facts=1..3")) == 0
    return out


def proof(run: Path, out: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, row and stderr of a proof."""
    result = invoke(app, "prove", run, "--out", out, "--device", "cpu", *options)
    return result.exit_code, json_lines(result.stdout)[-1], result.stderr


@pytest.mark.slow
def test_a_run_on_live_sets_is_equal_up_to_every_checkpoint(live: Path, tmp_path: Path) -> None:
    for images, files in ((24, 4), (8, 2)):
        code, row, errors = proof(live, tmp_path / str(images), "--images-seen", str(images))
        assert code == 0 and row["equal"] and row["files"] == files, errors
        assert "machine" not in errors


@pytest.mark.slow
def test_a_run_on_shards_and_tables_is_equal(undisturbed: Path, captioned: Path, tmp_path: Path) -> None:
    request = TrainRequest("tiny-32", (str(undisturbed),), str(tmp_path / "run"), (str(captioned),))
    assert quiet(replace(request, images=16, settings=SETTINGS, device="cpu")) == 0
    code, row, _ = proof(tmp_path / "run", tmp_path / "again")
    assert code == 0 and row["equal"]

    # A longer replay thins out older checkpoints, which is no difference.
    (checkpoint.require(tmp_path / "again") / "generator.safetensors").unlink()
    with pytest.raises(UserError, match=r"no longer has generator.safetensors; give another --out"):
        list(prove(prepare(str(tmp_path / "run"), None, str(tmp_path / "again"), "cpu")))


@pytest.mark.slow
def test_a_run_for_pictures_of_twice_the_side_is_equal_and_resumes(live: Path, tmp_path: Path) -> None:
    """It begins with the weights of a smaller denoiser, stops after a checkpoint, and goes on."""
    kept = [each for each in LIVE if not each.startswith(("model.resolution", "model.channels"))]
    grown = (*kept, "model.resolution=16", "model.channels=32,32,32")
    request = TrainRequest("diffusion-32", (), str(tmp_path / "run"), images=16, device="cpu", settings=grown)
    request = replace(request, live=("scenes_flat", "noise"), text="blend:0.9,facts=1..3", source=str(live))
    assert quiet(request) == 0
    code, row, errors = proof(tmp_path / "run", tmp_path / "again")
    assert code == 0 and row["equal"], errors

    # In two parts.
    for images in (8, 16):
        assert quiet(replace(request, out=str(tmp_path / "parts"), images=images)) == 0
    for file in checkpoint.require(tmp_path / "run").glob("*.safetensors"):
        other = checkpoint.require(tmp_path / "parts") / file.name
        assert load_file(file).keys() == load_file(other).keys()
        assert file.read_bytes() == other.read_bytes(), file.name


@pytest.mark.slow
def test_two_ranks_prove_a_run_of_two_ranks(tmp_path: Path) -> None:
    run, settings = str(tmp_path / "run"), [part for setting in LIVE for part in ("--set", setting)]
    pretrain = ["pretrain", "diffusion-32", "--live", "scenes_flat", "--live", "noise", "--out", run]
    prove = ["prove", run, "--out", str(tmp_path / "again")]
    commands = ([*pretrain, "--images", "16", *settings], prove)
    ended = together([["train", *words, "--device", "cpu"] for words in commands], ranks=2)
    assert [code for code, _, _ in ended] == [0, 0], ended
    _, output, errors = ended[-1]
    [row] = json_lines(output)
    assert row["equal"] and row["files"] == 4
    assert "machine" not in errors


def changed(folder: Path, name: str) -> str:
    """Changes the last bit of one weight of a file. Returns the tensor's name."""
    values = load_file(folder / name)
    with safe_open(folder / name, framework="pt") as file:
        metadata = file.metadata()
    tensor = sorted(values)[3]
    flat = values[tensor].view(-1)
    flat[0] = torch.nextafter(flat[0], flat[0] + 1)
    save_file(values, folder / name, metadata)
    return tensor


def copied(run: Path, out: Path) -> Path:
    return Path(shutil.copytree(run, out))


@pytest.mark.slow
def test_a_changed_weight_is_found_and_named(live: Path, tmp_path: Path) -> None:
    spoilt = copied(live, tmp_path / "spoilt")
    tensor = changed(checkpoint.require(spoilt), "ema.safetensors")
    code, row, errors = proof(spoilt, tmp_path / "again")
    assert code == 1 and not row["equal"]
    assert f"the first difference: ema.safetensors: {tensor} differs in 1 of" in errors


@pytest.mark.slow
def test_an_export_is_proved_by_its_parts(live: Path, tmp_path: Path) -> None:
    export(str(live), str(tmp_path / "shipped"))
    code, row, _ = proof(tmp_path / "shipped", tmp_path / "again")
    assert code == 0 and row["equal"] and row["files"] == 1
    changed(tmp_path / "shipped", "denoiser.safetensors")
    code, row, _ = proof(tmp_path / "shipped", tmp_path / "again")
    assert code == 1 and not row["equal"]


def test_a_longer_replay_proves_no_export(live: Path, tmp_path: Path) -> None:
    shorter = copied(live, tmp_path / "run")
    metadata = {**runs.describe(live), "exported": "0", "images_seen": 8}
    (shorter / "config.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"has seen more images than .*; give another --out"):
        prepare(str(shorter), None, str(live), "cpu")


@pytest.mark.slow
def test_another_machine_is_named(live: Path, tmp_path: Path) -> None:
    there = runs.describe(live)["made_by"]["machine"]
    assert there == machine.describe(Ranks()) and there["threads"] == 1
    spoilt = copied(live, tmp_path / "run")
    metadata = runs.describe(spoilt)
    metadata["made_by"]["machine"] |= {"cpu_capability": "DEFAULT", "threads": 2, "cpu_flags": ["avx9"]}
    (spoilt / "config.json").write_text(json.dumps(metadata))
    _, _, errors = proof(spoilt, tmp_path / "again", "--images-seen", "8")
    assert "the machine differs" in errors and "threads was 2 and is 1" in errors and "avx9" in errors


def test_changed_data_is_refused(live: Path, tmp_path: Path) -> None:
    spoilt = copied(live, tmp_path / "run")
    metadata = runs.describe(spoilt)
    metadata["shards"]["sets"][0]["live"]["law"] = 99
    (spoilt / "config.json").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="this checkout cannot draw scenes_flat as it is recorded"):
        prepare(str(spoilt), None, str(tmp_path / "x"), "cpu")
    metadata = runs.describe(live)
    metadata["shards"]["digest"] = "0" * 64
    (spoilt / "config.json").write_text(json.dumps(metadata))
    with pytest.raises(
        UserError, match="cannot be trained again: the digest of shards is 000000000000 there"
    ):
        prepare(str(spoilt), None, str(tmp_path / "x"), "cpu")
    with pytest.raises(UserError, match="the run itself; give a new folder"):
        prepare(str(live), None, str(live), "cpu")
