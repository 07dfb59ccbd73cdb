"""Runs as evaluation sees them: what they are, their checkpoints, and the pictures that these draw of a reference's captions.

One picture a caption, in the reference's order, each with latents of its own that follow from (seed, number): so a picture does not depend
on how many others are drawn, and two runs that are compared draw from the same latents.
Axes: N pictures, D dimensions of an embedding, Z width of a latent, R resolution.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from caption import encoders
from caption.encoders import Encoder
from caption.sentences import attributes
from caption.table import CaptionSet, text_vectors, vectors
from evaluate.sources import Pictures
from synth.errors import UserError
from synth.sets.shards import Sample, ShardSet
from synth.settings import digest
from train import checkpoint

JUDGED_BY_ITS_OWN = "computed by the encoder that made the run's captions: it was trained towards this number"

_AT_ONCE = 16  # pictures drawn together

Json = dict[str, Any]


@dataclass(frozen=True)
class Prompts:
    """What a reference's pictures are to be drawn again from."""

    vectors: np.ndarray  # float32 (N, D), unit length
    texts: list[str]  # of each; empty where there is none
    policy: str  # in words
    digest: str


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    path: Path
    about: Json  # its config.json

    @classmethod
    def at(cls, place: str) -> "Run":
        """The run that lies there. Raises UserError where there is none."""
        try:
            return cls(Path(place), json.loads((Path(place) / "config.json").read_text()))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            raise UserError(f"{place} is no run: it has no readable config.json; `python -m train pretrain` makes one") from None

    def checkpoint(self, images_seen: int | None = None) -> Path:
        """The checkpoint of so many images, the newest by default. Raises UserError where there is none."""
        newest = checkpoint.require(self.path)
        if images_seen is None:
            return newest
        found = {checkpoint.images_seen(c): c for c in checkpoint.committed(self.path)}
        if images_seen not in found:
            raise UserError(f"{self.path} has no checkpoint at {images_seen} images; it has {', '.join(map(str, found))}")
        return found[images_seen]

    def encoder(self, name: str | None, device: str) -> Encoder:
        """The encoder of the run's captions. Raises UserError where it is not to be had."""
        source = encoders.find(name or self.about["encoder"]["name"])
        if source.sha256 != self.about["encoder"]["digest"]:
            raise UserError(f"the encoder {source.name} has other weights than the one of {self.path}; give that one by --encoder")
        return encoders.load(source, device, "fp32")


def prompts_of_tables(shards: ShardSet, tables: CaptionSet, run: Run, n: int) -> Prompts:
    """The first n prompts of caption tables: people's captions by turns where these are embedded, else stored pseudo-captions. Raises
    UserError where the tables are of other shards or of another encoder."""
    tables.require_made_for(shards)
    if tables.identity["weights"] != run.about["encoder"]["digest"]:
        raise UserError(f"{tables.storage.url} was made by {tables.identity['encoder']}, and {run.path} by {run.about['encoder']['name']}")
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
    policy = "the first caption of each picture" if people else f"stored pseudo-captions, xi = {tables.identity['xi']:g}"
    return _prompts(np.array(found[:n], np.float32), texts[:n], policy, tables.digest)


def prompts_of_texts(shards: ShardSet, encoder: Encoder, n: int) -> Prompts:
    """The first n prompts of a set without tables, encoded here: people's captions, else attribute sentences. Raises UserError where a
    picture has neither."""
    texts: list[str] = []
    for shard in shards.shards:
        for sample in shards.read(shard) if len(texts) < n else ():
            texts.append(_text(sample, shards))
    texts = texts[:n]
    return _prompts(encoder.texts([encoder.cut(t) for t in texts]), texts, "the first caption of each picture, encoded here", shards.digest)


def prompts_of(encoder: Encoder, texts: list[str]) -> Prompts:
    """Prompts of texts as they are."""
    return _prompts(encoder.texts([encoder.cut(t) for t in texts]), texts, "texts", digest(texts))


def drawn(run: Run, found: Path, prompts: Prompts, *, seed: int, device: str) -> Pictures:
    """The pictures that a checkpoint's averaged generator draws of the prompts."""
    generator = checkpoint.average(found).to(device)
    mark = hashlib.sha256((found / "COMMITTED").read_bytes()).hexdigest()

    @torch.no_grad()
    def batches(start: int) -> Iterator[np.ndarray]:
        config = generator.config
        for first in range(start, len(prompts.vectors), _AT_ONCE):
            h = torch.from_numpy(prompts.vectors[first : first + _AT_ONCE]).to(device)
            normal = np.stack([_latents(seed, first + i, config.z_dim + config.noise_size) for i in range(len(h))])
            z, noise = torch.from_numpy(normal).to(device).split([config.z_dim, config.noise_size], dim=1)
            images = generator(z, h, noise=noise)  # N 3 R R
            yield ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    name = f"{run.path.name} at {checkpoint.images_seen(found):,} images"
    return Pictures(name, digest({"checkpoint": mark, "prompts": prompts.digest, "seed": seed}), len(prompts.vectors), batches)


def _prompts(found: np.ndarray, texts: list[str], policy: str, origin: str) -> Prompts:
    return Prompts(
        found, texts, policy, digest({"origin": origin, "policy": policy, "vectors": hashlib.sha256(found.tobytes()).hexdigest()})
    )


def _text(sample: Sample, shards: ShardSet) -> str:
    own = sample.captions or sample.about.get("caption")
    if own:
        return own if isinstance(own, str) else own[0]
    if "stats" not in sample.about:
        raise UserError(f"sample {sample.key} of {shards.storage.url} has no caption; give caption tables by --captions")
    return attributes.sentences(sample.about)[0]


def _latents(seed: int, number: int, size: int) -> np.ndarray:
    """Normal numbers of a picture, float32 (size,)."""
    stream = np.random.Philox(key=np.array([seed, 0], np.uint64), counter=np.array([0, 0, number, 0], np.uint64))
    return np.random.Generator(stream).standard_normal(size, dtype=np.float32)
