"""The exam of a captioner, on scenes that it has not seen: the truth of each stated fact is known.

A caption's objects are matched with those of the picture, so that most kinds and colours agree, and then most
other facts. A stated fact is true if it is among the picture's facts. These leave out everything that is a
matter of opinion (scene_facts). All others count as hallucinated.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from caption.scene_captioner.vocabulary import split
from caption.sentences import scene_sentences
from caption.sentences.scene_facts import TYPES, SceneFact, scene_facts
from synth import datasets
from synth.errors import UserError
from synth.families import draw

SETS = ("scenes", "scenes_flat")
SIZE = 64  # pixels a side

_STRANGERS = 1000  # numbers of objects that the picture lacks
_NAMED = 100  # weight of a kind or colour

Json = dict[str, Any]


@dataclass(frozen=True)
class CaptionScore:
    """The figures of one tuning on one set. `true`, `main` and `stated` are of the captions that parse."""

    pictures: int
    parsed: float  # share of the captions that can be read
    true: float  # share of the stated facts
    main: float  # share of the captions that give kind and colour of the main object
    stated: float  # facts of a caption
    recall: float  # share of the pictures' facts that are stated, and true; unread captions state none
    words: float  # of a caption
    vocabulary: int  # different words of all captions
    distinct: int  # different captions
    types: dict[str, tuple[float, int]]  # share that is true, and number stated, by type of fact


def scenes(name: str, seed: int, indices: Sequence[int] | range) -> Iterator[tuple[np.ndarray, Json]]:
    """Yields pictures and samples of a set, without held-out combinations."""
    dataset = datasets.get(name)
    config = dataset.module.Config(**{**dataset.config, "split": "train"})
    return draw(dataset, config, seed, indices, size=SIZE)


def score(texts: Sequence[str], samples: Sequence[Json]) -> CaptionScore:
    """Returns the figures of captions of these samples."""
    stated, true = Counter[str](), Counter[str]()
    parsed = main = known = 0
    for text, sample in zip(texts, samples, strict=True):
        facts = scene_sentences.canonical(scene_facts(sample))
        known += len(facts)
        try:
            claims = scene_sentences.parse(text)
        except UserError:
            continue
        parsed += 1
        claims = matched(claims, facts)
        truth = set(facts)
        for fact in claims:
            stated[fact.type] += 1
            true[fact.type] += fact in truth
        subject = sample["params"]["main"]
        named = {fact.type for fact in truth.intersection(claims) if fact.subject == subject}
        main += {"kind", "colour"} <= named

    words = [split(text) for text in texts]
    return CaptionScore(
        pictures=len(texts),
        parsed=_share(parsed, len(texts)),
        true=_share(true.total(), stated.total()),
        main=_share(main, parsed),
        stated=round(stated.total() / max(1, parsed), 2),
        recall=_share(true.total(), known),
        words=round(sum(map(len, words)) / max(1, len(texts)), 2),
        vocabulary=len({word for row in words for word in row}),
        distinct=len(set(texts)),
        types={
            type_: (_share(true[type_], stated[type_]), stated[type_]) for type_ in TYPES if stated[type_]
        },
    )


def matched(claims: Sequence[SceneFact], facts: Sequence[SceneFact]) -> list[SceneFact]:
    """Returns the claims about the picture's objects, in canonical order.

    Objects of the claims are matched with those of the facts. One that is left gets a number of its own."""
    # Objects on their own: kinds and colours first, then other facts.
    subjects = sorted({n for fact in claims for n in (fact.subject, fact.object) if n >= 0})
    objects = sorted({fact.subject for fact in facts if fact.subject >= 0})
    truth = set(facts)
    likeness = [[_likeness(claims, truth, subject, number) for number in objects] for subject in subjects]
    numbers = _best(likeness)
    chosen = [_STRANGERS + i if n is None else objects[n] for i, n in enumerate(numbers)]

    # Relations decide between objects that are alike.
    def mapped(order: Sequence[int]) -> list[SceneFact]:
        places = {-1: -1, **dict(zip(subjects, order, strict=True))}
        moved = [f._replace(subject=places[f.subject], object=places[f.object]) for f in claims]
        return scene_sentences.canonical(moved)

    def worth(order: Sequence[int]) -> int:
        return sum(_weight(fact) for fact in mapped(order) if fact in truth)

    best, improved = worth(chosen), True
    while improved:
        improved = False
        for other in _neighbours(chosen, objects):
            if (value := worth(other)) > best:
                chosen, best, improved = other, value, True
    return mapped(chosen)


def _neighbours(chosen: list[int], objects: Sequence[int]) -> Iterator[list[int]]:
    """Yields matches that differ in two objects, or in one that becomes a free object of the picture."""
    for first in range(len(chosen)):
        for second in range(first):
            other = chosen.copy()
            other[first], other[second] = chosen[second], chosen[first]
            yield other
        for number in objects:
            if number not in chosen:
                yield [*chosen[:first], number, *chosen[first + 1 :]]


def _weight(fact: SceneFact) -> int:
    return _NAMED if fact.type in ("kind", "colour") else 1


def _likeness(claims: Sequence[SceneFact], truth: set[SceneFact], subject: int, number: int) -> int:
    """Returns the weight of the claims on a subject that are true of an object."""
    moved = (fact._replace(subject=number) for fact in claims if fact.subject == subject)
    return sum(_weight(fact) for fact in moved if fact.type != "relation" and fact in truth)


def _best(likeness: list[list[int]]) -> list[int | None]:
    """Returns the column of each row with the greatest sum. No column is taken twice.

    A row gets no column if the rest fits better, or none is left."""
    rows, columns = len(likeness), len(likeness[0]) if likeness else 0

    @cache
    def rest(row: int, used: int) -> tuple[int, tuple[int | None, ...]]:
        if row == rows:
            return 0, ()
        best, order = rest(row + 1, used)
        best_order: tuple[int | None, ...] = (None, *order)
        for column in range(columns):
            if not used >> column & 1:
                value, order = rest(row + 1, used | 1 << column)
                if value + likeness[row][column] > best:
                    best, best_order = value + likeness[row][column], (column, *order)
        return best, best_order

    return list(rest(0, 0)[1])


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 0.0
