"""The exam of scenes, by set.

    SET: backdrop           zero-shot among the colours of backdrops: "a red background"
    SET: colour             zero-shot of the main object's colour, given its kind: "a red star", "a blue star"
    SET: kind               zero-shot of the main object's kind, given its colour: "a red star", "a red disc"
    SET: other pictures     a sentence of two to eight facts, among nine of other pictures, false of this one
    SET: one fact changed   the same sentence, among nine that differ in one fact
    new pairs: colour, kind the same as above, of all main objects with a kind and a colour that never came
                            together in the fitted sets

An answer is right if it is true of the picture, and its text has the greatest cosine.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from caption.encoders import Encoder
from caption.nano import scene_texts
from caption.nano.exam import ExamScore, embedded
from caption.nano.fitting_sets import Scenes
from caption.nano.scene_texts import Outline, Pair, Vocabulary
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import canonical, choose, plain
from caption.sentences.scene_writing import write
from synth.seeds import Stream

CANDIDATES = 10

_FACTS = (2, 8)  # of a sentence
_TRIES = 100  # of a picture, to find nine false sentences


def examine(
    encoder: Encoder, pictures: Scenes, fitted: frozenset[Pair], *, seed: int = 0
) -> dict[str, ExamScore]:
    """Returns the figures of an encoder by name.

    `fitted` has the combinations of kind and colour of the fitted sets. The seed chooses the sentences."""
    figures: dict[str, ExamScore] = {}
    new: dict[str, list[tuple[bool, float]]] = {"colour": [], "kind": []}  # right, and a guess
    for name in sorted(set(pictures.sets)):
        # Pictures of the set.
        part = pictures.some([row for row, other in enumerate(pictures.sets) if other == name])
        images, known = embedded(encoder, part.pixels), scene_texts.vocabulary(part.facts)
        scenes = [scene_texts.outline(facts) for facts in part.facts]

        # Zero-shot.
        words = known.values["backdrop"]
        named = _backdrops(encoder, images, scenes, words)
        figures[f"{name}: backdrop"] = _score(named, 1 / len(words))
        for fact, others in new.items():
            answers = dict(_mains(encoder, images, part, scenes, known, fact))
            guess = 1 / len(known.values[fact])
            figures[f"{name}: {fact}"] = _score([*answers.values()], guess)
            others += [(right, guess) for row, right in answers.items() if part.mains[row] not in fitted]

        # Sentences.
        for exam, rights in _sentences(encoder, images, part, scenes, known, seed).items():
            figures[f"{name}: {exam}"] = _score(rights, 1 / CANDIDATES)

    # Combinations that were not fitted to.
    for fact, others in new.items():
        guess = float(np.mean([guess for _, guess in others])) if others else 0.0
        figures[f"new pairs: {fact}"] = _score([right for right, _ in others], guess)
    return {name: figure for name, figure in figures.items() if figure.pictures}


def _score(right: list[bool], guess: float) -> ExamScore:
    return ExamScore(float(np.mean(right)) if right else 0.0, guess, len(right))


def _backdrops(encoder: Encoder, images: np.ndarray, scenes: list[Outline], words: list[str]) -> list[bool]:
    texts = [plain([SceneFact("backdrop", -1, word)]) for word in words]
    answers = (images @ encoder.texts(texts).T).argmax(axis=1)
    return [("backdrop", words[a]) in scene.scene for a, scene in zip(answers, scenes, strict=True)]


def _mains(
    encoder: Encoder,
    images: np.ndarray,
    pictures: Scenes,
    scenes: list[Outline],
    known: Vocabulary,
    fact: str,
) -> Iterator[tuple[int, bool]]:
    """Yields the row of each picture that shows its main object, and True if the answer for a fact of that
    object is right."""
    # All combinations.
    kinds, colours = known.values["kind"], known.values["colour"]
    pairs = [(kind, colour) for kind in kinds for colour in colours]
    texts = [plain([SceneFact("kind", 0, kind), SceneFact("colour", 0, colour)]) for kind, colour in pairs]
    likeness = images @ encoder.texts(texts).T  # (N, pairs)

    # Answers among those that share the other fact.
    for row, scene in enumerate(scenes):
        if main := pictures.mains[row]:
            shared = 0 if fact == "colour" else 1
            among = [i for i, pair in enumerate(pairs) if pair[shared] == main[shared]]
            answer = among[int(likeness[row, among].argmax())]
            yield row, pairs[answer] in scene_texts.pairs(scene)


def _sentences(
    encoder: Encoder,
    images: np.ndarray,
    pictures: Scenes,
    scenes: list[Outline],
    known: Vocabulary,
    seed: int,
) -> dict[str, list[bool]]:
    """Returns the right answers among sentences of other pictures, and among those with one fact changed."""
    # A sentence of each picture.
    stream = np.random.default_rng(seed)
    numbers = Stream(int(stream.integers(1 << 62)))
    stated = []
    for facts in pictures.facts:
        most = len(canonical(facts))
        count = int(stream.integers(min(_FACTS[0], most), min(_FACTS[1], most) + 1))
        stated.append(choose(facts, numbers, count))
    outlines = [scene_texts.outline(facts) for facts in stated]
    written = [write(facts, numbers).text for facts in stated]
    vectors = encoder.texts(written)

    # Nine sentences of other pictures.
    right: dict[str, list[bool]] = {"other pictures": [], "one fact changed": []}
    likeness = images @ vectors.T
    for row, scene in enumerate(scenes):
        order = stream.permutation(len(scenes)).tolist()
        false_ones = (i for i in order if not scene_texts.holds(outlines[i], scene))
        chosen = list(itertools.islice(false_ones, CANDIDATES - 1))
        if len(chosen) == CANDIDATES - 1:
            right["other pictures"].append(bool(likeness[row, row] > likeness[row, chosen].max()))

    # Nine sentences with one fact changed.
    rows, texts = [], list[str]()
    for row, scene in enumerate(scenes):
        false: dict[Outline, str] = {}
        for _ in range(_TRIES):
            if other := scene_texts.changed(stated[row], scene, known, stream):
                false.setdefault(scene_texts.outline(other), write(other, numbers).text)
            if len(false) == CANDIDATES - 1:
                rows.append(row)
                texts += false.values()
                break
    if rows:
        changed = encoder.texts(texts).reshape(len(rows), CANDIDATES - 1, -1)
        best = np.einsum("nd,ncd->nc", images[rows], changed).max(axis=1)
        right["one fact changed"] = (likeness[rows, rows] > best).tolist()
    return right
