"""Writes texts that state chosen facts of a scene. Their grammar is in scene_reading.py.

A stream of random numbers chooses order and words. Its lowest numbers choose the plain ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

from caption.sentences import scene_choice as choice
from caption.sentences import scene_phrases as words
from caption.sentences.scene_choice import Numbers, one, shuffled, skewed
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_objects import Objects
from caption.sentences.scene_phrases import AFTER, BEFORE, IS, WITH
from caption.sentences.scene_reading import AMONG, EXISTING, FURTHER, LEADS, canonical
from synth.errors import UserError

_MOST = len(words.ORDINALS)  # objects
_PREDICATE = (BEFORE, AFTER, IS, WITH)  # forms of phrases
_PREDICATES = 3  # of one sentence
_AT_ONCE = 3  # objects of a sentence


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
        words.require_phrase(fact.type, fact.relation or fact.value)
    distinct = canonical(facts)
    order = list(dict.fromkeys(n for f in facts for n in (f.subject, f.object) if n >= 0))
    single = [(fact.subject, fact.type) for fact in distinct if fact.type != "relation"]
    if len(set(single)) < len(single) or any(0 <= f.subject == f.object for f in distinct):
        raise UserError("a fact has two values, or an object has a relation to itself; state each fact once")
    if len(order) > _MOST:
        raise UserError(f"{len(order)} objects are too many for a text; state facts of up to {_MOST}")
    writer = _Writer(distinct, order, stream, whole)
    return Statement(writer.text(), tuple(distinct), tuple(writer.objects.order))


class _Writer:
    def __init__(
        self,
        facts: Sequence[SceneFact],
        order: Sequence[int],
        stream: Numbers,
        whole: Sequence[SceneFact] | None,
    ) -> None:
        self.objects = Objects(facts, order, stream, whole)
        self._stream, self._waiting = stream, list(order)
        self._scene = {fact.type: fact.value for fact in facts if fact.subject < 0}  # not stated yet

    def text(self) -> str:
        """Returns the whole text."""
        # The first sentence.
        waiting = self._waiting
        sentences = [self._opening(waiting)]
        while waiting:
            items, several = self.objects.items(waiting, self._stream.integer(1, _AT_ONCE))
            sentences.append(one(self._stream, FURTHER[several]) + items)

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
            heading, several = words.unnamed(count, skewed(self._stream, words.UNNAMED)), count > 1
            if not waiting:
                return self._lead(several) + heading + (f" {on}" if on else "")
            heading += one(self._stream, AMONG[:1] if count == len(waiting) else AMONG[1:3])

        # Objects. A heading for all of them leaves none for later.
        most = self._stream.integer(0, len(waiting)) if not heading else 0
        items, plural = self.objects.items(waiting, len(waiting) if most < 2 else most)
        lead = self._lead(several or (plural and not heading))
        if front and on:
            return (
                f"{on}, {heading}{items}" if lead in EXISTING or not lead else f"{lead}{heading}{items} {on}"
            )
        return f"{lead}{heading}{items}" + (f" {on}" if on else "")

    def _lead(self, several: bool) -> str:
        if self._stream.integer(0, 2) < 2:
            return LEADS[0]
        return one(self._stream, (*LEADS[1:], EXISTING[several]))

    def _counted(self, count: int) -> str:
        self._scene.pop("count", None)
        noun = skewed(self._stream, words.UNNAMED)
        if count == 1:
            return one(self._stream, words.COUNTED_ONE).format(thing=noun)
        return one(self._stream, words.COUNTED).format(things=words.unnamed(count, noun))

    def _backdrop(self, templates: Sequence[str]) -> str:
        """Returns words on the backdrop, once."""
        colour, texture = str(self._scene.pop("backdrop", "")), str(self._scene.pop("texture", ""))
        if not colour and not texture:
            return ""
        if colour == "grey" and self._stream.integer(0, 3) == 3:
            colour = "gray"
        word = one(self._stream, words.TEXTURES[texture]) if texture else ""
        fitting = [t for t in templates if t not in words.ON_COLOUR or not texture]
        return words.background(colour, word, one(self._stream, fitting))

    def _remaining(self) -> list[tuple[str, int | None]]:
        """Returns sentences on facts that no noun phrase states, each with its subject."""
        # Relations, from either side.
        predicates: dict[int, list[tuple[str, str]]] = {}
        pairs: list[tuple[str, int | None]] = []
        for relation in self.objects.relations:
            if relation.relation == "same colour as" and self._stream.integer(0, 1):
                both = f"{self.objects.again(relation.subject)} and {self.objects.again(relation.object)}"
                pairs.append((f"{both} {one(self._stream, words.SAME_COLOUR)}", None))
                continue
            subject = relation.subject if self._stream.integer(0, 1) == 0 else relation.object
            related = self.objects.related(relation, subject)
            other = self.objects.again(self.objects.other(relation, subject))
            predicates.setdefault(subject, []).append(("is", f"{related} {other}"))

        # Facts of one object.
        for subject, later in self.objects.later.items():
            for name, stated in later:
                if name == "text":
                    predicate = (one(self._stream, words.TEXT_VERBS), f'"{stated[0][1]}"')
                elif phrase := choice.phrase(self._stream, stated, _PREDICATE, predicate=True):
                    predicate = ("has" if phrase.form == WITH else "is", phrase.words)
                predicates.setdefault(subject, []).append(predicate)

        # Sentences of up to three predicates.
        sentences: list[tuple[str, int | None]] = list(pairs)
        for subject, mine in predicates.items():
            mine = shuffled(self._stream, mine)
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
        texts, before = [], self.objects.order[0] if len(self.objects.order) == 1 else None
        for text, subject in shuffled(self._stream, sentences):
            if subject is None:
                texts.append(text)
            elif subject == before and self._stream.integer(0, 2):
                texts.append(f"it {text}")
            else:
                texts.append(f"{self.objects.again(subject)} {text}")
            before = subject
        return texts
