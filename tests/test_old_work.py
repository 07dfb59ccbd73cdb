"""Sets, tables and a run of commit 2cbd3b2 are good today: recognised as finished, redrawn, resumed.

tests/fixtures/at_2cbd3b2/README.md has the commands that made them.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from caption.cli import app as caption_app
from synth import verify
from synth.cli import app as synth_app
from synth.sets.shards import ShardSet
from tests.kit import invoke, json_lines
from train import checkpoint, runs
from train.cli import app as train_app

FIXTURE = Path(__file__).parent / "fixtures/at_2cbd3b2"
GOLDEN = json.loads((FIXTURE / "golden.json").read_text())
SETS = sorted(path.name for path in (FIXTURE / "shards").iterdir())
PLACE = "tests/fixtures/at_2cbd3b2"  # as the commands of then name it

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the fixture, at the same relative place."""
    shutil.copytree(FIXTURE, tmp_path / PLACE)
    monkeypatch.chdir(tmp_path)
    return tmp_path / PLACE


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.iterdir() if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def made_by(name: str) -> list[str]:
    """The options of the command that made a set, from its manifest."""
    manifest = json.loads((FIXTURE / "shards" / name / "manifest.json").read_text())
    identity = manifest["identity"]
    options = {"--n": sum(part["count"] for part in manifest["parts"]), "--workers": 0}
    options |= {
        f"--{key.replace('_', '-')}": identity[key] for key in ("size", "seed", "shard_size", "codec")
    }
    settings = [f"classes={identity['config']['classes']}"]
    if name == "shaders21k":
        settings = [f"programs={PLACE}/programs"]
    settings += ["canvas=64"] if name == "visual_atoms" else []
    words = [str(word) for pair in options.items() for word in pair]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


def run(commands: Any, *words: str) -> list[dict[str, Any]]:
    return json_lines(invoke(commands, *words, raising=True))


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_finished_and_its_pictures_are_drawn_again(old: Path, name: str) -> None:
    before = contents(old / "shards" / name)
    run(synth_app, "shards", name, "--out", f"{PLACE}/shards/{name}", *made_by(name))
    assert contents(old / "shards" / name) == before
    shard_set = ShardSet(f"{PLACE}/shards/{name}")
    assert shard_set.digest == GOLDEN["shards"][name]["digest"]
    assert [damage for _, damage in verify.damages(shard_set, len(shard_set))] == [None, None]


def test_tables_are_finished_and_their_numbers_come_again(old: Path) -> None:
    tables = old / "captions/fractals/nano"
    before = contents(tables)
    options = [
        "--encoder",
        "nano",
        "--text-embeddings",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--workers",
        "0",
    ]
    command = ["captions", f"{PLACE}/shards/fractals", *options, "--out"]
    run(caption_app, *command, f"{PLACE}/captions/fractals/nano")
    assert contents(tables) == before
    run(caption_app, *command, "again")
    from caption.table import CaptionSet

    ours, theirs = (CaptionSet(place) for place in ("again", f"{PLACE}/captions/fractals/nano"))
    for part in theirs.parts:
        new, kept = (tables.read(part, ["key", "caption", "pseudo_caption"]) for tables in (ours, theirs))
        assert new["key"].equals(kept["key"]) and new["caption"].equals(kept["caption"])
        vectors = [np.array(table["pseudo_caption"].to_pylist(), np.float32) for table in (new, kept)]
        assert np.abs(vectors[0] - vectors[1]).max() < 2e-3  # halffloat, of any machine


@pytest.fixture
def resumed(old: Path) -> Iterator[Path]:
    """The run, trained on from its checkpoint by today's code."""
    config = json.loads((old / "run/config.json").read_text())
    settings = [
        f"{group}.{key}={value}" for group, rows in config["config"].items() for key, value in rows.items()
    ]
    words = [word for setting in settings for word in ("--set", setting.replace("=None", "=none"))]
    shards, tables = f"{PLACE}/shards/fractals", f"{PLACE}/captions/fractals/nano"
    places = ["--on", shards, "--captions", tables, "--out", f"{PLACE}/run", "--device", "cpu"]
    result = CliRunner().invoke(
        train_app, ["pretrain", config["preset"], *places, *words], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    yield old / "run"


def near(ours: dict[str, torch.Tensor], golden: dict[str, torch.Tensor], name: str) -> None:
    """Raises AssertionError if tensors differ by more than 1e-4 of their size, as machines round
    differently."""
    assert ours.keys() == golden.keys(), name
    for key, value in golden.items():
        assert ((ours[key] - value).abs() <= 1e-4 * value.abs().clamp(min=1)).all(), f"{name} {key}"


def test_training_goes_on_from_the_checkpoint_to_the_weights_of_then(resumed: Path) -> None:
    newest = checkpoint.require(resumed)
    assert newest.name == "000000128"
    for name in ("ema", "generator", "discriminator"):
        near(
            checkpoint.tensors(newest, f"{name}.safetensors"),
            load_file(FIXTURE / f"continued/{name}.safetensors"),
            name,
        )
    golden = load_file(FIXTURE / "continued/optimisers.safetensors")
    ours = {
        f"{p}.{k}": v
        for p in ("generator", "discriminator")
        for k, v in checkpoint.optimiser(newest, p).items()
    }
    near(ours, golden, "optimisers")


@pytest.mark.slow
def test_the_log_goes_on_with_the_losses_of_then(resumed: Path) -> None:
    new, old = (
        [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (resumed, FIXTURE / "continued")
    )
    assert [row["images_seen"] for row in new] == [row["images_seen"] for row in old]
    for ours, theirs in zip(new, old, strict=True):
        terms = {key: value for key, value in theirs.items() if "/" in key}
        assert {key: ours[key] for key in terms} == pytest.approx(terms, rel=1e-3, abs=1e-4)


def test_an_old_checkpoint_is_drawn_from_and_starts_a_fine_tuning(old: Path) -> None:
    model = runs.load(f"{PLACE}/run")
    assert model.parts.keys() == {"generator", "discriminator"} and model.averages.keys() == {"ema"}
    kept = load_file(old / "run/checkpoints/000000064/ema.safetensors")
    assert all(torch.equal(kept[key], value) for key, value in model.parts["generator"].state_dict().items())
    assert model.parts["generator"] is model.averages["ema"]
