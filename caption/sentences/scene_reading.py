"""Reads texts on scenes back to the facts that they state.

    text      = sentence ". " sentence ...   ("; " separates, too)
    sentence  = [on white ","] [there is] [three objects ":"] item ", " item ", and " item [on white]
                | the star is small and has five points | the background is white | there are three objects
    item      = a small red star with five points [left of (a blue disc | the disc)] | two red stars

Objects are numbered in the order of their first mention. A later mention names the kind, the colour or the
ordinal of an object, so that one object is meant: the star, the red shape, the second star.
"""

import re
from collections.abc import Iterable

from caption.sentences import scene_phrases as words
from caption.sentences.phrases import article
from caption.sentences.scene_facts import TYPES, SceneFact
from caption.sentences.scene_patterns import patterns
from caption.sentences.scene_phrases import Value
from synth.errors import UserError
from synth.families.scene_world import OPPOSITES

LEADS = ("", "a picture of ", "an image of ", "a scene with ", "a drawing of ", "the picture shows ")
EXISTING = ("there is ", "there are ")
FURTHER = (
    ("there is also ", "besides, there is ", "the picture also shows "),
    ("there are also ", "besides, there are ", "the picture also shows "),
)
AMONG = (": ", ", among them ", ", including ", ", namely ")
_RANKS = {name: rank for rank, name in enumerate(TYPES)}


class Mentions:
    """The objects of a text so far: kind and colour of the words that introduced them."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []  # empty: not stated

    def like(self, kind: str, colour: str) -> list[int]:
        """Returns the objects that a later mention of these words may mean."""
        return [i for i, (k, c) in enumerate(self.words) if k == kind and colour in ("", c)]


def canonical(facts: Iterable[SceneFact]) -> list[SceneFact]:
    """Returns the distinct facts in order. A relation and its opposite are one fact, of the lower object."""
    distinct = set()
    for fact in facts:
        if fact[0] == "relation" and fact[1] > fact[4]:
            _, subject, _, relation, other = fact
            if relation != "inside":
                relation = OPPOSITES.get(relation, relation)
                fact = SceneFact("relation", other, relation, relation, subject)
        distinct.add(fact)
    return sorted(distinct, key=_rank)


def _rank(fact: SceneFact) -> tuple[bool, int, int, int, str]:
    type_, subject, _, relation, other = fact
    return subject < 0, subject, _RANKS[type_], other, relation


def parse(text: str) -> list[SceneFact]:
    """Returns the facts that a text states, in canonical order.

    Raises UserError if it is no text of scenes."""
    reader = _Reader()
    for sentence in re.split("[.;] ", text):
        end = reader.sentence(sentence)
        if end != len(sentence):
            example = "'a red star left of a blue disc on white'"
            raise UserError(
                f"{text!r} cannot be read from {sentence[end:]!r} on; write texts such as {example}"
            )
    if not reader.facts:
        raise UserError(f"{text!r} states no facts; write texts such as 'a red star on white'")
    known = canonical(reader.facts)
    single = [(f.subject, f.type) for f in known if f.type != "relation"]
    if len(set(single)) < len(single):
        raise UserError(f"{text!r} states two values of one fact; state each fact once")
    if any(0 <= fact.subject == fact.object for fact in known):
        raise UserError(f"{text!r} relates an object to itself; name two objects")
    return known


class _Reader:
    """Reads sentences in turn."""

    def __init__(self) -> None:
        self.facts: list[SceneFact] = []
        self.mentions = Mentions()
        self._topic: int | None = None  # the object that `it` means
        self._patterns = patterns()

    def sentence(self, text: str) -> int:
        """Returns the position up to which a sentence was read."""
        # The backdrop, or the count.
        topic, self._topic = self._topic, None
        if text.startswith(("the background is ", "the backdrop is ", "behind it all is ")):
            return self._backdrop(text, 0)
        if text in self._patterns.counted:
            self.facts.append(SceneFact("count", -1, self._patterns.counted[text]))
            return len(text)

        # Predicates of a known object, or new objects.
        if text.startswith("it "):
            return 0 if topic is None else self._predicates(text, 2, topic)
        subject, end = self._later(text, 0)
        if subject is None:
            return self._items(text)
        if text.startswith(" and ", end):
            other, end = self._later(text, end + 5)
            for phrase in words.SAME_COLOUR if other is not None else ():
                if text.startswith(f" {phrase}", end):
                    self._relate(subject, "same colour as", int(other or 0))
                    return end + 1 + len(phrase)
            return end
        return self._predicates(text, end, subject)

    def _items(self, text: str) -> int:
        """Reads new objects, with a heading and the backdrop if they are stated."""
        before = len(self.mentions.words)

        # The backdrop, in front, and a lead.
        at = self._backdrop(text, 0)
        if at:
            if not text.startswith(", ", at):
                return at
            at += 2
        at += len(next(lead for lead in _LEADS if text.startswith(lead, at)))

        # A heading: three objects.
        match = self._patterns.heading.match(text, at)
        if match:
            count = self._patterns.numbers[match[1]]
            if self._patterns.nouns[match[2]][1] != (count > 1):
                return at
            self.facts.append(SceneFact("count", -1, count))
            at = self._on(text, match.end())
            among = next((sep for sep in AMONG if text.startswith(sep, at)), "")
            if not among:
                return at
            at += len(among)

        # Objects.
        while True:
            end = self._item(text, at)
            if end == at:
                return min(at, len(text) - 1)
            at = end
            separator = next((s for s in (", and ", ", ", " and ") if text.startswith(s, at)), "")
            if not separator:
                break
            at += len(separator)
        if len(self.mentions.words) == before + 1:
            self._topic = before
        return self._on(text, at)

    def _item(self, text: str, at: int) -> int:
        """Reads new objects of one phrase, with a relation to another."""
        first, end = self._phrase(text, at)
        if first is None:
            return at
        match = self._patterns.modifier.match(text, end)
        if not match or match[1] not in self._patterns.relations:
            return end

        # The other object.
        end_of_phrase, at = end, match.end() + 1
        other, end = self._later(text, at)
        if other is None:
            other, end = self._phrase(text, at)
        if other is None:
            # The words may be on the backdrop: in front of a white backdrop.
            return end_of_phrase
        self._relate(first, self._patterns.relations[match[1]], other)
        return end

    def _phrase(self, text: str, at: int) -> tuple[int | None, int]:
        """Reads a noun phrase. Returns its object, the last one of several, and the end."""
        match = self._patterns.phrase.match(text, at)
        if not match:
            return None, at
        determiner, adjectives, noun = match.groups()
        kind, plural = self._patterns.nouns[noun]
        count = self._patterns.numbers.get(determiner, 1)
        articles = ("another", article(text[match.start(2) :]))
        fits = determiner in articles if count == 1 else kind != "text"
        if plural != (count > 1) or not fits:
            return None, at

        # Adjectives and what follows the noun.
        stated = [
            fact
            for word in self._patterns.adjective.findall(adjectives)
            for fact in self._patterns.stated[word]
        ]
        end = match.end()
        while after := self._patterns.modifier.match(text, end):
            if after[1] in self._patterns.relations:
                break
            stated += self._patterns.stated[after[1]] if after[1] else [("text", after[2])]
            end = after.end()
        if kind:
            stated.append(("kind", kind))
        known = dict(stated)
        if len(known) < len(stated):
            return None, at

        # New objects.
        for _ in range(count):
            subject = len(self.mentions.words)
            self.mentions.words.append((kind, str(known.get("colour", ""))))
            self._state(subject, stated)
        return subject, end

    def _later(self, text: str, at: int) -> tuple[int | None, int]:
        """Reads a later mention. Returns its object, or None if no one object is meant."""
        match = self._patterns.later.match(text, at)
        if not match or self._patterns.nouns[match[3]][1]:
            return None, at
        colour = "grey" if match[2] == "gray" else match[2] or ""
        like = self.mentions.like(self._patterns.nouns[match[3]][0], colour)
        place = words.ORDINALS.index(match[1]) if match[1] else 0
        if place >= len(like) or (not match[1] and len(like) > 1):
            return None, at
        return like[place], match.end()

    def _predicates(self, text: str, at: int, subject: int) -> int:
        """Reads predicates of an object: is small, has five points and is left of the disc."""
        verb, self._topic = "", subject
        while True:
            # A verb, or the one before.
            for word in ("is", "has", *words.TEXT_VERBS):
                if text.startswith(f" {word} ", at):
                    verb, at = word, at + len(word) + 1
            end = self._predicate(text, at + 1, verb, subject) if text.startswith(" ", at) else at
            if end <= at + 1:
                return at
            separator = next((s for s in (", and ", ", ", " and ") if text.startswith(s, end)), "")
            if not separator:
                return end
            at = end + len(separator) - 1

    def _predicate(self, text: str, at: int, verb: str, subject: int) -> int:
        if verb in words.TEXT_VERBS:
            match = _QUOTED.match(text, at)
            if match:
                self._state(subject, [("text", match[1])])
            return match.end() if match else at
        pattern = {"is": self._patterns.predicate, "has": self._patterns.part}.get(verb)
        match = pattern.match(text, at) if pattern else None
        if not match:
            return at
        if match[0] not in self._patterns.relations:
            self._state(subject, self._patterns.stated[match[0]])
            return match.end()

        # A relation.
        other, end = self._later(text, match.end() + 1)
        if other is None:
            return at
        self._relate(subject, self._patterns.relations[match[0]], other)
        return end

    def _on(self, text: str, at: int) -> int:
        """Reads the backdrop after objects."""
        end = self._backdrop(text, at + 1) if text.startswith(" ", at) else at
        return end if end > at + 1 else at

    def _backdrop(self, text: str, at: int) -> int:
        match = self._patterns.backdrop.match(text, at)
        stated = self._patterns.backdrops.get(match[0]) if match else None
        if not match or stated is None:
            return at
        self._state(-1, stated)
        return match.end()

    def _state(self, subject: int, stated: Iterable[tuple[str, Value]]) -> None:
        self.facts += [SceneFact(type_, subject, value) for type_, value in stated]

    def _relate(self, subject: int, relation: str, other: int) -> None:
        if relation == "around":
            subject, relation, other = other, "inside", subject
        self.facts.append(SceneFact("relation", subject, relation, relation, other))


_QUOTED = re.compile('"([A-Z0-9]+)"')
_LEADS = sorted({*LEADS, *EXISTING, *FURTHER[0], *FURTHER[1]}, key=len, reverse=True)
