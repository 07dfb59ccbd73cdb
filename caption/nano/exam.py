"""The exam of nano, on pictures of classes outside its training sets.

    retrieval           the picture's long sentence among 99 sentences of other pictures, all false of it
    retrieval, FAMILY   the same, with all 100 sentences from pictures of one family
    colour, background  zero-shot: the nearest of the grammar's eleven colour words, if the facts have one
    family              zero-shot: the nearest family name

An answer is right if the text of the picture's own fact has the greatest cosine.
"""

from typing import NamedTuple

import numpy as np

from caption.encoders import Encoder
from caption.nano import prompts
from caption.sentences import attributes
from caption.sentences.grammar import Facts

CANDIDATES = 100

_BATCH = 256
_WORDS = {"colour": attributes.COLOURS, "background": attributes.BACKGROUNDS, "family": attributes.FAMILIES}


class ExamScore(NamedTuple):
    """The result of one part of an exam."""

    right: float  # share of the pictures
    chance: float  # of a guess
    pictures: int
    even: float | None = None  # mean over words of the share by word
    commonest: float | None = None  # share of a constant answer: the commonest word


def examine(
    encoder: Encoder, pixels: np.ndarray, facts: list[Facts], *, seed: int = 0
) -> dict[str, ExamScore]:
    """Returns the figures of an encoder by name, from pictures uint8 (N, S, S, 3) and their facts.

    The seed chooses the candidates."""
    # Zero-shot.
    images = embedded(encoder, pixels)
    figures = {f"zero-shot {fact}": _zero_shot(images, facts, fact, encoder) for fact in _WORDS}

    # Retrieval among all pictures, and among those of each family.
    likeness = images @ encoder.texts([attributes.state(picture) for picture in facts]).T
    codes, stream = prompts.codes(facts), np.random.default_rng(seed)
    figures["retrieval"] = _retrieval(likeness, codes, np.arange(len(facts)), stream)
    for family in attributes.FAMILIES:
        rows = np.array([i for i, picture in enumerate(facts) if picture["family"] == family], np.int64)
        figures[f"retrieval, {family}"] = _retrieval(likeness, codes, rows, stream)
    return {name: figure for name, figure in figures.items() if figure.pictures}


def embedded(encoder: Encoder, pixels: np.ndarray) -> np.ndarray:
    """Returns the embeddings of any number of pictures uint8 (N, S, S, 3): float32 (N, D)."""
    return np.concatenate([encoder.images(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)])


def _zero_shot(images: np.ndarray, facts: list[Facts], fact: str, encoder: Encoder) -> ExamScore:
    """Returns the share of pictures with a fact that are nearest to the phrase of its value."""
    words = list(_WORDS[fact])
    rows = [i for i, picture in enumerate(facts) if picture.get(fact) in words]
    if not rows:
        return ExamScore(0.0, 0.0, 0)

    # Answers.
    texts = [prompts.phrase(fact, word) for word in words]
    answers = (images[rows] @ encoder.texts(texts).T).argmax(axis=1)
    truth = np.array([words.index(str(facts[i][fact])) for i in rows])

    # Shares.
    right, counts = answers == truth, np.bincount(truth)
    even = float(np.mean([right[truth == word].mean() for word in np.unique(truth)]))
    return ExamScore(float(right.mean()), 1 / len(words), len(rows), even, float(counts.max() / len(truth)))


def _retrieval(
    likeness: np.ndarray, codes: np.ndarray, pool: np.ndarray, stream: np.random.Generator
) -> ExamScore:
    """Returns the retrieval of the pictures with 99 false, mutually different sentences in the pool."""
    _, kinds = np.unique(codes, axis=0, return_inverse=True)
    right = []
    for i in pool:
        # Pictures with a sentence that is false of this one.
        others = stream.permutation(pool)
        stated = codes[others]
        false = others[~((stated == 0) | (stated == codes[i])).all(axis=1)]

        # One picture for each set of facts.
        _, first = np.unique(kinds.reshape(-1)[false], return_index=True)
        chosen = false[np.sort(first)][: CANDIDATES - 1]
        if len(chosen) == CANDIDATES - 1:
            right.append(likeness[i, i] > likeness[i, chosen].max())
    return ExamScore(float(np.mean(right)) if right else 0.0, 1 / CANDIDATES, len(right))
