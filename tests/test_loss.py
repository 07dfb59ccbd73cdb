"""The held-out loss of a denoiser, on closed forms and on a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluate import loss as measuring
from evaluate.cli import app
from tests.kit import invoke, json_lines, refusal
from tests.kit_train import quiet
from train.sampling import denoise
from train.start.request import TrainRequest

SETTINGS = (
    *("model.itself=8", "model.reads=8", "model.channels=32,32,32", "model.text_width=32"),
    "training.batch=8",
    "training.precision=fp32",
    "run.tick=8",
    "run.workers=0",
    "run.samples=64",
)


@pytest.fixture(scope="module")
def run(
    tmp_path_factory: pytest.TempPathFactory, undisturbed: Path, captioned: Path, tiny_encoder: Path
) -> Path:
    """A run of diffusion of 16 images, with vectors and words."""
    out = tmp_path_factory.mktemp("runs") / "denoiser"
    request = TrainRequest(
        *("diffusion-32", (str(undisturbed),), str(out), (str(captioned),)),
        images=16,
        encoder=str(tiny_encoder),
        settings=SETTINGS,
    )
    assert quiet(request) == 0
    return out


def test_the_loss_of_the_best_denoiser_of_normal_pictures_is_one_at_every_level() -> None:
    generator = torch.Generator().manual_seed(0)
    x, noise = 0.5 * torch.randn(512, 3, 8, 8, generator=generator), denoise.noise(0, range(512), 8)

    def gaussian(noised: Tensor, sigma: float, rows: list[int]) -> Tensor:
        return noised * 0.25 / (0.25 + sigma**2)

    by_picture = measuring.errors(gaussian, x, noise, measuring.levels_of(len(x), 1))
    assert [by_picture[k::8].mean() for k in range(8)] == pytest.approx([1.0] * 8, rel=0.05)


def test_pictures_after_the_first_are_read_with_their_long_sentences(undisturbed: Path) -> None:
    place = str(undisturbed)
    whole, rest = measuring.read(place, 0, 12, 32, "long"), measuring.read(place, 4, 8, 32, "long")
    assert torch.equal(whole.pictures[4:], rest.pictures) and whole.captions[4:] == rest.captions
    assert whole.digest != rest.digest and min(len(caption.split()) for caption in rest.captions) > 5
    plain = measuring.read(place, 4, 8, 32, "plain")
    assert torch.equal(plain.pictures, rest.pictures) and plain.captions != rest.captions

    both = measuring.in_turn([rest, plain])
    assert torch.equal(both.pictures[6], rest.pictures[3]) and torch.equal(
        both.pictures[7], plain.pictures[3]
    )
    assert both.captions[6:8] == [rest.captions[3], plain.captions[3]] and len(both.captions) == 16


def test_every_set_has_every_level() -> None:
    levels = measuring.levels_of(64, 2)
    assert levels[::2].tolist() == levels[1::2].tolist() == list(range(8)) * 4
    assert measuring.levels_of(16, 1).tolist() == list(range(8)) * 2


def test_levels_are_quantiles_of_edms_law() -> None:
    logs = np.log(measuring.LEVELS)
    assert logs.mean() == pytest.approx(-1.2) and logs[3] - logs[4] == pytest.approx(-0.377, abs=1e-3)
    assert np.allclose(logs + 1.2, -(logs + 1.2)[::-1])


def test_noise_of_a_picture_depends_on_seed_and_number_alone() -> None:
    some, others = denoise.noise(3, range(4), 8), denoise.noise(3, [2], 8)
    assert torch.equal(some[2], others[0]) and not torch.equal(some[2], denoise.noise(4, [2], 8)[0])


@pytest.mark.slow
def test_the_row_of_a_run_has_every_form_changed_round(run: Path, undisturbed: Path) -> None:
    options = ("--on", undisturbed, "--n", 16)
    [row] = json_lines(invoke(app, "loss", run, *options))
    assert row["metric"] == "held-out loss" and row["images_seen"] == 16 and "drawing" not in row
    assert row["value"] == pytest.approx(np.mean(row["by_level"]), abs=1e-3)
    assert "value_words_changed_round" not in row and row["value_texts_changed_round"] > 0

    [again] = json_lines(invoke(app, "loss", run, *options))
    [both] = json_lines(invoke(app, "loss", run, *options, "--draw", "text=both"))
    assert again == row and both["drawing"] == {"text": "both"}
    assert {"value_words_changed_round", "value_vectors_changed_round"} <= set(both)
    assert json_lines(run / "metrics.jsonl") == [row, row, both]
    assert row["low"] < row["value"] < row["high"]

    # One picture of a level has no spread.
    [few] = json_lines(invoke(app, "loss", run, "--on", undisturbed, "--n", 15))
    assert few["low"] is few["high"] is None
    assert few["notes"] == ["no interval: some noise levels have one picture; --n 16 gives each two"]

    # Every checkpoint: the newest has the same loss.
    curve = json_lines(invoke(app, "loss", run, *options, "--curve"))
    assert {key: row[key] for key in curve[-1]} == curve[-1]
    assert [each["images_seen"] for each in curve] == sorted({each["images_seen"] for each in curve})
    ended = invoke(app, "loss", run, *options, "--curve", "--images-seen", 16)
    assert "--curve measures every checkpoint" in str(ended.exception)


@pytest.mark.slow
def test_runs_without_a_loss_and_sets_that_do_not_fit_are_refused(run: Path, undisturbed: Path) -> None:
    for arguments, sentence in (
        ((run, "--on", undisturbed, "--n", 10_000), "pictures, so 10,000 after 0 cannot be taken"),
        ((run, "--on", undisturbed, "--draw", "guidance"), "give NAME=VALUE, such as --draw guidance=2"),
        (
            (run, "--on", undisturbed, "--draw", "truncation=1"),
            "diffusion has no drawing option --truncation",
        ),
    ):
        assert sentence in refusal(app, "evaluate", "loss", *arguments)
