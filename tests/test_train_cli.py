"""The trainer from the command line: what a run would take, presets, sampling, export."""

import re
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from synth.errors import UserError
from tests.kit import invoke, json_lines
from tests.kit_train import OPTIONS, SETTINGS, quiet
from train import checkpoint, estimate, presets, runs
from train.cli import app
from train.model import Texts, find
from train.models.stylegan2 import EMA
from train.sampling import draw
from train.start.request import TrainRequest

pytestmark = pytest.mark.usefixtures("one_thread")


def run(*arguments: object) -> Result:
    return invoke(app, *arguments)


@pytest.fixture(scope="module")
def trained(
    undisturbed: Path, captioned: Path, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of a few steps, with checkpoints at 40 and 64 images."""
    out = tmp_path_factory.mktemp("sampled") / "run"
    request = TrainRequest(
        "tiny-32",
        (str(undisturbed),),
        str(out),
        (str(captioned),),
        encoder=str(tiny_encoder),
        settings=SETTINGS,
    )
    quiet(replace(request, images=64))
    return out


def test_a_dry_run_says_what_it_would_be_and_writes_nothing(
    undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    paths = ["--on", undisturbed, "--captions", captioned, "--out", tmp_path / "run"]
    wide = ["--set", "model.channel_base=4096", "--set", "model.channel_max=128"]
    rows = json_lines(
        run("pretrain", "tiny-32", *paths, *OPTIONS, *wide, "--dry-run", "--images", 10_000_000)
    )
    groups = {row["group"]: row for row in rows if "group" in row}
    assert groups.keys() == {"model", "loss", "training", "data", "run"}
    assert (
        groups["model"]["resolution"] == 16
        and groups["model"]["text_dim"] == 32
        and groups["run"]["images"] == 10_000_000
    )
    costs = {key: value for row in rows if "group" not in row for key, value in row.items()}
    g, d = costs["parameters_of_generator"], costs["parameters_of_discriminator"]
    assert g > 500_000 and d > 500_000
    assert costs["samples_of_an_epoch"] == 40
    assert (
        costs["checkpoint_gb"] == round(4 * (3 * (g + d) + g) / 1e9, 2) > 0
    )  # weights and Adam's two moments, and the average
    assert costs["memory_gb"] >= round(4 * (4 * (g + d) + g) / 1e9, 2)  # and gradients
    assert costs["seconds_per_kimg"] > 0 and costs["hours"] == pytest.approx(
        10_000 * costs["seconds_per_kimg"] / 3600, rel=0.01
    )
    assert costs["on"] == "one core"
    assert not list(tmp_path.iterdir())


def test_a_dry_run_spreads_what_a_step_costs_over_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample takes .5 s, and a step .8 s more: so one of 32 takes .525 s, in every step or every 16th."""
    micro = SimpleNamespace(pictures=range(4))
    monkeypatch.setattr(estimate, "_random", lambda trainer: [micro])
    monkeypatch.setattr(estimate, "_kept_for_gradients", lambda trainer, phase, micros: 400 * phase.every)
    monkeypatch.setattr(estimate, "_seconds", lambda trainer, phase, micros: 0.8 + 0.5 * 4 * len(micros))
    phases = [SimpleNamespace(every=1), SimpleNamespace(every=16)]
    trainer: Any = SimpleNamespace(model=SimpleNamespace(phases=phases))
    assert estimate._costs(trainer, batch=32) == (pytest.approx(0.525 * (1 + 1 / 16)), 1_600)


def test_a_dry_run_refuses_what_the_run_would(undisturbed: Path, captioned: Path, trained: Path) -> None:
    paths = ["--on", undisturbed, "--captions", captioned, "--dry-run"]
    for options, sentence in (
        (["--out", trained, *OPTIONS, "--set", "loss.r1=1"], "holds another run"),
        (["--out", "x", *OPTIONS, "--set", "training.batch=6"], "not divided by groups of 4"),
    ):
        assert sentence in str(run("pretrain", "tiny-32", *paths, *options).exception)


def test_presets_are_listed() -> None:
    rows = json_lines(run("presets"))
    assert [row["name"] for row in rows] == list(presets.PRESETS)
    assert all(row["hours"] and row["disk"] and row["what"] and row["result"] for row in rows)


@pytest.mark.parametrize(
    ("command", "models"),
    [("sample", ("diffusion", "stylegan2")), ("attention", ("diffusion",)), ("edit", ("diffusion",))],
)
def test_help_lists_the_drawing_options(command: str, models: tuple[str, ...]) -> None:
    """Maps are those of words, so --text is none of their options."""
    text = " ".join(run(command, "--help").output.split())
    names = {field.name for model in models for field in fields(find(model).Options)}
    wanted = {f"--{name.replace('_', '-')}" for name in names if name != "text" or command == "sample"}
    sentence = text.partition("follow RUN. ")[2].partition(" Arguments:")[0]
    assert set(re.findall(r"--[a-z-]+", sentence)) == wanted


def test_a_sampled_grid_depends_on_seed_and_text_and_nothing_else(trained: Path, tmp_path: Path) -> None:
    def drawn(name: str, *texts: str, seed: int = 0, n: int = 3) -> bytes:
        [row] = json_lines(
            run(
                "sample",
                trained,
                *texts,
                "--n",
                n,
                "--seed",
                seed,
                "--out",
                tmp_path / name,
                "--device",
                "cpu",
            )
        )
        assert row == {"out": str(tmp_path / name), "pictures": n * len(texts)}
        with Image.open(tmp_path / name) as sheet:
            assert sheet.format == "PNG" and sheet.width > n * 128
        return (tmp_path / name).read_bytes()

    once = drawn("a.png", "a red star")
    torch.manual_seed(5)
    assert drawn("new/folder/b.png", "a red star") == once
    assert len({once, drawn("c.png", "a red star", seed=1), drawn("d.png", "a blue star")}) == 3


def test_the_first_pictures_of_more_are_the_same(trained: Path) -> None:
    few, many = (draw.sample(runs.find(trained), ["a star"], n=n, seed=0) for n in (2, 18))
    assert many.shape == (18, 16, 16, 3) and many.dtype == np.uint8
    assert np.abs(many[:2].astype(int) - few).max() <= 1


def test_without_truncation_pictures_vary_and_at_0_only_by_their_noise(trained: Path) -> None:
    model, h = runs.load(str(trained)), torch.nn.functional.normalize(torch.ones(4, 32), dim=1)
    for name, parameter in model.averages[EMA].named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.zero_()

    def drawn(truncation: str) -> np.ndarray:
        return draw.pictures(
            draw.drawing(model, Texts(h), seed=0, options={"truncation": truncation})
        ).astype(int)

    free, mean, half = drawn("1.0"), drawn("0"), drawn("0.5")
    assert np.abs(free - free[0]).max() > 1 and np.abs(mean - mean[0]).max() <= 1
    assert np.abs(half - mean).sum() < np.abs(free - mean).sum()


def test_samples_come_from_the_checkpoint_that_is_asked_for(trained: Path) -> None:
    def drawn(images: int | None) -> bytes:
        return draw.sample(runs.find(trained), ["x"], n=2, seed=0, images_seen=images).tobytes()

    assert drawn(None) == drawn(64) != drawn(40)
    with pytest.raises(UserError, match="has no checkpoint at 41 images; it has 40, 64"):
        drawn(41)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--n", "0"], "--n is 0; it must be 1 to 1,024"),
        (["--truncation", "1.5"], "setting truncation cannot be '1.5': it must lie in 0..1"),
        (["--steps", "18"], "stylegan2 has no drawing option --steps; it has --truncation"),
        (["--truncation"], "--truncation has no value; write --truncation VALUE"),
        (["--out", "grid.jpg"], "--out is grid.jpg; it must end in .png"),
        (["--encoder", "nano"], "the encoder nano has other weights than the one of"),
        (["--device", "mps"], "unknown device 'mps'; known are auto, cpu and cuda"),
        (["--picture", "x"], "is a run of stylegan2, which does not draw around a picture; leave --picture"),
        (["--picture", "x", "--picture-text", "a"], "which does not draw from the noise of a picture"),
        (["--mask", "x"], "--mask and --picture-text are parts of a picture; give --picture FILE too"),
        (["--picture", "x", "--picture-text", "a", "--n", "2"], "gives one picture of each text"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in str(run("sample", trained, "a star", *arguments).exception)
    assert "is no run" in str(run("sample", tmp_path, "a star").exception)
    assert not list(tmp_path.iterdir())


def test_the_export_is_the_average_of_the_newest_checkpoint(trained: Path, tmp_path: Path) -> None:
    [row] = json_lines(run("export", trained, "--out", tmp_path / "made" / "generator.safetensors"))
    generator = runs.load_part(tmp_path / "made" / "generator.safetensors")
    average = checkpoint.tensors(trained / "checkpoints" / "000000064", "ema.safetensors")
    assert all(torch.equal(average[name], value) for name, value in generator.state_dict().items())
    assert row["images_seen"] == 64 and row["parameters"] == sum(p.numel() for p in generator.parameters())
    assert (tmp_path / "made" / "generator.safetensors").read_bytes() == (
        trained / "checkpoints/000000064/ema.safetensors"
    ).read_bytes()
    assert [p.name for p in (tmp_path / "made").iterdir()] == ["generator.safetensors"]
    assert "must end in .safetensors or name a folder" in str(
        run("export", trained, "--out", tmp_path / "g.pt").exception
    )
    assert "is no run" in str(
        run("export", tmp_path / "nowhere", "--out", tmp_path / "g.safetensors").exception
    )


def test_an_exported_folder_is_a_run_by_itself(trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    for _ in range(2):  # the second one does nothing
        json_lines(run("export", trained, "--out", folder))
    assert sorted(p.name for p in folder.iterdir()) == [
        *("COMMITTED", "README.md", "SHA256SUMS", "config.json"),
        *("generator.safetensors", "model.py", "samples.png"),
    ]
    ours, theirs = (draw.sample(runs.find(place), ["a star"], n=2, seed=0) for place in (folder, trained))
    assert np.array_equal(ours, theirs)
    assert "has no checkpoint at 40 images; it has 64" in str(
        run("sample", folder, "x", "--images-seen", 40).exception
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    assert "already holds files; give another folder" in str(
        run("export", trained, "--out", tmp_path / "full").exception
    )
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_an_export_without_all_parts_starts_no_fine_tuning_and_nothing_is_written(
    trained: Path, undisturbed: Path, captioned: Path, tmp_path: Path
) -> None:
    json_lines(run("export", trained, "--out", tmp_path / "exported"))
    places = [
        "--on",
        undisturbed,
        "--captions",
        captioned,
        "--out",
        tmp_path / "tuned",
        "--from",
        tmp_path / "exported",
    ]
    sentence = "is an export, which lacks the part discriminator; give the run directory that it is of"
    assert sentence in str(run("finetune", "emoji-32", *places, *OPTIONS).exception)
    assert not (tmp_path / "tuned").exists()
