"""Sentences on scenes, of any length: they state exactly the chosen facts, and can be read back.

    draw(facts, stream, k)   a text that states k of the facts; `statement` also returns which
    short(facts), long(facts)   the main object; everything
    plain(facts)             the plainest text that states facts chosen by hand; prompts use it
    listing(facts, stream)   a plain text that names every object; a curriculum begins with these
    related(facts, stream)   the same, with a direction first whenever one is clear
    bare(sample)             the name of a sample's class, such as "a red star"
    parse(text)              the facts that a text states, objects numbered by first mention

Facts are those of scene_facts.py. A relation and its opposite count as one fact.
"""

from collections.abc import Sequence
from typing import Any

from caption.sentences import scene_phrases as words
from caption.sentences.phrases import article
from caption.sentences.scene_choice import Numbers, Plain, shuffled
from caption.sentences.scene_facts import SceneFact, scene_facts
from caption.sentences.scene_reading import canonical, parse
from caption.sentences.scene_writing import Statement, write
from synth import seeds
from synth.errors import UserError
from synth.families.scene_world import DIRECTIONS
from synth.seeds import Stream

__all__ = [
    "LAW",
    "Statement",
    "bare",
    "canonical",
    "choose",
    "draw",
    "listing",
    "long",
    "main_name",
    "pair",
    "parse",
    "plain",
    "related",
    "short",
    "statement",
]

LAW = 2  # increased when a scene gets other sentences

Json = dict[str, Any]

_WEIGHTS = {
    "kind": 6.0,
    "colour": 5.0,
    "backdrop": 4.0,
    "text": 5.0,
    "size": 2.0,
    "place": 2.0,
    "filling": 2.0,
}
_LISTED = 5, 7, 8  # tenths of the listings with sizes, with a direction, with the backdrop
_LEAST = 1.0  # weight of other facts
_RELATED = 4.0  # weight of all relations together, for each object


def draw(facts: Sequence[SceneFact], stream: Stream, k: int) -> str:
    """Returns a text that states k of these facts. Raises UserError unless there are k."""
    return statement(facts, stream, k).text


def statement(facts: Sequence[SceneFact], stream: Stream, k: int) -> Statement:
    """Returns a text that states k of these facts, with the facts that it states. Raises UserError unless
    there are k."""
    return write(choose(facts, stream, k), stream, facts)


def short(facts: Sequence[SceneFact], stream: Numbers | None = None) -> str:
    """Returns the short text: colour and kind of the main object, sometimes its size."""
    # The main object comes first. Without any, the backdrop is all there is.
    main = next((fact.subject for fact in facts if fact.subject >= 0), -1)
    numbers = stream or Plain()
    types = ("kind", "colour", "size") if numbers.integer(0, 2) == 2 else ("kind", "colour")
    chosen = [f for f in facts if f.subject == main and f.type in (*types, "backdrop")]
    return write(chosen, numbers, facts).text


def long(facts: Sequence[SceneFact], stream: Numbers | None = None) -> str:
    """Returns the long text: all facts."""
    return write(facts, stream or Plain(), facts).text


def plain(facts: Sequence[SceneFact]) -> str:
    """Returns the plainest text that states these facts, such as "a red star left of a blue disc on white".

    Raises UserError if there are none, or a value has no phrase."""
    if not facts:
        raise UserError("no facts to state; give one or more")
    return write(facts, Plain()).text


def listing(facts: Sequence[SceneFact], stream: Stream) -> str:
    """Returns a plain text that names every object by colour and kind, in any order.

    It states all sizes in half of the texts, the backdrop in four fifths, and in most texts the direction
    from the first object to the second, if it is clear. Raises UserError if there are no facts."""
    order = shuffled(stream, sorted({fact.subject for fact in facts} - {-1}))
    sizes, directed, behind = (stream.integer(0, 9) < tenths for tenths in _LISTED)
    pair = tuple(order[:2])
    directions = [f for f in facts if (f.subject, f.object) == pair and f.relation in DIRECTIONS]
    return _listed(facts, order, directions if directed else [], sizes=sizes, behind=behind)


def related(facts: Sequence[SceneFact], stream: Stream) -> str:
    """Returns a listing with the backdrop and without sizes. It begins with two objects of a clear direction
    and states it, if there are such.

    Directions that few texts state are not learned. Raises UserError if there are no facts."""
    order = shuffled(stream, sorted({fact.subject for fact in facts} - {-1}))
    directions = [fact for fact in facts if fact.relation in DIRECTIONS]
    if directions:
        directions = [directions[stream.integer(0, len(directions) - 1)]]
        first = [directions[0].subject, directions[0].object]
        order = [*first, *(number for number in order if number not in first)]
    return _listed(facts, order, directions, sizes=False, behind=True)


def _listed(
    facts: Sequence[SceneFact],
    order: Sequence[int],
    directions: Sequence[SceneFact],
    *,
    sizes: bool,
    behind: bool,
) -> str:
    """Returns a plain text of objects in this order, with directions, and maybe sizes and the backdrop."""
    types = ("colour", "kind", "size") if sizes else ("colour", "kind")
    chosen = [fact for number in order for fact in facts if fact.subject == number and fact.type in types]
    chosen += directions
    if behind or not order:
        chosen += [fact for fact in facts if fact.type == "backdrop"]
    return plain(chosen)


def pair(sample: Json) -> list[str]:
    """Returns the short and the long text of a sample. The sample's index chooses the words."""
    facts, stream = scene_facts(sample), seeds.stream(0, "sentences of scenes", sample["index"])
    return [short(facts, stream), long(facts, stream)]


def bare(sample: Json) -> str:
    """Returns the name of a sample's class: colour and kind of its main object."""
    main = sample["params"]["objects"][sample["params"]["main"]]
    return main_name(main["kind"], main["colour"])


def main_name(kind: str, colour: str) -> str:
    """Returns the name of a class of scenes."""
    name = f"{colour} {words.NOUNS[kind][0]}"
    return f"{article(name)} {name}"


def choose(facts: Sequence[SceneFact], stream: Stream, k: int) -> list[SceneFact]:
    """Returns k of the distinct facts, object by object. Objects and facts are chosen by the stream.

    Raises UserError unless there are k."""
    known = canonical(facts)
    if not 1 <= k <= len(known):
        raise UserError(f"k is {k}, but the scene has {len(known)} facts; k must lie in 1..{len(known)}")

    # Some of the objects, with enough facts together. The main object is often the first.
    main = next((fact.subject for fact in facts if fact.subject >= 0), -1)
    order = shuffled(stream, sorted({n for fact in known for n in (fact.subject, fact.object)} - {-1}))
    if main >= 0 and stream.integer(0, 1):
        order.sort(key=lambda number: number != main)
    place = {number: i for i, number in enumerate((-1, *order), -1)}
    reach = [max(place[fact.subject], place[fact.object]) for fact in known]
    enough = [n for n in range(1, len(order) + 1) if sum(last < n for last in reach) >= k]
    fitting = [n for n in enough if n <= k] or enough[:1] or [0]
    count = fitting[stream.integer(0, len(fitting) - 1)]
    pool = [fact for fact, last in zip(known, reach, strict=True) if last < count]

    # Colour or kind of nearly every object, then other facts by weight.
    relations = sum(fact.type == "relation" for fact in pool)
    weights = _WEIGHTS | {"relation": _RELATED * count / max(1, relations)}
    names = {n: "kind" if stream.integer(0, 2) else "colour" for n in order[:count] if stream.integer(0, 9)}
    keys = [
        (names.get(fact.subject) == fact.type) + stream.uniform(0, 1) ** (1 / weights.get(fact.type, _LEAST))
        for fact in pool
    ]
    best = sorted(range(len(pool)), key=lambda i: -keys[i])[:k]
    chosen = [pool[i] for i in best]
    return sorted(chosen, key=lambda fact: (fact.type == "relation", place[fact.subject]))
