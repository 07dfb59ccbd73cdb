"""The prompts of a reference, and the pictures that a run draws of them.

There is one picture per caption, in the reference's order. A picture depends on its prompt, the seed and its
number alone (train/sampling/draw.py). Two compared runs draw from the same numbers.

Axes: N pictures, D dimensions of an embedding.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caption.encoders import Encoder
from caption.sentences import attributes
from caption.table import CaptionSet, text_vectors, vectors
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest
from train import checkpoint
from train.runs import Run
from train.sampling import draw
from train.sampling.draw import Texts, require_drawing

JUDGED_BY_ITS_OWN = "computed by the encoder that made the run's captions: it was trained towards this number"

Json = dict[str, Any]


@dataclass(frozen=True)
class Prompts:
    """The texts and vectors of the pictures to draw."""

    vectors: np.ndarray  # float32 (N, D), unit length
    texts: list[str]  # of each; empty if there is none
    policy: str  # in words
    digest: str


def of_tables(shards: ShardSet, tables: CaptionSet, run: Run, n: int) -> Prompts:
    """Returns the first n prompts of caption tables.

    They are people's captions if the tables embed these, else stored pseudo-captions. Raises UserError if the
    tables are of other shards or of another encoder."""
    tables.require_made_for(shards)
    if tables.identity["weights"] != run.about["encoder"]["digest"]:
        raise UserError(
            f"{tables.storage.url} was made by {tables.identity['encoder']}, and {run.path} by {run.about['encoder']['name']}"
        )
    people = tables.identity["text_embeddings"] and not tables.identity["sentences"]
    columns = ["text_embedding"] if people else ["pseudo_caption"]
    found: list[np.ndarray] = []
    texts: list[str] = []
    for part in tables.parts:
        if len(texts) >= n:
            break
        table = tables.read(part, [*columns, "caption"])
        captions = table["caption"].to_pylist()
        if people:
            found += [v[0] for v in text_vectors(table["text_embedding"], tables.dimensions) if len(v)]
            texts += [c[0] for c in captions if c]
        else:
            found += list(vectors(table["pseudo_caption"], tables.dimensions))
            texts += [(c or [""])[0] for c in captions]
    policy = (
        "the first caption of each picture"
        if people
        else f"stored pseudo-captions, xi = {tables.identity['xi']:g}"
    )
    return _prompts(np.array(found[:n], np.float32), texts[:n], policy, tables.digest)


def of_texts(shards: ShardSet, encoder: Encoder, n: int) -> Prompts:
    """Returns the first n prompts of a set without tables, encoded here.

    They are people's captions, else attribute sentences. Raises UserError if a picture has neither."""
    texts: list[str] = []
    for shard in shards.shards:
        for sample in shards.read(shard) if len(texts) < n else ():
            texts.append(_text(sample, shards))
    texts = texts[:n]
    return _prompts(
        encoder.texts([encoder.cut(t) for t in texts]),
        texts,
        "the first caption of each picture, encoded here",
        shards.digest,
    )


def of(encoder: Encoder, texts: list[str]) -> Prompts:
    """Returns prompts of texts, unchanged."""
    return _prompts(encoder.texts([encoder.cut(t) for t in texts]), texts, "texts", digest(texts))


def drawn(run: Run, found: Path, prompts: Prompts, *, seed: int, device: str) -> Pictures:
    """Returns the pictures that a checkpoint draws of the prompts, in order.

    Raises UserError if the model draws none."""
    require_drawing(run.model, str(run.path))
    texts = Texts(torch.from_numpy(prompts.vectors).to(device))
    drawing = draw.drawing(run.load(found, device), texts, seed=seed)
    identity = {"checkpoint": checkpoint.digest(found), "prompts": prompts.digest, **drawing.identity}
    name = f"{run.path.name} at {run.images_seen(found):,} images"
    return Pictures(name, digest(identity), len(drawing), drawing.batches)


def _prompts(found: np.ndarray, texts: list[str], policy: str, origin: str) -> Prompts:
    return Prompts(
        found,
        texts,
        policy,
        digest({"origin": origin, "policy": policy, "vectors": hashlib.sha256(found.tobytes()).hexdigest()}),
    )


def _text(sample: Sample, shards: ShardSet) -> str:
    own = sample.captions or sample.metadata.get("caption")
    if own:
        return own if isinstance(own, str) else own[0]
    if "stats" not in sample.metadata:
        raise UserError(
            f"sample {sample.key} of {shards.storage.url} has no caption; give caption tables by --captions"
        )
    return attributes.sentences(sample.metadata)[0]
