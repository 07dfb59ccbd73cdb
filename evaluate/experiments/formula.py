"""formula-32: the shipped model, made from nothing by commands of all stages.

It is trained in six parts. Each but the first begins with the weights of the part before:

    layouts  two flat objects in a clear direction, and texts that state it, under much noise
    words    flat scenes in plain texts
    small    one or two flat objects at half the side, where a picture costs half as much
    sets     five sets at full size
    longer   the same sets, with more shaders
    the run  the same sets, with more flat scenes

Shaders come from shards, because a new program takes long to start. All other sets are drawn while training.
The figures come from the run. Then it is exported, and `prove` compares its weights with the shipped ones.
Killed at any point, the command goes on where it was.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from synth import console, options
from synth.checkout import ROOT
from synth.errors import UserError
from synth.sets import targets

PROGRAM = "python -m evaluate.experiments.formula"
SHIPPED = ROOT / "data" / "formula-32"
NOTES = Path(__file__).with_name("formula.md")

_LIVE = ("scenes_flat", "scenes", "fractals", "visual_atoms")
_FLAT = ("--live", "scenes_flat")
_CLEAR = "live.scenes_flat.directed=true"
_WORDS = 48_000  # images of the second part
_HELD_OUT = ("fractals", "visual_atoms", "shaders")
_SEED, _HELD_OUT_SEED = 28, 29  # of stored sets

app = console.app("", PROGRAM)


@dataclass(frozen=True)
class Step:
    """A command of a stage."""

    words: tuple[str, ...]
    figure: tuple[str, str] = ("", "")  # a metric and its set; the step is left out once the run has it


@dataclass(frozen=True)
class Mixture:
    """A part that is trained on five sets. Sets without a share get equal parts of the rest."""

    name: str  # "" for the run
    shares: dict[str, float]  # by set
    decay_from: int  # images at which the rates begin to fall
    images: int


_MIXTURES = (
    Mixture("sets", {"live.scenes_flat": 0.7, "live.scenes": 0.06}, 60_000, 128_000),
    Mixture("longer", {"live.scenes_flat": 0.66, "live.scenes": 0.06, "on.shaders": 0.14}, 176_000, 352_000),
    Mixture("", {"live.scenes_flat": 0.7, "live.scenes": 0.04, "on.shaders": 0.12}, 64_000, 208_000),
)


def main() -> None:
    """Runs `python -m evaluate.experiments.formula`."""
    console.run(app, PROGRAM)


@app.command(epilog=console.epilog(f"{PROGRAM} --out runs/formula --export runs/formula-export"))
def formula(
    out: Annotated[
        str, options.place("--out", "DIR", "The run; its sets lie beside it.")
    ] = "runs/formula-32",
    export: Annotated[
        str | None, options.place("--export", "DIR", "The export.  [default: OUT-export]")
    ] = None,
    images: Annotated[
        int | None, options.integer("--images", "Length of each part.  [default: as shipped]", least=1)
    ] = None,
    n: Annotated[int, options.integer("--n", "Prompts of each figure.", least=8)] = 256,
) -> None:
    """Trains the shipped model formula-32 again, measures it, and compares the weights."""
    for place, option in ((out, "--out"), (export or out, "--export")):
        targets.folder(place, option)
    for step in steps(out, export or f"{out}-export", images, n):
        if step.figure not in _measured(out):
            _run(step.words)


def steps(out: str, export: str, images: int | None, n: int) -> Iterator[Step]:
    """Yields the commands of sets, training, figures and export."""
    # Sets: shaders to train on, and three families to measure on.
    tables = f"{out}-captions"
    yield from _stored("shaders", f"{out}-shaders", tables, _SEED, 16_384)
    for name in _HELD_OUT:
        place = f"{out}-held-out-{name}"
        yield from _stored(name, place, f"{place}-captions", _HELD_OUT_SEED, 2 * n)

    # Training.
    for words, length in _training(out, ("--on", f"{out}-shaders", "--captions", tables)):
        count = images or length
        given = ("--images", str(count)) if count else ()
        yield Step((*words, "--device", "cpu", *given))

    # Figures.
    for name in ("scenes_flat", "scenes"):
        words = ("evaluate", "obedience", out, "--on", name, "--facts", "3,6", "--n", str(n))
        yield Step(words, ("obedience: whole prompts of 6 facts", name))
    yield Step(("evaluate", "reading", out, "--n", str(n)), ("reading: relation", "scenes_flat"))
    held_out = [word for name in _HELD_OUT for word in ("--on", f"{out}-held-out-{name}")]
    yield Step(
        ("evaluate", "agreement", out, *held_out, "--n", str(2 * n)), ("attribute agreement: family", "")
    )

    # The export, and the proof: the run has the shipped weights.
    yield Step(("train", "export", out, "--out", export, "--notes", str(NOTES)))
    if images is None and SHIPPED.exists():
        yield Step(("train", "prove", str(SHIPPED), "--out", out, "--device", "cpu"))


def _stored(name: str, place: str, tables: str, seed: int, count: int) -> Iterator[Step]:
    """Yields the commands of a set of shards and its captions."""
    form = ("--n", str(count), "--size", "32", "--seed", str(seed), "--workers", "0")
    yield Step(("synth", "shards", name, "--out", place, *form))
    yield Step(("caption", "captions", place, "--out", tables, "--encoder", "nano", "--workers", "0"))


def _training(out: str, shaders: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int | None]]:
    """Yields the commands of the six parts, with the sets of shaders in the last three, and their lengths in
    images, or None for those of their presets."""
    two, one_or_two = "live.scenes_flat.objects=2,2", "live.scenes_flat.objects=1,2"
    plain = ("--text", "blend:1,plain", *_set("training.drop_vector=1"))
    first, words, small = (f"{out}-{part}" for part in ("layouts", "words", "small"))

    # Flat scenes.
    yield ("train", "pretrain", "layouts-32", *_FLAT, *_set(two, _CLEAR), "--out", first), None
    yield ("train", "finetune", "diffusion-32", "--from", first, *_FLAT, *plain, "--out", words), _WORDS
    half = _set("live.scenes_flat.size=32", one_or_two, _CLEAR)
    yield ("train", "finetune", "formula-32-small", "--from", words, *_FLAT, *half, "--out", small), None

    # Five sets.
    live, source = [word for name in _LIVE for word in ("--live", name)], small
    for part in _MIXTURES:
        shares = [f"{name}.share={share}" for name, share in part.shares.items()]
        rates = (f"training.decay_from={part.decay_from}", f"training.decay_to={part.images}")
        data = (*live, *shaders, *_set(one_or_two, _CLEAR, *shares, *rates))
        place = f"{out}-{part.name}" if part.name else out
        yield ("train", "finetune", "formula-32", "--from", source, *data, "--out", place), part.images
        source = place


def _set(*changes: str) -> tuple[str, ...]:
    """Returns the options of settings."""
    return tuple(word for change in changes for word in ("--set", change))


def _measured(out: str) -> set[tuple[str, str]]:
    """Returns the metrics that a run has at its newest checkpoint, with their sets."""
    from evaluate import results
    from train import runs

    if not (Path(out) / results.NAME).exists():
        return set()
    run = runs.find(out)
    clock = run.images_seen(run.checkpoint())
    rows = [row for row in results.read(run.path) if row.get("images_seen") == clock]
    return {(row["metric"], row.get("set", "")) for row in rows}


def _run(words: Sequence[str]) -> None:
    """Runs a command of a stage. Raises UserError if it fails."""
    console.note(shlex.join(words))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-m", *words], env=environment, check=False)
    if ended.returncode:
        raise UserError(f"{words[0]} {words[1]} ended with code {ended.returncode}; its message is above")


if __name__ == "__main__":
    main()
