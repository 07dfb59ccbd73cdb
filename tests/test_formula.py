"""The shipped model formula-32: its pictures, and its making."""

import importlib
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

from evaluate.experiments import formula
from synth.errors import UserError
from tests.kit import ROOT
from train import machine, model_card, presets, prove, provenance, runs, standalone
from train.distributed import Ranks
from train.models import diffusion, growth
from train.models.words import UNKNOWN
from train.sampling import draw, prompts
from train.stream import live

README = (ROOT / "README.md").read_text()
SHIPPED = ROOT / "data" / "formula-32"
GOLDEN = ROOT / "tests" / "fixtures" / "formula-32.png"  # pictures under each other
PROMPTS = ("a red star left of a blue disc on white", "a green ring on black")


@pytest.mark.slow
def test_the_shipped_model_draws_its_golden_pictures(one_thread: None) -> None:
    """They are equal on the machine type of the card, and within 2 of 255 levels elsewhere."""
    run = runs.find("formula-32")
    drawn = draw.sample(run, PROMPTS, n=1, seed=0, options={"steps": "6"}).astype(int)
    golden = np.asarray(Image.open(GOLDEN)).reshape(drawn.shape).astype(int)
    same = not machine.differences(run.metadata["made_by"]["machine"], machine.describe(Ranks()))
    assert np.abs(drawn - golden).max() <= (0 if same else 2)
    weights = Path(run.path, "denoiser.safetensors")
    assert weights.stat().st_size < 8e6 and provenance.licence_of(provenance.data_of(run)) == "CC0-1.0"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "denoiser.safetensors",
            "{} is missing; export the run to a new folder, or copy the folder again from",
        ),
        ("COMMITTED", "{folder} has no readable mark COMMITTED, so it is damaged; export the run to a"),
    ],
)
def test_a_missing_file_is_named_and_nothing_is_to_be_removed(
    name: str, sentence: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(UserError, match=re.escape(sentence.format(folder / name, folder=folder))):
        runs.find(folder).load()


@pytest.mark.parametrize("lost", [["denoiser.safetensors"], ["denoiser.safetensors", "COMMITTED"]])
def test_the_code_of_an_export_names_a_missing_file(lost: list[str], tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "copy")
    for name in lost:
        (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=r"denoiser\.safetensors"):
        standalone.opened(folder, "cpu", Config=diffusion.Config, parts=diffusion.parts)


def test_a_proof_needs_the_sets_of_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sentence = "formula-32 was trained on runs/formula-32-shaders, which is not here; run `make formula-32`"
    with pytest.raises(UserError, match=sentence):
        prove.prepare("formula-32", None, None, "cpu")


def test_an_encoder_a_word_and_a_damaged_config_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nano is an encoder, and no run; give a run, such as formula-32"):
        runs.find("nano")
    (tmp_path / "config.json").write_text('{"word": "<thing>"}')
    with pytest.raises(UserError, match=r"is no run: its config.json describes something else; give a run"):
        runs.find(tmp_path)
    damaged = {"config": {"model": 1}, "shards": {}, "captions": None, "encoder": None}
    (tmp_path / "config.json").write_text(json.dumps(damaged))
    with pytest.raises(UserError, match=r"config\.json is damaged; give another run"):
        runs.find(tmp_path)


def test_the_notes_of_its_card_are_found() -> None:
    notes = model_card.kept_notes(SHIPPED)
    assert notes.startswith("## What it cannot do\n\n- It knows the words of formula pictures alone")
    assert (
        " ".join(notes.split()).endswith("The commands below are of that time.") and "\n## " not in notes[1:]
    )


@pytest.mark.parametrize("size", [100, 100_000])
def test_a_damaged_file_is_to_be_copied_again(size: int, tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED, tmp_path / "copy")
    os.truncate(folder / "denoiser.safetensors", size)
    with pytest.raises(UserError, match=r"is damaged: .*; export the run to a new folder, or copy"):
        runs.find(folder).load()


@pytest.mark.slow
def test_the_command_of_the_readme_draws_without_caches(tmp_path: Path) -> None:
    [line] = re.findall(r"^\.venv/bin/(python -m train sample formula-32 .*)$", README, re.MULTILINE)
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    words = [sys.executable, *shlex.split(line)[1:], "--n", "1", "--steps", "2"]
    path = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    subprocess.run(words, cwd=tmp_path, env={**path, **home}, check=True, capture_output=True)
    with Image.open(tmp_path / "red.png") as picture:
        assert picture.size[0] > 100


def test_the_live_sets_of_the_shipped_model_are_those_of_this_checkout() -> None:
    recorded = [row for row in runs.find("formula-32").metadata["shards"]["sets"] if "live" in row]
    for row in recorded:
        assert live.LiveSet.of(row["live"]).row["digest"] == row["digest"]
    assert [row["dataset"] for row in recorded] == list(formula._LIVE)


@pytest.mark.slow
def test_prompts_of_the_shipped_model_are_in_words_that_it_has_learned() -> None:
    """Its shaders are not here, so prompts are of its live sets."""
    run = runs.find("formula-32")
    texts = prompts.of_run(run, 24)
    assert len(set(texts)) == 24 and "a red disc on purple" in texts
    model = run.load(run.checkpoint())
    tokens = draw.texts_of(model, texts, None, "cpu").tokens
    assert tokens is not None and not (tokens == UNKNOWN).any()


def parsed(words: tuple[str, ...]) -> str:
    """Parses a command of a stage without running it. Returns its name."""
    group: Any = typer.main.get_command(importlib.import_module(f"{words[0]}.cli").app)
    command = group.commands[words[1]]
    command.make_context(words[1], list(words[2:]))
    return f"{words[0]} {words[1]}"


def test_every_step_is_a_command_of_its_stage() -> None:
    names = [parsed(step.words) for step in formula.steps("runs/x", "runs/y", 64, 8)]
    sets = 4 * ["synth shards", "caption captions"]
    assert names == [
        *sets,
        *("train pretrain", *(5 * ["train finetune"]), "evaluate obedience", "evaluate obedience"),
        *("evaluate reading", "evaluate agreement", "train export"),
    ]


def test_each_part_of_training_fits_the_part_before() -> None:
    """Presets agree in the sizes of the denoiser, or differ by an outer level."""
    words = [w.words for w in formula.steps("runs/x", "runs/y", None, 8) if w.words[0] == "train"][:6]
    sizes = [presets.get(w[2]).make().groups.model for w in words]
    for base, ours in itertools.pairwise(sizes):
        assert base == ours or growth.fits(base, ours)
    for w in words:
        changes = [value for option, value in itertools.pairwise(w) if option == "--set"]
        single, _ = live.split(changes)
        names = [value for option, value in itertools.pairwise(w) if option == "--live"]
        stored = ["shaders"] if "--on" in w else []
        assert sum(live.find(names, stored, single, 16).shares) == pytest.approx(1)


def test_figures_are_measured_once_at_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert formula._measured(str(run)) == set()
    (run / "checkpoints" / "000000016").mkdir(parents=True)
    (run / "checkpoints" / "000000016" / "COMMITTED").write_text("{}")
    metadata: dict[str, Any] = {"config": {}, "shards": {}, "captions": None, "encoder": None}
    (run / "config.json").write_text(json.dumps(metadata))
    rows = [
        {"images_seen": 8, "metric": "a", "value": 1},
        {"images_seen": 16, "metric": "b", "set": "scenes"},
        {"metric": "probe accuracy, ridge", "value": 0.5},
    ]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert formula._measured(str(run)) == {("b", "scenes")}

    # A finished figure is left out, every other step is run.
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(formula, "_run", ran.append)
    monkeypatch.setattr(formula, "_measured", lambda out: {("obedience: whole prompts of 6 facts", "scenes")})
    formula.formula(str(run), None, None, 8)
    assert [words[3] for words in ran if words[1] == "obedience"] == ["--on"]
    assert len(ran) == len(list(formula.steps(str(run), "", None, 8))) - 1
