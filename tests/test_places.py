"""Names of sets in commands: the usual places of sets and tables below the working directory."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from caption.cli import app as caption_app
from evaluate import measuring
from evaluate.cli import app as evaluate_app
from synth.errors import UserError
from synth.sets import places
from tests.kit import invoke, make_small, make_tables
from train.cli import app as train_app
from train.start import training
from train.start.request import TrainRequest


@pytest.fixture(autouse=True)
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a formula set, and a real set of two splits."""
    monkeypatch.chdir(tmp_path)
    for place in ("data/shards/atoms", "data/real/coco/train", "data/real/coco/val"):
        Path(place).mkdir(parents=True)
        (Path(place) / "manifest.json").write_text("{}")
    (tmp_path / "data/real/coco/test").mkdir()  # not finished
    return tmp_path


def test_a_name_stands_for_a_formula_set_or_the_splits_of_a_real_one() -> None:
    assert places.sets("atoms") == ["data/shards/atoms"]
    assert places.sets("coco") == ["data/real/coco/train", "data/real/coco/val"]
    assert places.training_set("coco") == "data/real/coco/train"
    assert places.held_out_set("coco") == "data/real/coco/val"
    assert places.training_set("atoms") == places.held_out_set("atoms") == "data/shards/atoms"
    assert places.is_real("coco") and not places.is_real("atoms")


def test_a_folder_or_url_stands_for_itself(usual: Path) -> None:
    for place in ("s3://bucket/atoms", "x/y", "./atoms", str(usual)):
        assert places.sets(place) == [place] and places.training_set(place) == place
    (usual / "here").mkdir()
    (usual / "here/manifest.json").touch()
    assert places.sets("here") == ["here"]


def test_a_comparison_takes_sets_by_name_and_folders_of_pictures(usual: Path) -> None:
    (usual / "pictures").mkdir()
    for text, place in (("coco", "data/real/coco/val"), ("pictures", "pictures"), ("x/y", "x/y")):
        assert places.shards_or_folder(text) == place
    with pytest.raises(UserError, match="there is no finished set 'nothing'"):
        places.shards_or_folder("nothing")


def test_a_name_without_a_set_or_with_two_is_refused(usual: Path) -> None:
    for name in ("nothing", "", "test"):
        with pytest.raises(UserError, match="there is no finished set"):
            places.sets(name)
    (usual / "data/shards/coco").mkdir()
    (usual / "data/shards/coco/manifest.json").touch()
    with pytest.raises(UserError, match="coco is a set in data/shards/coco and in data/real/coco"):
        places.held_out_set("coco")


def test_the_place_of_tables_is_below_the_captions_folder() -> None:
    assert places.tables("visual_atoms", "ViT-B-32/openai") == "data/captions/visual_atoms/ViT-B-32-openai"
    assert places.tables("../../x", "a b") == "data/captions/-..-x/a-b"
    Path("data/captions/atoms/nano").mkdir(parents=True)
    assert places.all_tables("atoms") == []
    Path("data/captions/atoms/nano/manifest.json").touch()
    assert places.all_tables("atoms") == ["data/captions/atoms/nano"]


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[TrainRequest]:
    """The requests that commands of train make, which nothing carries out."""
    collected: list[TrainRequest] = []

    def collect(request: TrainRequest) -> Any:
        collected.append(request)
        yield training.Ended(0)

    monkeypatch.setattr(training, "train", collect)
    return collected


@pytest.mark.parametrize(
    ("name", "preset", "fraction"),
    [
        ("coco", "coco-256", 0.1),
        ("cub", "cub-256", 0.1),
        ("celeba_hq", "celeba_hq-256", 0.1),
        ("emoji", "emoji-32", 1.0),
    ],
)
def test_a_real_set_is_fine_tuned_on_with_its_usual_settings(
    requests: list[TrainRequest], name: str, preset: str, fraction: float
) -> None:
    Path(f"data/real/{name}/train").mkdir(parents=True, exist_ok=True)
    Path(f"data/real/{name}/train/manifest.json").write_text("{}")
    for source in ("runs/atoms/", "none"):
        assert invoke(train_app, "finetune", "--on", name, "--from", source).exit_code == 0
    tuned, scratch = requests
    assert (tuned.preset, tuned.fraction, tuned.shards) == (preset, fraction, (f"data/real/{name}/train",))
    assert (tuned.source, tuned.out) == ("runs/atoms/", f"runs/{name}-{preset}-from-atoms")
    assert (scratch.preset, scratch.fraction, scratch.source) == (preset, fraction, None)
    assert scratch.out == f"runs/{name}-{preset}-from-scratch"


def test_options_go_before_the_usual_settings(requests: list[TrainRequest]) -> None:
    words = ["finetune", "small-64", "--on", "coco", "--from", "none"]
    invoke(train_app, *words, "--fraction", "0.5", "--out", "mine", "--captions", "t")
    invoke(train_app, *words, "--set", "data.fraction=0.3")
    invoke(train_app, "finetune", "tiny-32", "--on", "atoms", "--from", "none")
    first, second, third = requests
    assert (first.preset, first.fraction, first.out, first.captions) == ("small-64", 0.5, "mine", ("t",))
    assert second.fraction is None and second.settings == ("data.fraction=0.3",)
    assert third.fraction is None and third.out == "runs/atoms-tiny-32-from-scratch"


def test_a_set_without_a_usual_preset_needs_one(requests: list[TrainRequest]) -> None:
    ended = invoke(train_app, "finetune", "--on", "atoms", "--from", "none")
    assert "no usual preset of --on atoms is known" in str(ended.exception) and not requests
    ended = invoke(train_app, "finetune", "--on", "data/shards/atoms", "--from", "none")
    assert str(ended.exception).endswith("give one, as in finetune coco-256 --on data/shards/atoms")
    ended = invoke(train_app, "finetune", "--live", "scenes", "--live", "noise", "--from", "none")
    advice = "give one, as in finetune formula-32 --live scenes --live noise"
    assert str(ended.exception).endswith(advice) and not requests


def test_several_sets_give_their_names_to_the_run(requests: list[TrainRequest]) -> None:
    invoke(train_app, "pretrain", "tiny-32", "--on", "atoms", "--on", "s3://bucket/fractals/")
    [request] = requests
    assert request.shards == ("data/shards/atoms", "s3://bucket/fractals/")
    assert request.out == "runs/atoms-fractals-tiny-32"


@pytest.fixture
def real(usual: Path) -> Path:
    """A real set whose held-out part is finished."""
    for split in ("train", "test"):
        make_small(usual / "data/real/toy" / split, samples=8, shard_size=8)
    return usual


@pytest.mark.slow
def test_captions_of_a_name_are_made_of_every_split(real: Path, tiny_encoder: Path) -> None:
    ended = invoke(caption_app, "captions", "toy", "--encoder", tiny_encoder, "--workers", 0)
    assert ended.exit_code == 0 and len(ended.stdout.splitlines()) == 2
    ended = invoke(caption_app, "captions", "toy", "--encoder", tiny_encoder, "--out", "x")
    assert "2 sets of shards and 1 --out are given" in str(ended.exception)


@pytest.mark.slow
def test_a_real_sets_name_is_measured_on_its_held_out_part_with_the_tables_of_the_runs_encoder(
    real: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "pictures", lambda request: 0)
    collected: list[measuring.MeasureRequest] = []

    def collect(request: measuring.MeasureRequest) -> Any:
        collected.append(request)
        yield []

    monkeypatch.setattr(measuring, "metrics", collect)
    make_tables("data/real/toy/test", "data/captions/visual_atoms/tiny", tiny_encoder)
    identity = json.loads(Path("data/captions/visual_atoms/tiny/manifest.json").read_text())["identity"]
    for run, weights in (("same", identity["weights"]), ("other", "0" * 64)):
        Path(run).mkdir()
        metadata = {"preset": "tiny-32", "model": "stylegan2", "encoder": {"name": "x", "digest": weights}}
        monkeypatch.setattr(
            measuring, "find", lambda _, metadata=metadata: type("Run", (), {"metadata": metadata})
        )
        ended = invoke(evaluate_app, "metrics", run, "--on", "toy")
        assert ended.exit_code == 0, ended.exception
    assert [request.reference for request in collected] == ["data/real/toy/test"] * 2
    assert [request.captions for request in collected] == ["data/captions/visual_atoms/tiny", None]


def test_options_that_would_have_no_effect_are_refused(usual: Path) -> None:
    from synth.cli import app as synth_app

    refused: list[tuple[typer.Typer, list[object], str]] = [
        (synth_app, ["shards", "--workers", 0, "--ray-address", "x:1"], "--workers 0 uses no Ray"),
        (
            caption_app,
            ["captions", "atoms", "--workers", 0, "--ray-address", "x:1"],
            "--workers 0 uses no Ray",
        ),
        (synth_app, ["shards", "visual_atoms", "--device", "gpu"], "visual_atoms is not drawn by shaders"),
        (synth_app, ["preview", "fractals", "--device", "gpu"], "fractals is not drawn by shaders"),
        (
            synth_app,
            ["shards", "visual_atoms", "fractals", "--out", "x"],
            "2 data sets and 1 --out are given",
        ),
        (caption_app, ["audit", "t", "--pictures", 5], "--pictures and --device belong to --captioner"),
        (caption_app, ["fit-encoder", "x", "--recipe", "nano"], "--recipe names its own sets"),
        (caption_app, ["fit-encoder", "x"], "fit-encoder needs SHARDS and --out FOLDER"),
        (caption_app, ["fit-encoder", "x", "--out", "y"], "there is no finished set 'x'"),
        (synth_app, ["inspect", "x"], "there is no finished set 'x'"),
    ]
    for app, words, sentence in refused:
        assert sentence in str(invoke(app, *words).exception), words
    assert sorted(path.name for path in usual.iterdir()) == ["data"]


def test_the_environments_cluster_yields_to_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from synth import options

    monkeypatch.setenv("RAY_ADDRESS", "cluster:1")
    assert options.cluster(None, None) == "cluster:1" and options.cluster(None, 0) is None
    assert options.cluster("other:1", 4) == "other:1"
