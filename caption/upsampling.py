"""DOOR. Up-sampling of prompts: a short prompt becomes a detailed one that keeps every stated fact (Betker et
al., Improving Image Generation with Better Captions, 2023, section 4).

    from_prior(prompt, names, seed)     fills unstated facts from the law of the training pictures, offline
    by_endpoint(prompt, endpoint)       asks a chat model, with the instructions of the paper's appendix C

A fact is never changed: `from_prior` adds facts to those that it has read, and an answer of a chat model that
lacks a stated fact is refused.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from caption.endpoint import Endpoint, message, without_thoughts
from caption.sentences import attributes, scene_phrases
from caption.sentences.phrases import number as number_word
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import parse, plain
from synth import datasets, seeds, settings
from synth.datasets import DataSet
from synth.errors import UserError
from synth.families import draw
from synth.families.scene_world import OPPOSITES, PALETTE, SIZES, larger
from synth.families.scenes import Config as World
from synth.seeds import Stream

LEAST, MOST = 15, 80  # words of a chat model's answer

_TRIES = 3  # answers of a chat model
_DRAWN = 256  # pictures of the prior that are compared with a prompt
_SIZE = 32  # pixels of these pictures
_PROMPT = Path(__file__).with_suffix(".json")  # instructions and examples, quoted from the paper
# Relations of size: True if the first object is the smaller one.
_SMALLER = {"inside": True, "smaller than": True, "larger than": False}
# Words of a prompt that state nothing.
_STOP = frozenset(
    [*("a", "an", "the", "of", "on", "in", "at", "to", "and", "with", "is", "are", "over"), "there"]
)

Json = dict[str, Any]
_NONE: dict[str, Json] = {}


def from_prior(prompt: str, names: Sequence[str], seed: int, configs: Mapping[str, Json] = _NONE) -> str:
    """Returns the prompt with its unstated facts filled in, as in the pictures of these data sets.

    `configs` has settings by data set, as a run records them; others have their defaults. Raises UserError if
    the prompt is no sentence of a grammar, or recorded settings are of another version."""
    stream = seeds.stream(seed, f"upsampling of {prompt}")

    # A capital letter and a full stop state nothing.
    sentence = prompt[:1].lower() + prompt[1:].removesuffix(".")

    # Scenes.
    worlds = [datasets.get(name) for name in names if name in datasets.DATASETS]
    world = next((d for d in worlds if d.family == "scenes"), datasets.get("scenes"))
    try:
        facts = parse(sentence)
    except UserError as error:
        problem = error
    else:
        return plain(_completed(facts, cast(World, _config(world, configs)), stream))

    # Sentences of the other families.
    try:
        stated = attributes.parse(sentence)
    except UserError:
        advice = "or give --url for a chat model"
        raise UserError(f"cannot fill in {prompt!r} offline: {problem}, {advice}") from None
    for dataset in worlds:
        first = stream.integer(0, 1 << 20)
        # Programs of other people and a GL context may be missing, and a prompt is no reason to need them.
        if dataset.family in ("scenes", "shaders", "imported_shaders"):
            continue
        config = _config(dataset, configs)
        for _, sample in draw(dataset, config, seed, range(first, first + _DRAWN), size=_SIZE):
            facts_of = attributes.facts(sample)
            if all(facts_of.get(name, value) == value for name, value in stated.items()):
                return attributes.state({**facts_of, **stated}, "long")
    return prompt


def _config(dataset: DataSet, configs: Mapping[str, Json]) -> Any:
    """Returns the recorded config of a data set, else its default.

    Raises UserError if the recorded one is of another version."""
    if dataset.name not in configs:
        return dataset.module.Config(**dataset.config)
    try:
        return settings.from_json(dataset.module.Config, configs[dataset.name])
    except (TypeError, ValueError, AttributeError, KeyError):
        problem = f"this checkout does not know the run's settings of {dataset.name}"
        raise UserError(f"{problem}; use the version of exnihilo that trained it, or give --url") from None


def _completed(facts: Sequence[SceneFact], world: World, stream: Stream) -> list[SceneFact]:
    """Returns the facts with a kind, a colour and a size of every object, a filling and a backdrop."""
    known = {(fact.subject, fact.type): fact.value for fact in facts}
    named = {n for fact in facts for n in (fact.subject, fact.object) if n >= 0}
    count = next((int(fact.value) for fact in facts if fact.type == "count"), 1)
    numbers = range(max(count, len(named)))
    added: list[SceneFact] = []

    def add(number: int, kind: str, values: Sequence[str]) -> None:
        if (number, kind) not in known and values:
            known[number, kind] = values[stream.integer(0, len(values) - 1)]
            added.append(SceneFact(kind, number, known[number, kind]))

    # Colours differ from each other and from the backdrop, unless the prompt says otherwise.
    def free() -> list[str]:
        used = {value for (_, kind), value in known.items() if kind in ("colour", "second", "backdrop")}
        return [colour for colour in PALETTE if colour in world.colours and colour not in used]

    pairs = [{f.subject, f.object} for f in facts if f.relation == "same colour as"]
    sized = _sized(facts, world)
    for number in numbers:
        add(number, "kind", world.kinds)
        twins = [known[n, "colour"] for n in sorted(_alike(number, pairs)) if (n, "colour") in known]
        add(number, "colour", [str(twins[0])] if twins else free())
        add(number, "size", sized.get(number, world.sizes))
        add(number, "filling", [f for f in world.fillings if f not in ("flat", "stripes", "dots")])
    add(-1, "backdrop", free())
    return [*facts, *added]


def _alike(number: int, pairs: Sequence[set[int]]) -> set[int]:
    """Returns the objects that have the colour of one, itself among them. `pairs` have the same colour."""
    alike = {number}
    while more := {n for pair in pairs if pair & alike for n in pair} - alike:
        alike |= more
    return alike


def _sized(facts: Sequence[SceneFact], world: World) -> dict[int, Sequence[str]]:
    """Returns the size of each object in relations of size, in a list that is empty if none agrees.

    One between two others is neither end."""
    # Pairs of a smaller and a larger object, also by way of others.
    pairs = {
        (fact.subject, fact.object) if _SMALLER[fact.relation] else (fact.object, fact.subject)
        for fact in facts
        if fact.relation in _SMALLER
    }
    while more := {(a, d) for a, b in pairs for c, d in pairs if b == c} - pairs:
        pairs |= more

    # The ends get their sizes first.
    known = {fact.subject: str(fact.value) for fact in facts if fact.type == "size"}
    order = [size for size in SIZES if size in world.sizes]
    sized: dict[int, Sequence[str]] = {}
    smaller, greater = ({pair[end] for pair in pairs} for end in (0, 1))
    for number in [*sorted(smaller ^ greater), *sorted(smaller & greater)]:
        usual = order[1:-1] if number in smaller & greater else order[:1] if number in smaller else order[-1:]
        sized[number] = [
            size
            for size in usual
            if all(larger(known[b], size) for a, b in pairs if a == number and b in known)
            and all(larger(size, known[a]) for a, b in pairs if b == number and a in known)
        ]
        if sized[number]:
            known.setdefault(number, sized[number][0])
    return sized


def by_endpoint(prompt: str, endpoint: Endpoint) -> str:
    """Returns the description of a chat model for a prompt.

    Raises UserError if its answers have too few or too many words, or drop a stated fact."""
    quoted = json.loads(_PROMPT.read_text(encoding="utf-8"))
    messages = [message("system", quoted["system"])]
    for user, assistant in quoted["turns"]:
        messages += [message("user", quoted["user"].format(user)), message("assistant", assistant)]
    messages.append(message("user", quoted["user"].format(prompt)))

    # A model that samples may do better at the next try.
    fault = ""
    for attempt in range(_TRIES):
        heat = endpoint if not attempt else replace(endpoint, temperature=0.5 * attempt)
        answer = without_thoughts(heat.answer(messages)).strip().strip('[]"').strip()
        words, lost = len(answer.split()), dropped(prompt, answer)
        if LEAST <= words <= MOST and not lost:
            return answer
        fault = (
            f"drops {', '.join(lost)}" if lost else f"has {words} words, and {LEAST} to {MOST} are allowed"
        )
    raise UserError(f"the answer of {endpoint.model} to {prompt!r} {fault}, after {_TRIES} tries: {answer!r}")


def dropped(prompt: str, answer: str) -> list[str]:
    """Returns the stated facts, or the words, of a prompt that an answer lacks."""
    text = f" {' '.join(re.findall(r'[a-z0-9-]+', answer.lower()))} "
    try:
        facts = parse(prompt)
    except UserError:
        words = [word for word in re.findall(r"[a-z0-9]+", prompt.lower()) if word not in _STOP]
        return [word for word in words if f" {word}" not in text]
    return [f"{fact.type} {fact.value}" for fact in facts if not _states(text, fact, facts)]


def _states(text: str, fact: SceneFact, facts: Sequence[SceneFact]) -> bool:
    """Returns True if a text states a fact, or the opposite relation from the other object."""
    if any(f" {phrase}" in text for phrase in _phrases(fact)):
        return True
    opposite = "around" if fact.relation == "inside" else OPPOSITES.get(fact.relation, "")

    # Behind the words of the opposite, the first object is named first.
    names = [
        {phrase for f in facts if f.subject == n and f.type in ("kind", "colour") for phrase in _phrases(f)}
        for n in (fact.subject, fact.object)
    ]
    first, second = names[0] - names[1], names[1] - names[0]
    phrases = scene_phrases.RELATIONS.get(opposite, ())
    rests = (rest for phrase in phrases for rest in text.split(f" {phrase}")[1:])
    return any(_place(rest, first) < _place(rest, second) for rest in rests)


def _place(text: str, words: Iterable[str]) -> int:
    """Returns the place of the first of some words in a text, or its length if it has none of them."""
    return min((place for word in words if (place := text.find(f" {word}")) >= 0), default=len(text))


def _phrases(fact: SceneFact) -> list[str]:
    """Returns the words that state a fact in any text."""
    if fact.type == "kind":
        return list(scene_phrases.NOUNS[str(fact.value)])
    if fact.type == "relation":
        shared = scene_phrases.SAME_COLOUR if fact.relation == "same colour as" else ()
        return [*scene_phrases.RELATIONS[fact.relation], *shared]
    if fact.type == "backdrop":
        return ["grey", "gray"] if fact.value == "grey" else [str(fact.value)]
    if fact.type == "texture":
        return list(scene_phrases.TEXTURES[str(fact.value)])
    if fact.type == "count":
        return [str(fact.value), number_word(int(fact.value))]
    phrases = scene_phrases.PHRASES.get(((fact.type, fact.value),), ())
    return [phrase.words for phrase in phrases] or [str(fact.value).lower()]
