"""Sets of pictures that a run draws: train/sampling/synthesis.py."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption import labels
from evaluate.cli import app as evaluate
from synth.errors import UserError
from synth.sets import completion
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from tests.kit import invoke, make_small, refusal, samples, start, tar_hashes
from tests.kit_train import DENOISER, quiet
from train.cli import PROGRAM, app
from train.sampling import draw, prompts, synthesis
from train.sampling.synthesis import SynthesisRequest, SynthesisSummary
from train.start.request import TrainRequest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

KID = ("--metrics", "kid", "--detector", "pixels:8", "--draw", "steps=1")
WORDS = ("training.drop_vector=1", "run.samples=480")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser of few steps on live scenes, which reads words alone."""
    out = tmp_path_factory.mktemp("run") / "run"
    settings = (*DENOISER, *WORDS)
    quiet(TrainRequest("diffusion-32", (), str(out), live=("scenes_flat",), images=16, settings=settings))
    return out


@pytest.fixture
def request_of(run: Path, tmp_path: Path) -> Callable[..., SynthesisRequest]:
    """Makes requests for twelve pictures in three shards."""

    def make(out: str = "drawn", **changes: object) -> SynthesisRequest:
        plain = SynthesisRequest(
            str(run),
            str(tmp_path / out),
            prompts=4,
            per_prompt=3,
            guidance="1,3",
            options={"steps": "2"},
            shard_size=5,
            device="cpu",
        )
        return replace(plain, **changes)  # type: ignore[arg-type]

    return make


def finished(request: SynthesisRequest) -> SynthesisSummary:
    return completion.finish(synthesis.synthesise(request))


def test_every_prompt_has_its_pictures_at_the_scales_in_turn(
    request_of: Callable[..., SynthesisRequest], run: Path
) -> None:
    request = request_of()
    summary = finished(request)
    assert (summary.pictures, summary.drawn) == (12, 12)
    drawn = samples(request.out)
    texts = prompts.of_run(draw.runs.find(run), 4)
    assert len(set(texts)) == 4
    for number, sample in enumerate(drawn):
        prompt, instance = divmod(number, 3)
        assert sample.captions == [texts[prompt]] == [sample.metadata["prompt"]]
        assert sample.metadata["guidance"] == (1, 3)[(prompt + instance) % 2]
        assert (sample.metadata["class"], sample.metadata["index"]) == (prompt, number)
    for kind in ("class", "caption"):
        assert np.concatenate(labels.of_sets([ShardSet(request.out)], kind)).tolist() == [
            *(i // 3 for i in range(12))
        ]

    # A picture is that of `train sample` with its number.
    _, model = synthesis._opened(str(run), None, "cpu")
    five = draw.drawing(
        model,
        draw.texts_of(model, [texts[n // 3] for n in range(12)], None, "cpu"),
        seed=0,
        options={"steps": "2", "guidance": "3"},
    )
    alone = draw.pictures(five)[5]
    assert drawn[5].metadata["guidance"] == 3
    assert np.abs(alone.astype(int) - drawn[5].pixels).max() <= 1

    # A finished set is left alone.
    before = tar_hashes(request.out)
    assert finished(request).drawn == 0
    assert tar_hashes(request.out) == before


def test_a_set_that_has_moved_is_left_out_beside_live_ones_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = draw.runs.find(run)
    make_small(tmp_path / "visual_atoms", samples=16, size=16)
    stored, moved = {"url": str(tmp_path / "visual_atoms")}, {"url": str(tmp_path / "moved")}
    live = opened.metadata["shards"]

    def texts(*rows: dict[str, Any]) -> list[str]:
        return prompts.of_run(replace(opened, metadata={**opened.metadata, "shards": {"sets": rows}}), 4)

    assert texts(live, moved) == texts(live)
    for rows in ((stored, moved), (moved, stored)):
        with pytest.raises(UserError, match="moved"):
            texts(*rows)

    # A live set is given up after some samples, a stored one at its end.
    monkeypatch.setattr(prompts, "_LOOKED_AT", 0)
    assert len(texts(stored)) == 4
    with pytest.raises(UserError, match="have 0 different captions"):
        texts(live)


def test_words_that_the_run_does_not_know_are_noted(
    request_of: Callable[..., SynthesisRequest], run: Path, tmp_path: Path
) -> None:
    atoms = tmp_path / "visual_atoms"
    make_small(atoms, samples=16, size=16)
    events = list(synthesis.synthesise(request_of(on=str(atoms), per_prompt=1)))
    [note] = [event.note for event in events if isinstance(event, Progress) and event.note]
    assert note.startswith("note: run does not know 'small', 'dark', ")
    given = ("--on", atoms, "--n", 8)
    sheet = ("grid", run, *given, "--out", tmp_path / "grid.png")
    scenes = ("obedience", run, "--on", "scenes_flat", "--n", 4, "--draw", "steps=1")
    for words in (("loss", run, *given), ("metrics", run, *given, *KID), sheet, scenes):
        assert "note: run does not know '" in invoke(evaluate, *words).stderr


def test_a_stopped_command_goes_on_to_the_same_bytes(request_of: Callable[..., SynthesisRequest]) -> None:
    whole, parts = request_of("whole"), request_of("parts")
    finished(whole)

    # Stop within the second shard.
    events = synthesis.synthesise(parts)
    done = 0
    for event in events:
        done += event.amount if isinstance(event, Progress) else 0
        if done > 5:
            break
    events.close()
    assert not (Path(parts.out) / "manifest.json").exists()
    summary = finished(parts)
    assert summary.drawn < 12
    pixels = [[sample.pixels.tobytes() for sample in samples(each.out)] for each in (whole, parts)]
    assert pixels[0] == pixels[1]


@pytest.mark.soak
def test_a_killed_command_goes_on_to_the_same_bytes(run: Path, tmp_path: Path) -> None:
    def words(out: Path) -> list[str]:
        options = ["--prompts", "6", "--per-prompt", "4", "--guidance", "1,3", "--draw", "steps=8"]
        options += ["--shard-size", "4", "--device", "cpu", "--out", str(out)]
        return [sys.executable, "-m", "train", "synthesise", str(run), *options]

    whole, killed = tmp_path / "one" / "set", tmp_path / "other" / "set"

    def finish(out: Path) -> None:
        process = start(words(out), OMP_NUM_THREADS="1")
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors

    finish(whole)
    process = start(words(killed), OMP_NUM_THREADS="1")
    while process.poll() is None and len(list(killed.glob("*.tar"))) < 2:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (killed / "manifest.json").exists()
    finish(killed)
    assert tar_hashes(killed) == tar_hashes(whole)


def mark(run: Path, images: int, text: str) -> None:
    """Commits a checkpoint without files. `text` are further entries of its mark."""
    folder = run / "checkpoints" / f"{images:09d}"
    folder.mkdir()
    (folder / "COMMITTED").write_text(text)


def test_a_run_that_trains_on_draws_by_the_checkpoint_of_the_start(
    request_of: Callable[..., SynthesisRequest], run: Path, tmp_path: Path
) -> None:
    whole = request_of("whole")
    finished(whole)
    moving = Path(shutil.copytree(run, tmp_path / "moving"))
    events = synthesis.synthesise(request_of("parts", run=str(moving)))
    next(events)
    mark(moving, 99, "{}")
    synthesis._opened.cache_clear()  # as in a new worker
    assert completion.finish(events).drawn == 12
    pixels = [
        [sample.pixels.tobytes() for sample in samples(str(tmp_path / out))] for out in ("whole", "parts")
    ]
    assert pixels[0] == pixels[1]


def test_a_guide_that_trains_on_ends_the_command(
    request_of: Callable[..., SynthesisRequest], run: Path, tmp_path: Path
) -> None:
    base = Path(shutil.copytree(run, tmp_path / "base"))
    events = synthesis.synthesise(request_of(options={"steps": "1", "base": str(base)}))
    next(events)
    shutil.copytree(base / "checkpoints" / f"{16:09d}", base / "checkpoints" / f"{99:09d}")
    committed = base / "checkpoints" / f"{99:09d}" / "COMMITTED"
    committed.write_text(committed.read_text() + " ")
    with pytest.raises(UserError, match="has a newer checkpoint than when this command began; wait"):
        completion.finish(events)


def test_scales_have_the_names_of_the_paper() -> None:
    assert synthesis.scales("small") == (2, 3) and synthesis.scales("mixed")[-1] == 12
    for text in ("", "1,,2", "-1", "huge"):
        with pytest.raises(UserError, match="give numbers of 0 to 100 with commas, as in 1,2,3, or small"):
            synthesis.scales(text)


def test_a_scale_keeps_its_digits() -> None:
    assert [synthesis.written(scale) for scale in (2.0, 12.0, 0.5)] == ["2", "12", "0.5"]
    assert float(synthesis.written(1.23456789)) == 1.23456789


def test_what_cannot_be_drawn_is_refused(
    request_of: Callable[..., SynthesisRequest], run: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="has no drawing option --strides"):
        finished(request_of(options={"strides": "2"}))
    with pytest.raises(UserError, match="unknown codec 'bmp'"):
        finished(request_of(codec="bmp"))
    with pytest.raises(UserError, match=r"--encoder is nano, and .* reads words; leave it out"):
        finished(request_of(encoder="nano"))
    gan = shutil.copytree(run, tmp_path / "gan")
    metadata = json.loads((gan / "config.json").read_text())
    (gan / "config.json").write_text(json.dumps({**metadata, "model": "stylegan2"}))
    with pytest.raises(UserError, match="is a run of stylegan2, and synthesise needs a run with guidance"):
        finished(request_of(run=str(gan)))
    with pytest.raises(UserError, match=r"the set .* has \d+ different captions; give --prompts \d+ or less"):
        atoms = tmp_path / "visual_atoms"
        make_small(atoms, samples=16, size=16)
        finished(request_of(on=str(atoms), prompts=1_000))
    assert not (tmp_path / "drawn").exists()
    words = ["synthesise", run, "--prompts", "2", "--out", tmp_path / "x"]
    assert "give --guidance 2" in refusal(app, PROGRAM, *words, "--draw", "guidance=2")
    assert "give NAME=VALUE" in refusal(app, PROGRAM, *words, "--draw", "steps")
    # The names of `sample` have dashes.
    assert "least_guided cannot be 'x'" in refusal(app, PROGRAM, *words, "--draw", "least-guided=x")
