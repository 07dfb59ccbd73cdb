"""Reading: what a denoiser takes from its texts, fact by fact and by noise level.

A text states facts of a rendered scene. One of them is made false, to another word or the opposite direction.
The figure is the loss with this text minus the loss with the true one, on the same noised picture. It is 0 if
the denoiser does not read the fact. So it shows what a model begins to learn long before its pictures do, and
at which noise levels: places and relations at high ones, kinds at low ones.

    L = (sigma^2 + d^2) / (sigma d)^2  (D(x + sigma n; sigma) - x)^2,   d = .5        as in loss.py

Axes: N pictures, R resolution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from caption import encoders
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import plain
from evaluate import results
from evaluate.inference import bootstrap
from evaluate.judge import fresh, scene_prompts
from evaluate.loss import weight
from evaluate.measuring import Events
from evaluate.prompts import require_words
from synth.families.scene_edits import Change
from synth.sets.completion import Progress
from train.runs import find
from train.sampling import denoise, draw

LEVELS = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
METRIC = "reading"  # in rows, before the type of fact

_WORDS = {"text": "words"}  # the option of drawing
_AT_ONCE = 64

Json = dict[str, Any]


@dataclass(frozen=True)
class ReadingRequest:
    """The options of `reading`."""

    run: str
    name: str = "scenes_flat"  # the data set of the scenes
    facts: int = 6  # of a text
    n: int = 128  # scenes
    seed: int = 0  # of scenes, false words and noise
    images_seen: int | None = None
    curve: bool = False  # every checkpoint
    device: str = "auto"


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes with their texts, and each text with one false fact, by type of fact."""

    pictures: Tensor  # float32 (N, 3, R, R) in -1..1
    texts: list[str]
    false: dict[str, tuple[list[int], list[str]]]  # type -> numbers of scenes, and a text each


def reading(request: ReadingRequest) -> Events:
    """Measures what a run reads of each type of fact. Appends the rows to the run's figures.

    Yields the number of processed texts, and at the end the rows: one for each type of fact, for the last
    checkpoint or with `curve` for each. Raises UserError if the run's model does not denoise."""
    run, device = find(request.run), encoders.choose_device(request.device)
    denoise.require_denoising(run.model, request.run)
    require_words(run)
    results.require_place(run.path)
    newest = run.checkpoint(request.images_seen)
    folders = run.checkpoints() if request.curve else [newest]
    side = run.config.groups.model.resolution
    scenes = drawn(request.name, request.facts, request.n, side, seed=request.seed)
    noise = denoise.noise(request.seed, range(request.n), side)

    rows = []
    yield Progress(0)
    for folder in folders:
        # Losses with true texts: (N, K).
        model = run.load(folder, device)
        everything = range(request.n)
        true = _losses(
            denoise.denoiser(model, draw.texts_of(model, scenes.texts, None, device), _WORDS),
            *(scenes.pictures, noise, everything),
        )
        yield Progress(request.n)

        # And with one false fact.
        origin: Json = {"images_seen": run.images_seen(folder), "set": request.name}
        origin |= {"facts_of_texts": request.facts, "seed": request.seed}
        of_checkpoint = []
        for kind, (numbers, texts) in scenes.false.items():
            false = _losses(
                denoise.denoiser(model, draw.texts_of(model, texts, None, device), _WORDS),
                *(scenes.pictures, noise, numbers),
            )
            yield Progress(len(numbers))
            of_checkpoint.append(row(kind, true[numbers], false) | origin)
        results.append(run.path, *of_checkpoint)
        rows += of_checkpoint
    yield rows


def row(kind: str, true: np.ndarray, false: np.ndarray) -> Json:
    """Returns the row of a type of fact from losses (N, K) of N scenes at K levels.

    A single scene has no interval."""
    rises = false - true
    by_scene = rises.mean(axis=1)
    by_level = {f"{sigma:g}": round(float(v), 4) for sigma, v in zip(LEVELS, rises.mean(axis=0), strict=True)}
    ends: Json = {"low": None, "high": None}
    if len(rises) > 1:
        interval = bootstrap(by_scene)
        ends = {"low": round(interval.low, 4), "high": round(interval.high, 4)}
    loss = round(float(true.mean()), 4)
    value = {"metric": f"{METRIC}: {kind}", "value": round(float(by_scene.mean()), 4), **ends}
    return {**value, "by_level": by_level, "loss": loss, "n": len(rises)}


def drawn(name: str, facts: int, n: int, side: int, *, seed: int = 0) -> Scenes:
    """Returns n scenes of a data set with texts of a number of facts.

    Raises UserError if its scenes do not show that number of facts."""
    world, pixels, texts = fresh.config(name), [], []
    false: dict[str, tuple[list[int], list[str]]] = {}
    for number, scene in enumerate(islice(scene_prompts.drawn(name, facts, seed=seed), n)):
        pixels.append(fresh.rendered(scene.scene.params, side).pixels)
        texts.append(scene.prompt.prompt)
        stated, stream = scene.prompt.facts, np.random.default_rng([seed, number])
        for fact, change in fresh.changes(stated, scene.numbers, world, stream):
            numbers, changed = false.setdefault(fact.type, ([], []))
            if not numbers or numbers[-1] != number:  # one object of two
                numbers.append(number)
                changed.append(plain(_with_false(stated, fact, change)))
    pictures = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Scenes(pictures, texts, dict(sorted(false.items())))


def _with_false(facts: Sequence[SceneFact], fact: SceneFact, change: Change) -> list[SceneFact]:
    """Returns facts with one of them changed to a false value."""
    if fact.type == "relation":
        false = fact._replace(relation=str(change.value))
    else:
        false = fact._replace(value=change.value)
    return [false if each is fact else each for each in facts]


def _losses(denoiser: denoise.Denoiser, x: Tensor, noise: Tensor, numbers: Sequence[int]) -> np.ndarray:
    """Returns the weighted squared errors of pictures by number, text i for number i: float64 (N, K)."""
    values = np.empty((len(numbers), len(LEVELS)))
    for k, sigma in enumerate(LEVELS):
        for start in range(0, len(numbers), _AT_ONCE):
            rows = range(start, min(start + _AT_ONCE, len(numbers)))
            members = [numbers[i] for i in rows]
            denoised = denoiser(x[members] + sigma * noise[members], sigma, list(rows))
            errors = (denoised - x[members]).square().mean(dim=(1, 2, 3))
            values[rows.start : rows.stop, k] = weight(sigma) * errors.double().numpy()
    return values
