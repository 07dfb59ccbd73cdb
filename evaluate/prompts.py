"""The prompts of a reference, the pictures that a run draws from them, and sheets of both.

Each caption gets one picture, in the reference's order. A picture depends on its prompt, the seed and its
number alone (train/sampling/draw.py). Two compared runs draw from the same random numbers.

Axes: N pictures, D dimensions of an embedding, R pixels a side.
"""

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from caption.encoders import Encoder
from caption.sentences import attributes
from caption.table import CaptionSet, text_vectors, vectors
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest
from train import checkpoint
from train.runs import Run, find
from train.sampling import draw as sampling
from train.sampling import grid, unread
from train.sampling.draw import require_drawing

TRAINED_TOWARDS = "computed by the encoder that made the run's captions: it was trained towards this number"

DRAWN = "drawn"  # under the pictures of a run in a sheet

_COLUMNS, _SIDE = 8, 96  # of a sheet, and pixels of its enlarged pictures, at least

Json = dict[str, Any]


@dataclass(frozen=True)
class Prompts:
    """The texts and vectors of the pictures to draw."""

    vectors: np.ndarray | None  # float32 (N, D), unit length; None: the run reads words alone
    texts: list[str]  # one per vector; "": the vector has no text
    policy: str  # the choice of captions, in words
    digest: str
    paired: bool = False  # the i-th is a caption by a person of the reference's i-th picture


@dataclass(frozen=True)
class GridRequest:
    """The options of `grid`."""

    run: str
    reference: str  # a finished set
    n: int = 16
    seed: int = 0  # of the latents
    images_seen: int | None = None
    encoder: str | None = None
    device: str = "cpu"
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form


def notes_of(run: Run, weights: str) -> tuple[str, ...]:
    """Returns the notes of a figure by a net with these weights: the run may have been trained towards it."""
    encoder = run.metadata["encoder"] or {}
    towards = encoder.get("digest") == weights and run.config.needs.vectors
    return (TRAINED_TOWARDS,) if towards else ()


def noted(run: Run, texts: Sequence[str], options: Mapping[str, str]) -> Generator[Progress]:
    """Yields a note on words of the texts that a run does not know, and one on texts that it cuts."""
    for note in unread.notes(run, texts, options):
        yield Progress(0, note=note)


def forms_of(run: Run, options: Mapping[str, str], encoder: str | None = None) -> frozenset[str]:
    """Returns the forms of a text that a run reads with these options of drawing: vectors, tokens, or both.

    Raises UserError if it has never learned such texts, its model has no such option, or an encoder is given
    to pictures that follow words alone."""
    forms, needs = sampling.reads(run.model, options), run.config.needs
    if "vectors" in forms and not needs.vectors:
        raise UserError(f"{run.path} has learned words alone, and no vectors; give --draw text=words")
    if "tokens" in forms and not needs.words:
        raise UserError(f"{run.path} has learned vectors alone, and no words; give --draw text=vector")
    if encoder is not None and "vectors" not in forms:
        raise UserError(f"--encoder is {encoder}, and the pictures of {run.path} follow words; leave it out")
    return forms


def require_words(run: Run) -> None:
    """Raises UserError if a run has learned no words of texts."""
    if not run.config.needs.words:
        raise UserError(f"{run.path} has learned vectors alone; give a run that reads words")


def of_tables(shards: ShardSet, tables: CaptionSet, run: Run, n: int) -> Prompts:
    """Returns the first n prompts of caption tables.

    They are people's captions if the tables embed these, else stored pseudo-captions. Raises UserError if the
    tables are of other shards or of another encoder."""
    # Tables that fit.
    tables.require_made_for(shards)
    encoder, made_by = run.metadata["encoder"], tables.identity["encoder"]
    if tables.identity["weights"] != encoder["digest"]:
        problem = f"{tables.storage.url} was made by {made_by}, and {run.path} by {encoder['name']}"
        raise UserError(f"{problem}; give captions by {encoder['name']}")
    people = tables.identity["text_embeddings"] and not tables.identity["sentences"]

    # Vectors and texts.
    columns = ["text_embedding"] if people else ["pseudo_caption"]
    rows: list[np.ndarray] = []
    texts: list[str] = []
    paired = people
    for part in tables.parts:
        if len(texts) >= n:
            break
        table = tables.read(part, [*columns, "caption"])
        captions = table["caption"].to_pylist()
        if people:
            rows += [v[0] for v in text_vectors(table["text_embedding"], tables.dimensions) if len(v)]
            texts += [c[0] for c in captions if c]
            paired = paired and all(captions)
        else:
            rows += list(vectors(table["pseudo_caption"], tables.dimensions))
            texts += [(c or [""])[0] for c in captions]

    # Policy.
    policy = "the first caption of each picture"
    if not people:
        policy = f"stored pseudo-captions, xi = {tables.identity['xi']:g}"
    prompts = _prompts(np.array(rows[:n], np.float32), texts[:n], policy, tables.digest)
    return replace(prompts, paired=bool(paired))


def of_texts(shards: ShardSet, encoder: Encoder | None, n: int) -> Prompts:
    """Returns the first n prompts of a set without tables, encoded here. Without an encoder, they have no
    vectors.

    They are people's captions, else attribute sentences. Raises UserError if a picture has neither."""
    texts = [_text(sample, shards) for sample in islice(_samples(shards), n)]
    policy = "the first caption of each picture"
    if encoder is None:
        origin = {"origin": shards.digest, "policy": policy, "texts": texts}
        return Prompts(None, texts, policy, digest(origin), paired=True)
    policy = f"{policy}, encoded here"
    prompts = _prompts(encoder.texts([encoder.cut(t) for t in texts]), texts, policy, shards.digest)
    return replace(prompts, paired=True)


def of(encoder: Encoder | None, texts: list[str]) -> Prompts:
    """Returns prompts of texts, unchanged. Without an encoder, they have no vectors."""
    if encoder is None:
        return Prompts(None, texts, "texts", digest({"texts": texts, "vectors": None}))
    return _prompts(encoder.texts([encoder.cut(t) for t in texts]), texts, "texts", digest(texts))


def draw(
    run: Run,
    folder: Path,
    prompts: Prompts,
    *,
    seed: int,
    device: str,
    options: Mapping[str, str] | None = None,
) -> Pictures:
    """Returns the pictures that a checkpoint draws from the prompts, in order.

    `options` of drawing are in their command-line form. Raises UserError if the model draws none."""
    # Drawing.
    require_drawing(run.model, str(run.path))
    model = run.load(folder, device)
    vectors = None if prompts.vectors is None else torch.from_numpy(prompts.vectors)
    texts = sampling.texts_of(model, prompts.texts, vectors, device)
    drawing = sampling.drawing(model, texts, seed=seed, options=options, run=run)

    # Identity of the pictures.
    identity = {"checkpoint": checkpoint.digest(folder), "prompts": prompts.digest, **drawing.identity}
    name = f"{run.path.name} at {run.images_seen(folder):,} images"
    return Pictures(name, digest(identity), len(drawing), drawing.batches)


def pairs(request: GridRequest) -> Generator[Progress | Image.Image]:
    """Yields notes, and at the end a sheet: pictures from all over a set, each beside what a run draws of its
    first caption.

    Formula pictures have sentences for captions. Two runs have the same captions and latents at the same
    places. Raises UserError if the set is too small, has no captions, or has pictures of another side than
    the run's."""
    # Pictures of the set, and drawn ones.
    run, shards = find(request.run), ShardSet(request.reference)
    require_drawing(run.model, request.run)
    forms_of(run, request.drawing, request.encoder)
    samples = spread(shards, request.n)
    texts = [_text(sample, shards) for sample in samples]
    yield from noted(run, texts, request.drawing)
    drawn = sampling.sample(
        run,
        texts,
        n=1,
        seed=request.seed,
        images_seen=request.images_seen,
        encoder=request.encoder,
        options=request.drawing,
        device=request.device,
    )
    sides = (samples[0].pixels.shape[0], drawn.shape[1])
    if len(set(sides)) > 1:
        problem = (
            f"the pictures of {request.reference} have {sides[0]} pixels a side, and the run's {sides[1]}"
        )
        raise UserError(f"{problem}; give a set of that size")

    # The sheet.
    both = np.stack([np.stack([sample.pixels for sample in samples]), drawn], axis=1)  # (N, 2, R, R, 3)
    captions = [caption for text in texts for caption in (text, DRAWN)]
    yield grid.captioned(both.reshape(-1, *both.shape[2:]), captions, columns=_COLUMNS, least=_SIDE)


def spread(shards: ShardSet, n: int) -> list[Sample]:
    """Returns n evenly spaced samples of a set. Raises UserError if it has fewer."""
    if n > len(shards):
        problem = f"{shards.storage.url} holds {len(shards):,} pictures, so {n:,} cannot be shown"
        raise UserError(f"{problem}; give another --n")
    every = len(shards) // n
    return list(islice(_samples(shards), every // 2, n * every, every))


def _samples(shards: ShardSet) -> Iterator[Sample]:
    """Yields the samples of a set, in order."""
    return (sample for shard in shards.shards for sample in shards.read(shard))


def _prompts(vectors: np.ndarray, texts: list[str], policy: str, origin: str) -> Prompts:
    """Returns prompts with their digest. `origin` identifies the source of the texts."""
    values = hashlib.sha256(vectors.tobytes()).hexdigest()
    return Prompts(vectors, texts, policy, digest({"origin": origin, "policy": policy, "vectors": values}))


def _text(sample: Sample, shards: ShardSet) -> str:
    """Returns a sample's first caption, else its attribute sentence. Raises UserError if it has neither."""
    captions = sample.captions or sample.metadata.get("caption")
    if captions:
        return captions if isinstance(captions, str) else captions[0]
    if "stats" not in sample.metadata:
        problem = f"sample {sample.key} of {shards.storage.url} has no caption"
        raise UserError(f"{problem}; give a set with captions, or its caption tables")
    return attributes.sentences(sample.metadata)[0]
