"""The texts of scenes during fitting and exams, and their truth for other scenes.

A text states some facts of one scene (caption/sentences/scene_sentences.py). It is true of another scene if
its objects can be objects of that scene, each another one, with all stated facts. A false text states a fact
that was changed. Combinations of kind and colour that a vocabulary lacks are in no text.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import canonical
from synth.families.scene_world import OPPOSITES

_VALUES = ("backdrop", "kind", "colour", "size", "place")  # types with a value to change
_CHANGES = 20  # tries to find a change

Fact = tuple[str, str | int]  # type and value
Pair = tuple[str, str]  # kind and colour of an object


class Outline(NamedTuple):
    """The facts of a scene or text, without the numbers of the objects."""

    scene: frozenset[Fact]
    objects: tuple[frozenset[Fact], ...]
    relations: frozenset[tuple[int, str, int]]  # both a relation and its opposite
    words: frozenset[Fact]  # all types and values: a quick test


class Vocabulary(NamedTuple):
    """The values of the facts of many scenes."""

    values: dict[str, list[str]]  # by type
    pairs: frozenset[Pair]


def vocabulary(scenes: Iterable[Sequence[SceneFact]]) -> Vocabulary:
    """Returns the values of all facts, and the combinations of kind and colour, that scenes have."""
    values: dict[str, set[str]] = {name: set() for name in _VALUES}
    combinations: set[Pair] = set()
    for facts in scenes:
        for fact in facts:
            if fact.type in values:
                values[fact.type].add(str(fact.value))
        combinations |= pairs(outline(facts))
    return Vocabulary({name: sorted(words) for name, words in values.items()}, frozenset(combinations))


def outline(facts: Iterable[SceneFact]) -> Outline:
    """Returns the outline of the facts of a scene or text."""
    scene: set[Fact] = set()
    objects: dict[int, set[Fact]] = {}
    relations = []
    for fact in facts:
        if fact.type == "relation":
            relations.append(fact)
        else:
            place = scene if fact.subject < 0 else objects.setdefault(fact.subject, set())
            place.add((fact.type, fact.value))
    for fact in relations:
        objects.setdefault(fact.subject, set())
        objects.setdefault(fact.object, set())

    # Objects by their order alone.
    order = {number: i for i, number in enumerate(objects)}
    related = {(order[f.subject], f.relation, order[f.object]) for f in relations}
    related |= {(b, OPPOSITES[name], a) for a, name, b in related if name in OPPOSITES}
    related |= {(b, name, a) for a, name, b in related if name == "same colour as"}
    words = scene.union(*objects.values(), (("relation", name) for _, name, _ in related))
    things = tuple(frozenset(values) for values in objects.values())
    return Outline(frozenset(scene), things, frozenset(related), frozenset(words))


def pairs(scene: Outline) -> set[Pair]:
    """Returns the combinations of kind and colour of a scene's objects, if both are known."""
    things = (dict(values) for values in scene.objects)
    return {(str(t["kind"]), str(t["colour"])) for t in things if "kind" in t and "colour" in t}


def holds(text: Outline, scene: Outline) -> bool:
    """Returns True if a text is true of a scene."""
    if not (text.words <= scene.words and text.scene <= scene.scene):
        return False
    fitting = [
        [number for number, values in enumerate(scene.objects) if stated <= values] for stated in text.objects
    ]
    return all(fitting) and _match(text, scene, fitting, [])


def truth(scenes: Sequence[Outline], texts: Sequence[Outline]) -> np.ndarray:
    """Returns the truth of every text for every scene: bool (scenes, texts)."""
    return np.array([[holds(text, scene) for text in texts] for scene in scenes])


def changed(
    stated: Sequence[SceneFact], scene: Outline, known: Vocabulary, stream: np.random.Generator
) -> list[SceneFact] | None:
    """Returns stated facts with one of them changed, so that they are false of their scene.

    Returns None if no change was found."""
    facts = canonical(stated)
    places = [i for i, f in enumerate(facts) if f.type in _VALUES or f.relation in OPPOSITES]
    if not places:
        return None
    for _ in range(_CHANGES):
        # Another value, or the opposite relation.
        place = places[int(stream.integers(len(places)))]
        fact = facts[place]
        if fact.type == "relation":
            value = OPPOSITES[fact.relation]
            other = fact._replace(value=value, relation=value)
        else:
            words = known.values[fact.type]
            other = fact._replace(value=words[int(stream.integers(len(words)))])

        # It is false, and its combinations are known.
        result = [*facts[:place], other, *facts[place + 1 :]]
        text = outline(result)
        if pairs(text) <= known.pairs and not holds(text, scene):
            return result
    return None


def _match(text: Outline, scene: Outline, fitting: list[list[int]], chosen: list[int]) -> bool:
    """Returns True if the remaining objects of a text can be objects of a scene. `chosen` has the first."""
    if len(chosen) == len(fitting):
        return all((chosen[a], name, chosen[b]) in scene.relations for a, name, b in text.relations)
    return any(
        number not in chosen and _match(text, scene, fitting, [*chosen, number])
        for number in fitting[len(chosen)]
    )
