"""The held-out loss of a denoiser, and the part that its texts have in it.

    L = mean of  (sigma^2 + d^2) / (sigma d)^2  (D(x + sigma n; sigma) - x)^2,   d = .5

at eight fixed noise levels: quantiles of ln sigma ~ N(-1.2, 1.2) (Karras et al., EDM, NeurIPS 2022, equation
8 and table 1). This weighting is the same for every formulation, so their losses compare. Picture i of a set
has level i mod 8 and noise of its own, by number. Each loss comes with that of texts changed round: the
difference is what the texts tell the model about its pictures.

Axes: N pictures, R resolution, K levels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from caption import encoders
from caption.sentences import attributes, names
from evaluate import results
from evaluate.inference import bootstrap
from evaluate.measuring import Events
from evaluate.prompts import forms_of, noted
from synth.errors import UserError
from synth.seeds import stream
from synth.sets.completion import Progress
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest
from train.runs import Loaded, Run, find
from train.sampling import denoise, draw

LEVELS = [math.exp(-1.2 + 1.2 * NormalDist().inv_cdf((k + 0.5) / 8)) for k in range(8)]
SIGMA_DATA = 0.5

TEXTS = ("short", "long", "plain")  # the first caption, the last one, or a plain text that names every object

METRIC = "held-out loss"  # in rows

_AT_ONCE = 64

Json = dict[str, Any]


@dataclass(frozen=True)
class LossRequest:
    """The options of `loss`."""

    run: str
    references: tuple[str, ...]  # finished sets, pictures of each in turn
    n: int = 512  # pictures of each set
    skip: int = 0  # pictures of each set that are left out first, as training read them
    text: str = "long"  # one of TEXTS
    seed: int = 0  # of the noise
    images_seen: int | None = None
    curve: bool = False  # every checkpoint, with right texts alone
    encoder: str | None = None
    device: str = "auto"
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form


class Held(NamedTuple):
    """Held-out pictures with a caption each."""

    pictures: Tensor  # float32 (N, 3, R, R) in -1..1
    captions: list[str]
    digest: str


def loss(request: LossRequest) -> Events:
    """Measures the held-out loss of a run. Appends its rows to the run's figures.

    Yields the number of processed pictures, and at the end the rows: one, or with `curve` one for each
    checkpoint. Raises UserError if the run's model does not denoise."""
    # Run and pictures.
    run = find(request.run)
    denoise.require_denoising(run.model, request.run)
    results.require_place(run.path)
    forms = forms_of(run, request.drawing, request.encoder)
    newest = run.checkpoint(request.images_seen)
    folders = run.checkpoints() if request.curve else [newest]
    side = run.config.groups.model.resolution
    sets = [read(place, request.skip, request.n, side, request.text) for place in request.references]
    held = in_turn(sets)

    # Vectors of the texts, by the run's encoder.
    device, vectors = encoders.choose_device(request.device), None
    if "vectors" in forms:
        net = run.encoder(request.encoder, device)
        vectors = torch.from_numpy(net.texts([net.cut(caption) for caption in held.captions]))

    # A row for each checkpoint.
    rows = []
    yield from noted(run, held.captions, request.drawing)
    yield Progress(0)
    for folder in folders:
        row = _row(request, run, run.load(folder, device), held, vectors, device)
        rows.append({**row, "images_seen": run.images_seen(folder)})
        results.append(run.path, rows[-1])
        yield Progress(len(held.captions))
    yield rows


def _row(
    request: LossRequest, run: Run, model: Loaded, held: Held, vectors: Tensor | None, device: str
) -> Json:
    """Returns the row of a checkpoint."""
    # Texts, right and changed round.
    reads = draw.reads(run.model, request.drawing)
    texts = draw.texts_of(model, held.captions, vectors, device)
    rounds = {"": (), "_texts_changed_round": ("tokens", "vectors")}
    if len(reads) > 1:
        rounds |= {"_words_changed_round": ("tokens",), "_vectors_changed_round": ("vectors",)}
    if request.curve:
        rounds = {"": ()}

    # Losses.
    noise = denoise.noise(request.seed, range(len(held.captions)), held.pictures.shape[-1])
    levels = levels_of(len(held.captions), len(request.references))
    row: Json = {"metric": METRIC}
    for name, forms in rounds.items():
        denoiser = denoise.denoiser(model, texts.rolled(*forms), request.drawing)
        by_picture = errors(denoiser, held.pictures, noise, levels)
        row[f"value{name}"] = round(float(by_picture.mean()), 4)
        if not forms:
            row |= _ends(by_picture, levels)
            row["by_level"] = [round(float(by_picture[levels == k].mean()), 4) for k in range(len(LEVELS))]

    # Conditions.
    row |= {"n": len(held.captions), "seed": request.seed, "sets": list(request.references)}
    row |= {"text": request.text, "pictures": held.digest}
    if row["low"] is None:
        row["notes"] = [
            f"no interval: some noise levels have one picture; --n {2 * len(LEVELS)} gives each two"
        ]
    return {**row, "drawing": dict(request.drawing)} if request.drawing else row


def _ends(by_picture: np.ndarray, levels: np.ndarray) -> Json:
    """Returns the ends of the interval over pictures, or None if a level has fewer than two."""
    if np.bincount(levels).min() < 2:
        return {"low": None, "high": None}
    interval = bootstrap(by_picture, groups=levels)
    return {"low": round(interval.low, 4), "high": round(interval.high, 4)}


def weight(sigma: float) -> float:
    """Returns EDM's weight of a squared error at a noise level."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def levels_of(n: int, sets: int) -> np.ndarray:
    """Returns the number of the noise level of each of n pictures of sets in turn: int64 (N,).

    Every set has every level."""
    return np.arange(n) // sets % len(LEVELS)


def errors(denoiser: denoise.Denoiser, x: Tensor, noise: Tensor, levels: np.ndarray) -> np.ndarray:
    """Returns the weighted squared error of each picture x (N, 3, R, R) with its noise, at its level (N,) of
    LEVELS: float64 (N,)."""
    values = np.empty(len(x))
    for k, sigma in enumerate(LEVELS):
        members = np.flatnonzero(levels == k).tolist()
        for start in range(0, len(members), _AT_ONCE):
            rows = members[start : start + _AT_ONCE]
            denoised = denoiser(x[rows] + sigma * noise[rows], sigma, rows)
            squares = (denoised - x[rows]).square().mean(dim=(1, 2, 3))
            values[rows] = weight(sigma) * squares.double().numpy()
    return values


def in_turn(sets: Sequence[Held]) -> Held:
    """Returns the pictures of sets of one length: the first of each, the second of each, and so on."""
    pictures = torch.stack([held.pictures for held in sets], dim=1).flatten(0, 1)
    captions = [caption for row in zip(*(held.captions for held in sets), strict=True) for caption in row]
    return Held(pictures, captions, digest([held.digest for held in sets]))


def read(place: str, skip: int, n: int, side: int, text: str) -> Held:
    """Returns n pictures of a set after the first `skip`, with one of TEXTS each.

    Raises UserError if there are fewer, they have another side, or they lack such a text."""
    # Enough pictures.
    shards = ShardSet(place)
    if skip + n > len(shards):
        problem = f"{place} holds {len(shards):,} pictures, so {n:,} after {skip:,} cannot be taken"
        raise UserError(f"{problem}; give another --n or --skip")

    # Pictures and captions.
    pixels, captions = [], []
    samples = (sample for shard in shards.shards for sample in shards.read(shard))
    for sample in islice(samples, skip, skip + n):
        if sample.pixels.shape[:2] != (side, side):
            problem = (
                f"the pictures of {place} have {sample.pixels.shape[0]} pixels a side, and the run's {side}"
            )
            raise UserError(f"{problem}; give a set of that size")
        pixels.append(sample.pixels)
        captions.append(_text(sample, place, text))
    planes = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Held(planes, captions, digest({"manifest": shards.digest, "first": skip, "n": n}))


def _text(sample: Sample, place: str, text: str) -> str:
    """Returns a sample's first or last caption or sentence, or its plain text.

    Raises UserError if it has none."""
    stored: Sequence[str] | str = sample.captions or sample.metadata.get("caption") or ()
    if not stored and "stats" not in sample.metadata:
        raise UserError(f"sample {sample.key} of {place} has no caption; give a set with captions")
    if text == "plain":
        if stored:
            raise UserError(
                f"{place} has captions, and plain texts state facts of formulas; leave --text out"
            )
        return names.listing(sample.metadata, stream(0, "held-out texts", sample.metadata["index"]))
    captions = [stored] if isinstance(stored, str) else stored or attributes.sentences(sample.metadata)
    return captions[0 if text == "short" else -1]
