"""Exported folders work in other people's hands: code, card, pictures, checksums, encoder, ONNX."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional

from caption import encoders
from caption.lean_imports import import_torchvision
from caption.table import CaptionSet
from synth.errors import UserError
from synth.sets import checksums
from synth.sets.shards import ShardSet
from tests import kit_snapshots
from tests.kit import ROOT, invoke, json_lines, states, tar_hashes, write
from tests.kit_train import DENOISER, SETTINGS, quiet
from train import checkpoint, export, model_card, onnx_file, provenance, runs, snapshots
from train.cli import app
from train.model import Texts
from train.models import stylegan2
from train.sampling import draw, grid
from train.start.request import TrainRequest
from train.stream import captioned_sets
from train.stream.captioned_sets import CaptionedSet

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

FILES = [
    "COMMITTED",
    "README.md",
    "SHA256SUMS",
    "config.json",
    "generator.safetensors",
    "model.py",
    "samples.png",
]


@pytest.fixture(scope="module")
def trained(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two steps."""
    out = tmp_path_factory.mktemp("handed-over") / "run"
    places = ((str(undisturbed),), str(out), (str(captioned),))
    request = TrainRequest("tiny-32", *places, encoder=str(tiny_encoder), settings=SETTINGS)
    quiet(replace(request, images=16))
    return out


@pytest.fixture(scope="module")
def folder(trained: Path) -> Path:
    """Its export."""
    out = trained.parent / "exported"
    export.export(str(trained), str(out))
    return out


# Admits imports of model.py and of the lines on the card, if they are of three packages and Python's own.
GATE = """
import builtins, sys

ALLOWED = {"torch", "safetensors", "numpy", "model", *sys.stdlib_module_names}
plain = builtins.__import__

def gate(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "__main__")
    if importer in ("__main__", "model") and name.partition(".")[0] not in ALLOWED:
        raise ImportError(f"{importer} imports {name}")
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = gate
"""
AFTER = """
from safetensors.torch import save_file
others = drawer.draw(model.Texts(vectors), seed=1, first=5, truncation=0.5)
save_file({"vectors": vectors, "pictures": pictures, "others": others}, "../drawn.safetensors")
assert not {"train", "synth", "caption", "pandas", "PIL"} & set(sys.modules)
"""


def lines_of(card: str) -> str:
    """The first Python block of a card."""
    return card.partition("```python\n")[2].partition("```")[0]


def test_five_lines_of_the_card_draw_the_pictures_of_train_sample_without_a_checkout(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "theirs")
    five = lines_of((tmp_path / "theirs/README.md").read_text())
    assert len(five.replace("\n\n", "\n").splitlines()) == 5
    command = [sys.executable, "-c", GATE + five + AFTER]
    environment = {"PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path / "theirs", env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr

    drawn = load_file(tmp_path / "drawn.safetensors")
    ours = draw.drawing(runs.load(str(folder)), Texts(drawn["vectors"]), seed=0)
    assert torch.allclose(ours.images(range(4)), drawn["pictures"], rtol=0, atol=1e-4)
    shifted = torch.cat([torch.zeros(5, 32), drawn["vectors"]])
    cut = draw.drawing(runs.load(str(folder)), Texts(shifted), seed=1, options={"truncation": "0.5"})
    assert torch.allclose(cut.images(range(5, 9)), drawn["others"], rtol=0, atol=1e-4)
    assert not torch.allclose(drawn["pictures"], drawn["others"], rtol=0, atol=1e-2)


def test_a_denoiser_of_vectors_alone_is_drawn_by_vectors_on_its_grids_and_card(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    places = ((str(undisturbed),), str(tmp_path / "run"), (str(captioned),))
    alone = ("training.drop_words=1", "training.drop_vector=0", "run.samples=8")
    request = TrainRequest(
        "diffusion-32", *places, encoder=str(tiny_encoder), settings=(*DENOISER, *alone), images=8
    )
    quiet(request)
    run = runs.find(str(tmp_path / "run"))
    pictures = CaptionedSet(ShardSet(str(undisturbed)), CaptionSet(str(captioned)))

    def expected(count: int) -> np.ndarray:
        vectors, texts = captioned_sets.stored_texts([pictures], count)
        by_vectors = {"text": "vector", "steps": "2"}
        drawing = draw.drawing(run.load(), Texts(torch.from_numpy(vectors)), seed=0, options=by_vectors)
        return np.asarray(grid.captioned(draw.pictures(drawing), texts))

    with Image.open(tmp_path / "run/samples/000000008.png") as shown:
        assert np.array_equal(np.asarray(shown), expected(4))

    export.export(str(run.path), str(tmp_path / "theirs"))
    with Image.open(tmp_path / "theirs/samples.png") as shown:
        assert np.array_equal(np.asarray(shown), expected(8))
    lines = lines_of((tmp_path / "theirs/README.md").read_text())
    assert 'seed=0, text="vector")' in lines
    command = [sys.executable, "-c", GATE + lines]
    done = subprocess.run(command, cwd=tmp_path / "theirs", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_gate_of_the_test_above_stops_other_packages() -> None:
    command = [sys.executable, "-c", GATE + "import typing_extensions"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "ImportError: __main__ imports typing_extensions" in done.stderr


def test_an_export_has_card_code_pictures_and_checksums_and_is_left_alone(
    trained: Path, folder: Path
) -> None:
    assert sorted(p.name for p in folder.iterdir()) == FILES
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    listed = [line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert listed == [name for name in FILES if name != "SHA256SUMS"]
    before = states(folder)
    export.export(str(trained), str(folder))
    assert states(folder) == before
    data = json.loads((folder / "config.json").read_text())["data"]
    manifest = json.loads((trained / "config.json").read_text())["shards"]["digest"]
    assert data == [{"name": "visual_atoms", "digest": manifest, "licence": "CC0-1.0"}]


def test_the_card_validates_and_names_encoder_data_and_licence(folder: Path, tiny_encoder: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.pipeline_tag) == ("cc0-1.0", "text-to-image")
    source = encoders.find(str(tiny_encoder))
    assert str(tiny_encoder) in card.text and source.sha256 in card.text
    assert json.loads((folder / "config.json").read_text())["data"][0]["digest"] in card.text
    assert "![pictures of texts](samples.png)" in card.text


def test_the_card_has_the_figures_of_its_checkpoint_the_command_and_the_notes(
    trained: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "notes.md").write_text("## Limits\n\nIt draws no text.\n")
    row = {"images_seen": 16, "metric": "precision", "value": 0.12345, "interval": [0.1, 0.15], "n": 40}
    rows = [{**row, "images_seen": 8, "value": 0.5}, row, {**row, "sets": ["a", "b"]}]
    rows.append({**row, "method": "same seed", "kind": "all", "value": None, "interval": None})
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows) + '{"torn')
    metadata = json.loads((tmp_path / "run" / "config.json").read_text())
    origin = {"argv": ["pretrain", "tiny-32", "--out", "my run"], "machine": {"threads": 1}}
    (tmp_path / "run" / "config.json").write_text(json.dumps({**metadata, "made_by": origin}))
    monkeypatch.chdir(undisturbed.parent)
    notes = str(tmp_path / "notes.md")
    export.export(str(tmp_path / "run"), str(tmp_path / "out"), notes=notes)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| precision |  | 0.1235 | 0.1 to 0.15 | 40 |" in card and "| precision | a + b |" in card
    assert "| precision (method same seed, kind all) |  | none |  | 40 |" in card
    assert "0.5 |" not in card and "It draws no text." in card
    assert "python -m train pretrain tiny-32 --out 'my run'" in card and "threads 1" in card
    exported = json.loads((tmp_path / "out" / "config.json").read_text())
    assert exported["shards"]["url"] == undisturbed.name and exported["cpu_seconds"] >= 0
    export.export(str(tmp_path / "run"), str(tmp_path / "out"), notes=notes)  # does nothing
    for _ in range(2):
        export.export(str(tmp_path / "out"), str(tmp_path / "again"))
    assert "\n\n## Limits\n\nIt draws no text.\n\n## Draw\n" in (tmp_path / "again" / "README.md").read_text()
    (tmp_path / "notes.md").write_text("## Limits\n\nNone.\n")
    with pytest.raises(UserError, match="has a card with other notes"):
        export.export(str(tmp_path / "run"), str(tmp_path / "out"), notes=notes)
    with pytest.raises(UserError, match="cannot be read"):
        export.export(str(tmp_path / "run"), str(tmp_path / "other"), notes="nothing.md")
    assert not (tmp_path / "other").exists()


def test_missing_files_of_an_older_or_killed_export_are_added_and_others_left_alone(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "older")
    for name in ("SHA256SUMS", "model.py", "samples.png"):
        (tmp_path / "older" / name).unlink()
    (tmp_path / "older/README.md").write_text("my own words")
    export.export(str(trained), str(tmp_path / "older"))
    assert sorted(p.name for p in (tmp_path / "older").iterdir()) == FILES
    assert (tmp_path / "older/README.md").read_text() == "my own words"
    assert (tmp_path / "older/model.py").read_bytes() == (folder / "model.py").read_bytes()
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "older", check=True)

    # Checksums that name a missing file do not hide it, and new notes reach a new card.
    for name in ("README.md", "model.py"):
        (tmp_path / "older" / name).unlink()
    (tmp_path / "notes.md").write_text("## Limits\n\nNone.\n")
    export.export(str(trained), str(tmp_path / "older"), notes=str(tmp_path / "notes.md"))
    assert sorted(p.name for p in (tmp_path / "older").iterdir()) == FILES
    assert "## Limits" in (tmp_path / "older/README.md").read_text()
    (tmp_path / "older/generator.safetensors").unlink()
    with pytest.raises(UserError, match=r"generator.safetensors is missing; export the run to a new folder"):
        export.export(str(trained), str(tmp_path / "older"))


def test_an_addition_that_was_interrupted_is_completed(
    trained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "exported")
    monkeypatch.setattr(onnx_file, "of", lambda _: b"a model")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checksums, "document", interrupt)
        export.export(str(trained), str(tmp_path / "exported"), onnx=True)
    (tmp_path / "exported/.model.py.0123abcd.tmp").write_text("of a killed writer")
    monkeypatch.setattr(onnx_file, "of", lambda _: pytest.fail("it is there already"))
    export.export(str(trained), str(tmp_path / "exported"), onnx=True)
    assert sorted(p.name for p in (tmp_path / "exported").iterdir()) == sorted([*FILES, "model.onnx"])
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "exported", check=True)


def interrupt(*_: object) -> bytes:
    raise KeyboardInterrupt


def test_an_export_of_an_export_is_the_same_model(folder: Path, tmp_path: Path) -> None:
    export.export(str(folder), str(tmp_path / "again"))
    assert model_card.kept_notes(folder) == ""
    for name in ("generator.safetensors", "model.py", "samples.png"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def edited(folder: Path, **entries: Any) -> None:
    """Changes entries of a config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def test_the_shipped_encoder_goes_with_the_model_and_its_lines_work(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    source = encoders.find("nano")
    edited(tmp_path / "run", encoder={"name": "elsewhere", "digest": source.sha256})
    export.export(str(tmp_path / "run"), str(tmp_path / "exported"))
    nano = ROOT / "data/nano"
    assert tar_hashes(tmp_path / "exported/encoder", "") == tar_hashes(nano, "")
    assert "  encoder/tokenizer.json\n" in (tmp_path / "exported/SHA256SUMS").read_text()
    card = (tmp_path / "exported/README.md").read_text()
    embed = lines_of(card.partition("## Draw")[2].partition("```python")[2]).replace(
        "local-dir:", f"local-dir:{nano.parent}/"
    )
    names: dict[str, Any] = {}
    import_torchvision()
    exec(embed.replace("/encoder", "/nano"), names)
    ours = encoders.load(source).texts(["a red star"])
    assert np.allclose(names["vectors"].detach().numpy(), ours, atol=1e-5)


def test_an_imported_snapshot_is_exported_and_its_card_says_what_is_unknown(
    tmp_path: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit_snapshots.stand_ins(monkeypatch)
    file = kit_snapshots.write(tmp_path / "snapshot.pkl", kit_snapshots.snapshot())
    snapshots.import_snapshot(str(file), str(tiny_encoder), str(tmp_path / "run"))
    export.export(str(tmp_path / "run"), str(tmp_path / "exported"))
    assert sorted(p.name for p in (tmp_path / "exported").iterdir()) == FILES
    card = (tmp_path / "exported/README.md").read_text()
    assert 'license: "unknown"' in card and "imported from snapshot.pkl, sha256" in card
    assert "the training data of snapshot.pkl, which the file does not name | unknown | unknown |" in card
    with Image.open(tmp_path / "exported/samples.png") as sheet:
        assert sheet.width > 4 * 128  # of prompts, since there are no tables


def test_without_tables_and_encoder_there_is_no_sample_grid(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    metadata = json.loads((trained / "config.json").read_text())
    moved = {"url": str(tmp_path / "moved")}
    edited(
        tmp_path / "run",
        encoder={**metadata["encoder"], "name": str(tmp_path / "gone")},
        shards={**metadata["shards"], **moved},
        captions={**metadata["captions"], **moved},
    )
    with pytest.raises(UserError, match="the encoder nano has other weights"):
        export.export(str(tmp_path / "run"), str(tmp_path / "exported"), encoder="nano")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    export.export(str(tmp_path / "run"), str(tmp_path / "exported"))
    assert sorted(p.name for p in (tmp_path / "exported").iterdir()) == FILES[:-1]
    card = (tmp_path / "exported/README.md").read_text()
    assert "samples.png" not in card and 'license: "unknown"' in card
    with pytest.raises(UserError, match=r"exported was exported without samples.png, .*; export to another"):
        export.export(str(tmp_path / "run"), str(tmp_path / "exported"), encoder="nano")


def test_a_model_is_as_free_as_all_that_it_was_trained_on(
    trained: Path, undisturbed: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "run")
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    write(tmp_path / "set/manifest.json", json.dumps({**manifest, "licence": "CC BY 4.0"}))
    real = {"url": str(tmp_path / "set"), "digest": ShardSet(str(tmp_path / "set")).digest, "dataset": "toy"}
    newest = checkpoint.require(trained)
    earlier = {"run": str(trained), "checkpoint": newest.name, "digest": checkpoint.digest(newest)}
    edited(tmp_path / "run", shards=real, **{"from": earlier})
    rows = provenance.data_of(runs.find(tmp_path / "run"))
    assert [(row["name"], row["licence"]) for row in rows] == [
        ("toy", "CC BY 4.0"),
        ("visual_atoms", "CC0-1.0"),
    ]
    assert provenance.licence_of(rows).startswith("The weights are CC0-1.0 as far as they are ours")
    assert provenance.licence_of(rows[1:]) == "CC0-1.0"

    # An export was there when training began, and now a run is.
    edited(tmp_path / "run", **{"from": {**earlier, "checkpoint": "an-export"}})
    assert provenance.data_of(runs.find(tmp_path / "run"))[-1]["licence"] == "unknown"
    assert provenance.measured(runs.find(tmp_path / "run"), 32)["images"] == 32

    # A set or a run that has changed makes no claim.
    edited(tmp_path / "run", shards={**real, "digest": "0"}, **{"from": {**earlier, "digest": "0"}})
    rows = provenance.data_of(runs.find(tmp_path / "run"))
    assert [row["licence"] for row in rows] == ["unknown", "unknown"] and provenance.licence_of(
        rows
    ) == "unknown"


def test_a_model_that_draws_nothing_is_handed_over_without_code(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(stylegan2, "draw")
    with pytest.raises(UserError, match="is a run of stylegan2, which draws no pictures"):
        export.export(str(trained), str(tmp_path / "exported"), onnx=True)
    with pytest.raises(UserError, match=r"--encoder is nano, and no pictures of .* follow vectors; leave it"):
        export.export(str(trained), str(tmp_path / "exported"), encoder="nano")
    export.export(str(trained), str(tmp_path / "exported"))
    names = {p.name for p in (tmp_path / "exported").iterdir()}
    assert names == set(FILES) - {"model.py", "samples.png"}
    assert "The model draws no pictures." in (tmp_path / "exported/README.md").read_text()


def test_onnx_that_cannot_be_written_is_refused_before_the_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("export", trained, "--onnx", "--out")
    assert "--onnx needs a folder" in str(invoke(app, *command, tmp_path / "g.safetensors").exception)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_file, "_PACKAGES", ("onnx", "no_such_package"))
        sentence = "--onnx needs no_such_package; run `make .venv/.export`"
        assert sentence in str(invoke(app, *command, tmp_path / "exported").exception)
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 1000)
    assert "an ONNX file holds 1,000; leave --onnx out" in str(
        invoke(app, *command, tmp_path / "exported").exception
    )
    assert not list(tmp_path.iterdir())


def test_onnx_runtime_draws_the_same_pictures_for_any_number_of_texts(
    trained: Path, folder: Path, tmp_path: Path
) -> None:
    import onnxruntime

    shutil.copytree(folder, tmp_path / "exported")
    weights = states(tmp_path / "exported/generator.safetensors")
    [row] = json_lines(invoke(app, "export", trained, "--out", tmp_path / "exported", "--onnx"))
    assert row["images_seen"] == 16 and states(tmp_path / "exported/generator.safetensors") == weights
    assert sorted(p.name for p in (tmp_path / "exported").iterdir()) == sorted([*FILES, "model.onnx"])
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "exported", check=True)
    before = states(tmp_path / "exported")
    export.export(str(trained), str(tmp_path / "exported"), onnx=True)
    assert states(tmp_path / "exported") == before

    session = onnxruntime.InferenceSession(tmp_path / "exported/model.onnx")
    model = runs.load(str(folder))
    for n in (1, 3):
        vectors = functional.normalize(torch.randn(n, 32, generator=torch.Generator().manual_seed(n)), dim=1)
        noise = np.asarray(runs.model.find(model.name).start(model.config, range(n), 0))
        [pictures] = session.run(["pictures"], {"vectors": vectors.numpy(), "noise": noise})
        ours = draw.drawing(model, Texts(vectors), seed=0).images(range(n))
        assert pictures.shape == (n, 3, 16, 16) and np.abs(pictures - ours.numpy()).max() < 1e-4
