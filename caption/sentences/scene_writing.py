"""Writes texts that state chosen facts of a scene. Their grammar is in scene_reading.py.

A stream of random numbers chooses order and words. Its lowest numbers choose the plain ones.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, Protocol, TypeVar

from caption.sentences import scene_phrases as words
from caption.sentences.phrases import article, number
from caption.sentences.scene_facts import TYPES, SceneFact
from caption.sentences.scene_phrases import AFTER, BEFORE, IS, WITH, Phrase, Stated, Value
from caption.sentences.scene_reading import AMONG, EXISTING, FURTHER, LEADS, Mentions, canonical
from synth.errors import UserError
from synth.families.scene_world import OPPOSITES, PALETTE

T = TypeVar("T")

_LONG = 4  # facts of an object, from which on some are stated later
_PREDICATES = 3  # of one sentence
_AT_ONCE = 3  # objects of a sentence


class Numbers(Protocol):
    """A stream of random numbers, such as synth.seeds.Stream."""

    def integer(self, low: int, high: int) -> int:
        """Returns a whole number, both ends included."""


class Plain:
    """The stream of plain texts: always the lowest number."""

    def integer(self, low: int, high: int) -> int:
        """Returns the lowest number."""
        return low


class Statement(NamedTuple):
    """A text with the facts that it states."""

    text: str
    facts: tuple[SceneFact, ...]  # in canonical order, with the scene's numbers of objects
    order: tuple[int, ...]  # objects in the order of their first mention

    def renumbered(self) -> list[SceneFact]:
        """Returns the facts as `parse` returns them: objects are numbered by their first mention."""
        place = {number: i for i, number in enumerate((-1, *self.order), -1)}
        return canonical(f._replace(subject=place[f.subject], object=place[f.object]) for f in self.facts)


def write(facts: Sequence[SceneFact], stream: Numbers, whole: Sequence[SceneFact] | None = None) -> Statement:
    """Returns a text that states these facts, and no others.

    Objects come in the order of the facts. `whole` has all facts of the scene: "two red stars" is written
    only if there are no others. Raises UserError if a value has no phrase."""
    for fact in facts:
        _require_phrase(fact.type, fact.relation or fact.value)
    distinct = canonical(facts)
    order = list(dict.fromkeys(n for f in facts for n in (f.subject, f.object) if n >= 0))
    writer = _Writer(distinct, order, stream, whole)
    return Statement(writer.text(), tuple(distinct), tuple(writer.order))


class _Writer:
    def __init__(
        self,
        facts: Sequence[SceneFact],
        order: Sequence[int],
        stream: Numbers,
        whole: Sequence[SceneFact] | None,
    ) -> None:
        self.order: list[int] = []  # objects that the text has mentioned
        self._stream, self._whole = stream, whole
        self._scene: dict[str, Value] = {}  # what the text has not stated yet
        self._known: dict[int, dict[str, Value]] = {number: {} for number in order}  # by object
        self._relations: list[SceneFact] = []
        self._later: dict[int, list[tuple[str, Stated]]] = {}
        self._mentions, self._nouns = Mentions(), dict[int, str]()
        for fact in facts:
            if fact.subject < 0:
                self._scene[fact.type] = fact.value
            elif fact.type == "relation":
                self._relations.append(fact)
            else:
                self._known[fact.subject][fact.type] = fact.value

    # ---- sentences

    def text(self) -> str:
        """Returns the whole text."""
        # The first sentence.
        waiting = list(self._known)
        sentences = [self._opening(waiting)]
        while waiting:
            items, several = self._items(waiting, self._stream.integer(1, _AT_ONCE))
            sentences.append(self._one(FURTHER[several]) + items)

        # Remaining facts, in any order.
        further = self._remaining()
        backdrop = self._backdrop(words.BACKGROUND_IS)
        scene = [backdrop] if backdrop else []
        if "count" in self._scene:
            scene.append(self._counted(int(self._scene["count"])))
        joined = self._mixed([*((text, None) for text in scene), *further])
        separator = "; " if self._stream.integer(0, 4) == 4 else ". "
        return separator.join((*sentences, *joined))

    def _opening(self, waiting: list[int]) -> str:
        """Returns the first sentence, on some or all objects."""
        # The backdrop in front, or behind, or later.
        place = self._stream.integer(0, 5)
        front = place == 5 and bool(waiting)
        count = int(self._scene.get("count", 0))
        if not waiting and not count:
            return self._backdrop(words.BACKGROUND_IS)
        on = self._backdrop((*words.ON_COLOUR, *words.ON_BACKGROUND)) if place != 4 else ""

        # A heading: three objects.
        heading, several = "", False
        if count and (self._stream.integer(0, 2) == 0 or not waiting) and len(waiting) != 1:
            del self._scene["count"]
            heading, several = words.unnamed(count, self._skewed(words.UNNAMED)), count > 1
            if not waiting:
                return self._lead(several) + heading + (f" {on}" if on else "")
            heading += self._one(AMONG[:1] if count == len(waiting) else AMONG[1:3])

        # Objects. A heading for all of them leaves none for later.
        most = self._stream.integer(0, len(waiting)) if not heading else 0
        items, plural = self._items(waiting, len(waiting) if most < 2 else most)
        lead = self._lead(several or (plural and not heading))
        if front and on:
            return (
                f"{on}, {heading}{items}" if lead in EXISTING or not lead else f"{lead}{heading}{items} {on}"
            )
        return f"{lead}{heading}{items}" + (f" {on}" if on else "")

    def _lead(self, several: bool) -> str:
        if self._stream.integer(0, 2) < 2:
            return LEADS[0]
        return self._one((*LEADS[1:], EXISTING[several]))

    def _counted(self, count: int) -> str:
        self._scene.pop("count", None)
        noun = self._skewed(words.UNNAMED)
        if count == 1:
            return self._one(words.COUNTED_ONE).format(thing=noun)
        return self._one(words.COUNTED).format(things=words.unnamed(count, noun))

    def _backdrop(self, templates: Sequence[str]) -> str:
        """Returns words on the backdrop, once."""
        colour, texture = str(self._scene.pop("backdrop", "")), str(self._scene.pop("texture", ""))
        if not colour and not texture:
            return ""
        if colour == "grey" and self._stream.integer(0, 3) == 3:
            colour = "gray"
        word = self._one(words.TEXTURES[texture]) if texture else ""
        fitting = [t for t in templates if t not in words.ON_COLOUR or not texture]
        return words.background(colour, word, self._one(fitting))

    # ---- objects

    def _items(self, waiting: list[int], most: int) -> tuple[str, bool]:
        """Returns the next objects, and True if the first words are in the plural."""
        items: list[str] = []
        plural, loose = False, False
        end = max(0, len(waiting) - most)
        while len(waiting) > end:
            group = self._group(waiting)
            if len(group) > 1:
                plural = plural or not items
                items.append(self._several(group))
                waiting[:] = [n for n in waiting if n not in group]
                continue
            item, related = self._item(waiting)
            items.append(item)
            loose = loose or related
        if len(items) > 2 or loose:
            return ", and ".join(filter(None, (", ".join(items[:-1]), items[-1]))), plural
        return " and ".join(items), plural

    def _item(self, waiting: list[int]) -> tuple[str, bool]:
        """Returns the next object, and True if it stands in a relation to another."""
        subject = waiting.pop(0)
        mine = [r for r in self._relations if subject in (r.subject, r.object)]
        mine = [r for r in mine if self._other(r, subject) in (*waiting, *self._nouns)]
        if not mine or self._stream.integer(0, 2) == 2:
            return self._phrase(subject, AFTER), False

        # A relation to another new object, or to one that was mentioned.
        new = [r for r in mine if self._other(r, subject) in waiting]
        relation = self._one(new or mine)
        self._relations.remove(relation)
        other = self._other(relation, subject)
        first = self._phrase(subject, WITH)
        if other in waiting:
            waiting.remove(other)
            second = self._phrase(other, WITH)
        else:
            second = self._again(other)
        return f"{first} {self._related(relation, subject)} {second}", True

    def _phrase(self, subject: int, last: str) -> str:
        """Returns the words that introduce an object. `last` is the form of its last facts."""
        # Facts by form: adjectives, parts and complements.
        known = self._known[subject]
        before: list[str] = []
        after: dict[str, str] = {}
        noun = self._skewed(words.NOUNS[str(known["kind"])] if "kind" in known else words.UNNAMED)
        self._nouns[subject] = noun
        colour = ""
        for stated in self._grouped(known):
            # At most one part or complement, and a place after it.
            name = stated[0][0]
            forms = (BEFORE,) if after else (BEFORE, WITH, AFTER) if last == AFTER else (BEFORE, WITH)
            phrase = self._choice(stated, (AFTER,) if name == "place" and last == AFTER else forms)
            late = len(known) >= _LONG and self._stream.integer(0, 5) == 5 and name != "colour"
            if phrase is None or late or phrase.form in after:
                self._later.setdefault(subject, []).append((name, stated))
            elif phrase.form == BEFORE:
                before.append(phrase.words)
                colour = str(known["colour"]) if name == "colour" else colour
            else:
                after[phrase.form] = phrase.words if phrase.form == AFTER else f"with {phrase.words}"
                colour = str(known["colour"]) if name == "colour" else colour

        # The words of a text.
        if "text" in known:
            if WITH in after:
                self._later.setdefault(subject, []).append(("text", (("text", known["text"]),)))
            else:
                after[WITH] = f'{self._one(words.TEXT_FORMS)} "{known["text"]}"'

        # Determiner: `another` after the same words, or for an object without kind.
        kind = str(known.get("kind", ""))
        same = self._mentions.like(kind, colour) or not (kind or colour or not self.order)
        self._mention(subject, kind, colour)
        text = " ".join((*before, noun))
        tail = " ".join(filter(None, (after.get(WITH), after.get(AFTER))))
        return f"{'another' if same else article(text)} {text}" + (f" {tail}" if tail else "")

    def _grouped(self, known: dict[str, Value]) -> list[Stated]:
        """Returns an object's facts in the order of adjectives, without kind and text.

        A pattern's filling and colour may be one phrase."""
        pairs: list[Stated] = []
        joint = ("filling" in known and "second" in known) and self._stream.integer(0, 4) < 4
        for name in ("size", "filling", "second", "colour", "points", "place"):
            if name not in known or (joint and name == "second"):
                continue
            stated: Stated = ((name, known[name]),)
            if joint and name == "filling":
                stated = (*stated, ("second", known["second"]))
            pairs.append(stated)
        return pairs

    def _group(self, waiting: list[int]) -> list[int]:
        """Returns the objects that can be named together with the next one, or that one alone."""
        first = waiting[0]
        known = self._known[first]
        plain = known.keys() <= {"kind", "colour", "size"} and ("kind" in known or "colour" in known)
        if not plain or known.get("kind") == "text" or len(waiting) < 2 or self._stream.integer(0, 3) == 3:
            return [first]
        related = {n for r in self._relations for n in (r.subject, r.object)}
        same = [n for n in waiting if self._known[n] == known and n not in related]
        if first not in same or len(same) < 2 or not self._all(known, same):
            return [first]
        return same

    def _all(self, known: dict[str, Value], group: list[int]) -> bool:
        """Returns True if no other object of the scene has these values."""
        if self._whole is None:
            return len(group) == sum(known.items() <= other.items() for other in self._known.values())
        if not any(fact.type == "count" for fact in self._whole):
            return False
        having: dict[int, set[tuple[str, Value]]] = {}
        for fact in self._whole:
            having.setdefault(fact.subject, set()).add((fact.type, fact.value))
        return len(group) == sum(known.items() <= other for other in having.values())

    def _several(self, group: list[int]) -> str:
        known = self._known[group[0]]
        adjectives = [
            self._skewed([p.words for p in words.PHRASES[(name, known[name]),] if p.form == BEFORE])
            for name in ("size", "colour")
            if name in known
        ]
        noun = words.plural(self._one(words.NOUNS[str(known["kind"])] if "kind" in known else words.UNNAMED))
        for subject in group:
            self._nouns[subject] = noun
            self._mention(subject, str(known.get("kind", "")), str(known.get("colour", "")))
        return " ".join((number(len(group)), *adjectives, noun))

    def _mention(self, subject: int, kind: str, colour: str) -> None:
        self.order.append(subject)
        self._mentions.words.append((kind, colour))

    def _again(self, subject: int) -> str:
        """Returns a later mention of an object: its noun, with colour or ordinal if needed."""
        place = self.order.index(subject)
        kind, colour = self._mentions.words[place]
        alike, coloured = self._mentions.like(kind, ""), self._mentions.like(kind, colour)
        noun = self._nouns[subject]
        if len(alike) == 1:
            return f"the {colour} {noun}" if colour and self._stream.integer(0, 3) == 3 else f"the {noun}"
        if len(coloured) == 1 and colour:
            return f"the {colour} {noun}"
        if colour and len(coloured) < len(alike):
            return f"the {words.ORDINALS[coloured.index(place)]} {colour} {noun}"
        return f"the {words.ORDINALS[alike.index(place)]} {noun}"

    # ---- later facts

    def _remaining(self) -> list[tuple[str, int | None]]:
        """Returns sentences on facts that no noun phrase states, each with its subject."""
        # Relations, from either side.
        predicates: dict[int, list[tuple[str, str]]] = {}
        pairs: list[tuple[str, int | None]] = []
        for relation in self._relations:
            if relation.relation == "same colour as" and self._stream.integer(0, 1):
                both = f"{self._again(relation.subject)} and {self._again(relation.object)}"
                pairs.append((f"{both} {self._one(words.SAME_COLOUR)}", None))
                continue
            subject = relation.subject if self._stream.integer(0, 1) == 0 else relation.object
            phrase = self._related(relation, subject)
            other = self._again(self._other(relation, subject))
            predicates.setdefault(subject, []).append(("is", f"{phrase} {other}"))

        # Facts of one object.
        for subject, later in self._later.items():
            for name, stated in later:
                choice = (
                    self._choice(stated, (BEFORE, AFTER, IS, WITH), predicate=True)
                    if name != "text"
                    else None
                )
                if choice is None:
                    predicate = (self._one(words.TEXT_VERBS), f'"{stated[0][1]}"')
                else:
                    predicate = ("has" if choice.form == WITH else "is", choice.words)
                predicates.setdefault(subject, []).append(predicate)

        # Sentences of up to three predicates.
        sentences: list[tuple[str, int | None]] = list(pairs)
        for subject, mine in predicates.items():
            mine = self._shuffled(mine)
            while mine:
                several = self._stream.integer(1, _PREDICATES)
                part, mine = mine[:several], mine[several:]
                sentences.append((self._predicates(part), subject))
        return sentences

    def _predicates(self, parts: list[tuple[str, str]]) -> str:
        """Returns predicates, each with its verb unless the one before has it."""
        parts.sort(key=lambda part: part[0] != "is")
        texts, verb = [], ""
        for this, text in parts:
            texts.append(text if this == verb else f"{this} {text}")
            verb = this
        return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))

    def _mixed(self, sentences: list[tuple[str, int | None]]) -> list[str]:
        """Returns sentences in random order, with their subjects. `it` continues on the same subject."""
        texts, before = [], self.order[0] if len(self.order) == 1 else None
        for text, subject in self._shuffled(sentences):
            if subject is None:
                texts.append(text)
            elif subject == before and self._stream.integer(0, 2):
                texts.append(f"it {text}")
            else:
                texts.append(f"{self._again(subject)} {text}")
            before = subject
        return texts

    # ---- words

    def _related(self, relation: SceneFact, subject: int) -> str:
        """Returns the words of a relation, seen from one of its objects."""
        name = relation.relation
        if subject != relation.subject:
            name = "around" if name == "inside" else OPPOSITES.get(name, name)
        return self._skewed(words.RELATIONS[name])

    @staticmethod
    def _other(relation: SceneFact, subject: int) -> int:
        return relation.object if relation.subject == subject else relation.subject

    def _choice(self, stated: Stated, forms: tuple[str, ...], *, predicate: bool = False) -> Phrase | None:
        """Returns a phrase of these facts in one of the forms, most often an adjective, or None."""
        adjectives, others = _by_form(stated, forms)
        if predicate and adjectives:
            adjectives = adjectives[:1]
        if adjectives and (not others or self._stream.integer(0, 5) < (2 if predicate else 4)):
            return self._skewed(adjectives, 6)
        return self._one(others) if others else None

    def _one(self, options: Sequence[T]) -> T:
        return options[self._stream.integer(0, len(options) - 1)]

    def _skewed(self, options: Sequence[T], weight: int = 2) -> T:
        """Returns one of the options. The first is `weight` times as frequent as all others together."""
        others = len(options) - 1
        return options[max(0, self._stream.integer(1 - weight * others, others))] if others else options[0]

    def _shuffled(self, items: list[T]) -> list[T]:
        """Returns the items in random order. The lowest numbers keep their order."""
        items, out = list(items), []
        while items:
            out.append(items.pop(self._stream.integer(0, len(items) - 1)))
        return out


@cache
def _require_phrase(name: str, value: Value) -> None:
    """Raises UserError if a type of fact is unknown, or its value has no phrase."""
    if name not in TYPES:
        raise UserError(f"unknown fact {name!r}; facts of scenes are {', '.join(TYPES)}")
    tables: dict[str, Iterable[Value]] = {
        "kind": words.NOUNS,
        "backdrop": PALETTE,
        "texture": words.TEXTURES,
        "count": range(1, len(words.ORDINALS) + 1),
        "relation": [relation for relation in words.RELATIONS if relation != "around"],
    }
    values = tables.get(
        name, [known for ((first, known), *more) in words.PHRASES if first == name and not more]
    )
    if name == "text" and not re.fullmatch("[A-Z0-9]+", str(value)):
        raise UserError(f"text cannot be {value!r}; it must be capital letters and digits")
    if name != "text" and value not in values:
        raise UserError(f"{name} cannot be {value!r}; it may be {', '.join(map(str, values))}")


@cache
def _by_form(stated: Stated, forms: tuple[str, ...]) -> tuple[list[Phrase], list[Phrase]]:
    """Returns the adjectives of these facts, and their other phrases in these forms."""
    phrases = [phrase for phrase in words.PHRASES[stated] if phrase.form in forms]
    return [p for p in phrases if p.form == BEFORE], [p for p in phrases if p.form != BEFORE]
