"""Fits a captioner to scenes and their sentences, by the recipe of Betker et al., Improving Image Generation
with Better Captions (2023), in small.

    base    texts of one to eight facts
    short   from there, texts that name the main object (their short synthetic captions)
    long    from the base again, texts that state everything (their descriptive synthetic captions)

Scenes are drawn when they are needed, each is seen once, and none has a held-out combination. The encoder is
frozen. Everything random follows from the seed and the numbers of pictures and steps.
"""

import copy
import itertools
import math
import shlex
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor

from caption import encoders
from caption.nano import network
from caption.scene_captioner import card, exam, folder
from caption.scene_captioner.decoder import Decoder, Seen, Shape
from caption.scene_captioner.exam import SETS
from caption.scene_captioner.vocabulary import END, UNKNOWN, Vocabulary
from caption.sentences import scene_sentences
from caption.sentences.scene_facts import scene_facts
from synth import seeds
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.storage import Folder

READS = ("vector", "patches")
BATCH = 32

_FACTS = 8  # of a text of the base, at most
_CORPUS = 500  # pictures of each set, which the vocabulary comes from
_DRAWS = 3  # texts of each kind on such a picture
_CHUNKS = 2  # of a batch's texts, by length
_WARM_UP = 0.04  # share of the steps
_IGNORED = -100  # cross entropy skips it

Json = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One part of a fit. It has the pictures from `first` on, of all pictures of the seed."""

    name: str  # base, short or long
    share: float  # of the visits
    rate: float  # AdamW's, at its highest
    first: int


STAGES = (
    Stage("base", 1.0, 4e-3, 0),
    Stage("short", 0.25, 2e-3, 1 << 30),
    Stage("long", 0.35, 3e-3, 1 << 31),
)


@dataclass(frozen=True)
class CaptionerRequest:
    """The options of one `fit-captioner` command."""

    out: str
    encoder: str = encoders.NANO
    reads: str = "patches"
    seed: int = 0
    visits: int = 100_000  # of pictures by the base
    pictures: int = 500  # of each set in the exam
    threads: int = 1  # sums depend on it


def total(request: CaptionerRequest) -> int:
    """Returns the number of pictures of a fit, in all stages."""
    return sum(_steps(stage, request) * BATCH for stage in STAGES)


def fit(request: CaptionerRequest) -> Generator[Progress | list[Json], None, None]:
    """Fits a captioner and writes its folder. Yields the pictures of each step, and at the end the figures.

    Leaves a finished folder of the same request alone. Raises UserError if the folder has other files."""
    source = encoders.find(request.encoder)
    if request.reads not in READS:
        raise UserError(f"--reads is {request.reads}; give {' or '.join(READS)}")
    options = {name: value for name, value in asdict(request).items() if name not in ("out", "encoder")}

    # A finished captioner.
    if folder.is_captioner(request.out):
        entries = folder.described(request.out)
        if entries.get("fit") != options or entries["encoder"]["sha256"] != source.sha256:
            raise UserError(f"{request.out} holds a captioner of other options; give another --out")
        yield Progress(0, note=f"{request.out} is finished: nothing to do")
        yield _rows(request.out, entries["figures"])
        return

    begin = time.process_time()
    with Folder(request.out).filled() as scratch, network.reproducible(request.threads):
        # Encoder, vocabulary and decoder.
        encoder = encoders.load(source, "cpu", "bf16" if encoders.has_bf16("cpu") else "fp32")
        shape = shape_for(encoder, request.reads)
        vocabulary = Vocabulary.of(_corpus(request.seed))
        torch.manual_seed(request.seed)
        base = Decoder(replace(shape, words=len(vocabulary)))

        # Base, then each tuning from a copy of it.
        losses: dict[str, float] = {}
        tuned: dict[str, Decoder] = {}
        for stage in STAGES:
            decoder = base if stage.name == "base" else copy.deepcopy(base)
            values = []
            for loss in _train(decoder, encoder, vocabulary, stage, request):
                values.append(loss)
                yield Progress(BATCH)
            last = values[-max(1, len(values) // 10) :]
            losses[stage.name] = round(sum(last) / len(last), 4)
            tuned[stage.name] = decoder
        minutes = (time.process_time() - begin) / 60

        # Files. The figures are of the weights as they are stored.
        name = encoders.absolute(request.encoder)
        describe = partial(folder.config, name, source.sha256, base.shape, options)
        scratch.write(folder.VOCABULARY, folder.words(vocabulary))
        scratch.write(folder.CONFIG, describe({}))
        for tuning in folder.TUNINGS:
            scratch.write(f"{tuning}.safetensors", folder.weights(tuned[tuning]))
        figures = {
            tuning: examine(folder.load(scratch.url, tuning, "cpu"), request) for tuning in folder.TUNINGS
        }

        # Card.
        scratch.write(folder.CONFIG, describe(figures))
        fitted = card.Fitted(command(request), request.reads, request.encoder, minutes, losses)
        scratch.write(folder.CARD, card.text(Path(request.out).resolve().name, fitted, figures).encode())
    yield _rows(request.out, figures)


def examine(describer: folder.Describer, request: CaptionerRequest) -> Json:
    """Returns the figures of a tuning by set, on fresh scenes of another seed."""
    figures = {}
    for name in SETS:
        samples, texts = [], []
        pairs = exam.scenes(name, request.seed + 1, range(request.pictures))
        while batch := list(itertools.islice(pairs, folder.AT_ONCE)):
            texts += describer.captions([pixels for pixels, _ in batch])
            samples += [sample for _, sample in batch]
        figures[name] = asdict(exam.score(texts, samples))
    return figures


def command(request: CaptionerRequest) -> str:
    """Returns the command line of a request."""
    options = ["--out", request.out, "--encoder", request.encoder, "--reads", request.reads]
    options += ["--seed", str(request.seed), "--visits", str(request.visits)]
    options += ["--pictures", str(request.pictures), "--threads", str(request.threads)]
    return shlex.join(["python", "-m", "caption", "fit-captioner", *options])


def _rows(out: str, figures: Json) -> list[Json]:
    """Returns the figures as rows for a person, one for each tuning and set."""
    rows = []
    for tuning, sets in figures.items():
        for name, score in sets.items():
            plain = {key: value for key, value in score.items() if key != "types"}
            types = {f"true_{type_}": share for type_, (share, _) in score["types"].items()}
            rows.append({"out": out, "tuning": tuning, "set": name, **plain, **types})
    return rows


def _train(
    decoder: Decoder,
    encoder: encoders.Encoder,
    vocabulary: Vocabulary,
    stage: Stage,
    request: CaptionerRequest,
) -> Iterator[float]:
    """Fits a decoder to the texts of a stage. Yields the loss of every step, per word."""
    decoder.train()
    optimiser = torch.optim.AdamW(decoder.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    steps = _steps(stage, request)
    for number in range(steps):
        # Learning rate.
        for group in optimiser.param_groups:
            group["lr"] = stage.rate * _schedule(number, steps)

        # Pictures and texts.
        pixels, texts = _batch(stage, request.seed, number)
        seen = folder.look(encoder, pixels, decoder.shape)
        rows = [vocabulary.encode(text)[: decoder.shape.most] for text in texts]

        # Step, in chunks of texts of similar length.
        optimiser.zero_grad()
        count, loss = sum(map(len, rows)) + len(rows), 0.0
        for chunk in torch.tensor([len(row) for row in rows]).argsort(stable=True).chunk(_CHUNKS):
            part = loss_of(decoder, seen.rows(chunk), [rows[i] for i in chunk.tolist()]) / count
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        yield loss


def loss_of(decoder: Decoder, seen: Seen, rows: list[list[int]]) -> Tensor:
    """Returns the cross entropy of texts, summed over their words and ends."""
    # A text begins with END, too.
    longest = max(map(len, rows))
    words = torch.tensor([[END, *row, *[END] * (longest - len(row))] for row in rows])
    targets = torch.tensor([[*row, END, *[_IGNORED] * (longest - len(row))] for row in rows])
    targets[targets == UNKNOWN] = _IGNORED
    with network.quick():
        scores = decoder(words, seen)
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=_IGNORED, reduction="sum")


def _batch(stage: Stage, seed: int, number: int) -> tuple[np.ndarray, list[str]]:
    """Returns the pictures of a step and their texts. Half of them are of each set."""
    pictures, texts = [], []
    each = BATCH // len(SETS)
    first = stage.first + number * each
    for name in SETS:
        for pixels, sample in exam.scenes(name, seed, range(first, first + each)):
            pictures.append(pixels)
            texts.append(_text(stage.name, sample, seed))
    return np.stack(pictures), texts


def _text(kind: str, sample: Json, seed: int) -> str:
    """Returns a text on a scene for a stage."""
    facts = scene_facts(sample)
    stream = seeds.stream(seed, f"captioner {kind} {sample['dataset']}", sample["index"])
    if kind == "short":
        return scene_sentences.short(facts, stream)
    if kind == "long":
        return scene_sentences.long(facts, stream)
    return scene_sentences.draw(
        facts, stream, stream.integer(1, min(_FACTS, len(scene_sentences.canonical(facts))))
    )


def _corpus(seed: int) -> Iterator[str]:
    """Yields texts of all stages, for the vocabulary."""
    for name in SETS:
        for _, sample in exam.scenes(name, seed, range(_CORPUS)):
            yield from (_text(kind, sample, seed + i) for kind in ("base", "long") for i in range(_DRAWS))


def shape_for(encoder: encoders.Encoder, reads: str) -> Shape:
    """Returns the shape of a decoder for an encoder, without words. Raises UserError if it has no patches."""
    if reads == "vector":
        return Shape(0, encoder.dimensions, 0, 1)
    _, patches = encoder.patches(np.zeros((1, encoder.size, encoder.size, 3), np.uint8))
    return Shape(0, encoder.dimensions, patches.shape[2], 1 + patches.shape[1])


def _steps(stage: Stage, request: CaptionerRequest) -> int:
    return max(1, round(stage.share * request.visits / BATCH))


def _schedule(number: int, steps: int) -> float:
    """Returns the share of the highest rate at a step: a linear warm-up, then half a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    if number < warm:
        return (number + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (number - warm) / max(1, steps - warm))
