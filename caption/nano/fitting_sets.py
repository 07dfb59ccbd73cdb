"""The sets for fitting and exams: formula pictures and scenes with facts, captioned pictures with captions.

A sample with parameters is a formula picture, or a scene, even if it has captions. A sample with captions
alone is a captioned picture. Pictures of one concept, such as the skin tones of an emoji, share the `concept`
in their JSON. Without it the first caption is the concept.

Axes: N pictures, B batch, S pixels a side.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

from caption import worker
from caption.nano import network
from caption.sentences import attributes
from caption.sentences.grammar import Facts
from caption.sentences.scene_facts import SceneFact, named, scene_facts
from synth.errors import UserError
from synth.sets.ledger import MANIFEST
from synth.sets.shards import Sample, ShardSet

_DECODED = 256  # pictures that are resized together
_NOTHING = np.empty((0, network.SIZE, network.SIZE, 3), np.uint8)

Json = dict[str, Any]


class Formulas(NamedTuple):
    """Pictures with facts that follow from their parameters."""

    pixels: np.ndarray  # uint8 (N, 64, 64, 3)
    facts: list[Facts]
    classes: list[str]

    def some(self, rows: list[int]) -> "Formulas":
        """Returns the pictures of these rows."""
        return Formulas(self.pixels[rows], [self.facts[i] for i in rows], [self.classes[i] for i in rows])


class Captioned(NamedTuple):
    """Pictures with captions by people."""

    pixels: np.ndarray  # uint8 (N, 64, 64, 3)
    captions: list[list[str]]  # the first is the name
    concepts: list[str]
    nouns: list[str]  # "emoji" or "picture"

    def some(self, rows: list[int]) -> "Captioned":
        """Returns the pictures of these rows."""
        texts = ([values[i] for i in rows] for values in (self.captions, self.concepts, self.nouns))
        return Captioned(self.pixels[rows], *texts)  # type: ignore[arg-type]

    def by_concept(self) -> list[list[int]]:
        """Returns the rows of every concept, in the order of the concepts' first rows."""
        rows: dict[str, list[int]] = {}
        for row, concept in enumerate(self.concepts):
            rows.setdefault(concept, []).append(row)
        return list(rows.values())


class Scenes(NamedTuple):
    """Pictures of several objects, with facts that follow from their parameters."""

    pixels: np.ndarray  # uint8 (N, 64, 64, 3)
    facts: list[list[SceneFact]]
    mains: list[tuple[str, str] | None]  # kind and colour of the main object, if it is named
    sets: list[str]  # data set and size, such as "scenes, 64 px"
    seeds: list[int]

    def some(self, rows: list[int]) -> "Scenes":
        """Returns the pictures of these rows."""
        texts = ([values[i] for i in rows] for values in self[1:])
        return Scenes(self.pixels[rows], *texts)  # type: ignore[arg-type]


class SetOrigin(NamedTuple):
    """A captioned set, as its manifest describes it."""

    dataset: str  # with its size
    title: str
    licence: str
    pictures: int


@dataclass(frozen=True)
class Sets:
    """The pictures of all sets, by kind."""

    formulas: Formulas
    captioned: Captioned
    scenes: Scenes
    origins: list[SetOrigin]  # of the captioned

    def __len__(self) -> int:
        return len(self.formulas.facts) + len(self.captioned.concepts) + len(self.scenes.facts)


def read(urls: Sequence[str]) -> Sets:
    """Returns the resized pictures of finished sets, or of the sets in local folders, with facts or captions.

    Raises UserError if a sample has neither parameters nor captions."""
    formulas, captioned = Formulas(_NOTHING, [], []), Captioned(_NOTHING, [], [], [])
    sets = Sets(formulas, captioned, Scenes(_NOTHING, [], [], [], []), [])
    kinds = (sets.formulas, sets.captioned, sets.scenes)
    parts: list[list[np.ndarray]] = [[kind.pixels] for kind in kinds]

    for url in (set_url for place in urls for set_url in _sets(place)):
        # Pictures, facts and captions of one set.
        shards, before = ShardSet(url), len(sets.captioned.concepts)
        for batch in _batches(shards):
            pixels, numbers = resized(worker.stacked(batch)), [_kind(sample) for sample in batch]
            for number, part in enumerate(parts):
                part.append(pixels[[number == other for other in numbers]])
            for sample, number in zip(batch, numbers, strict=True):
                _add(sample, url, kinds[number])

        # Its origin.
        if pictures := len(sets.captioned.concepts) - before:
            sets.origins.append(_origin(shards.manifest, pictures))

    # Pixels of all sets.
    first, second, third = (np.concatenate(part) for part in parts)
    return Sets(
        sets.formulas._replace(pixels=first),
        sets.captioned._replace(pixels=second),
        sets.scenes._replace(pixels=third),
        sets.origins,
    )


def held_out(exam: Sets, fitted: Sets) -> Sets:
    """Returns the pictures of an exam in classes and concepts outside the fitted sets.

    A scene's class is only a kind and a colour, so scenes of other seeds are new.

    Raises UserError if one of its kinds has none."""
    # New classes and concepts.
    classes, concepts = set(fitted.formulas.classes), set(fitted.captioned.concepts)
    drawn = [i for i, name in enumerate(exam.formulas.classes) if name not in classes]
    named = [i for i, name in enumerate(exam.captioned.concepts) if name not in concepts]
    seeds = set(fitted.scenes.seeds)
    fresh = [i for i, seed in enumerate(exam.scenes.seeds) if seed not in seeds]

    # Each kind of the exam has some.
    if len(drawn) < bool(exam.formulas.classes):
        raise UserError("the exam has no class outside the fitted sets; draw its sets with another seed")
    if len(fresh) < bool(exam.scenes.seeds):
        raise UserError("the scenes of the exam are those of the fitted sets; draw them with another seed")
    if len(named) < bool(exam.captioned.concepts):
        raise UserError(
            "the exam has no concept outside the fitted sets; fit to the train split of a set,"
            " and give its test split as --exam"
        )
    formulas, captioned = exam.formulas.some(drawn), exam.captioned.some(named)
    return Sets(formulas, captioned, exam.scenes.some(fresh), exam.origins)


def resized(pixels: np.ndarray) -> np.ndarray:
    """Returns pictures at nano's size, antialiased bicubic: uint8 (B, S, S, 3) -> uint8 (B, 64, 64, 3)."""
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    if batch.shape[-1] != network.SIZE:
        batch = F.interpolate(batch, size=(network.SIZE, network.SIZE), mode="bicubic", antialias=True)
    return batch.permute(0, 2, 3, 1).contiguous().numpy()


def _sets(place: str) -> list[str]:
    """Returns the set itself, or the sets in a folder without a manifest."""
    if (Path(place) / MANIFEST).is_file():
        return [place]
    return sorted(str(path.parent) for path in Path(place).glob(f"*/{MANIFEST}")) or [place]


def _batches(shards: ShardSet) -> Iterator[list[Sample]]:
    """Yields the samples of a set in batches, shard by shard."""
    for shard in shards.shards:
        samples = shards.read(shard)
        while batch := list(itertools.islice(samples, _DECODED)):
            yield batch


def _origin(manifest: Json, pictures: int) -> SetOrigin:
    identity = manifest["identity"]
    size = f", {identity['size']} px" if "size" in identity else ""
    title, licence = manifest.get("title", ""), manifest.get("licence", "unknown")
    return SetOrigin(f"{identity['dataset']}{size}", title, licence, pictures)


def _class(sample: Json) -> str:
    """Returns the name of the class of a sample, from its JSON.

    Classes of shaders are the same under every seed."""
    params = sample["params"]
    return f"{sample['family']} {params.get('structure', sample['seed'])} {sample['class']}"


def _kind(sample: Sample) -> int:
    """Returns 0 for a formula picture, 1 for a captioned picture, 2 for a scene."""
    if not worker.is_formula(sample):
        return 1
    return 2 if sample.metadata["family"] == "scenes" else 0


def _add(sample: Sample, url: str, target: Formulas | Captioned | Scenes) -> None:
    """Adds the facts or captions of a sample. Raises UserError if it has neither."""
    if isinstance(target, Scenes):
        metadata = sample.metadata
        params = metadata["params"]
        main = params["objects"][params["main"]]
        target.facts.append(scene_facts(metadata))
        target.mains.append((main["kind"], main["colour"]) if params["main"] in named(metadata) else None)
        target.sets.append(f"{metadata['dataset']}, {metadata['size']} px")
        target.seeds.append(metadata["seed"])
        return
    if isinstance(target, Formulas):
        target.facts.append(attributes.facts(sample.metadata))
        target.classes.append(_class(sample.metadata))
        return

    # Captioned picture.
    captions = worker.captions_of(sample)
    if not captions:
        raise UserError(
            f"sample {sample.key} of {url} has neither parameters nor captions;"
            " fit-encoder reads sets with either"
        )
    target.captions.append(captions)
    target.concepts.append(str(sample.metadata.get("concept") or captions[0]))
    target.nouns.append("emoji" if "emoji" in sample.metadata else "picture")
