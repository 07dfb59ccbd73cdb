"""Noun phrases of texts on scenes: new objects with their facts, and later mentions of them."""

from collections.abc import Sequence

from caption.sentences import scene_choice as choice
from caption.sentences import scene_phrases as words
from caption.sentences.phrases import article, number
from caption.sentences.scene_choice import Numbers, one, skewed
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_phrases import AFTER, BEFORE, WITH, Stated, Value
from caption.sentences.scene_reading import Mentions
from synth.families.scene_world import OPPOSITES

_LONG = 4  # facts of an object, from which on some are stated later


class Objects:
    """The objects of a text, with the facts that it has not stated yet."""

    def __init__(
        self,
        facts: Sequence[SceneFact],
        order: Sequence[int],
        stream: Numbers,
        whole: Sequence[SceneFact] | None,
    ) -> None:
        self.order: list[int] = []  # objects that the text has mentioned
        self.relations = [fact for fact in facts if fact.type == "relation"]
        self.later: dict[int, list[tuple[str, Stated]]] = {}  # types and facts, by object
        self._stream, self._whole = stream, whole
        self._known: dict[int, dict[str, Value]] = {number: {} for number in order}
        self._mentions, self._nouns = Mentions(), dict[int, str]()
        for fact in facts:
            if fact.subject >= 0 and fact.type != "relation":
                self._known[fact.subject][fact.type] = fact.value

    def items(self, waiting: list[int], most: int) -> tuple[str, bool]:
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
        mine = [r for r in self.relations if subject in (r.subject, r.object)]
        mine = [r for r in mine if self.other(r, subject) in (*waiting, *self._nouns)]
        if not mine or self._stream.integer(0, 2) == 2:
            return self._phrase(subject, AFTER), False

        # A relation to another new object, or to one that was mentioned.
        new = [r for r in mine if self.other(r, subject) in waiting]
        relation = one(self._stream, new or mine)
        self.relations.remove(relation)
        other = self.other(relation, subject)
        first = self._phrase(subject, WITH)
        if other in waiting:
            waiting.remove(other)
            second = self._phrase(other, WITH)
        else:
            second = self.again(other)
        return f"{first} {self.related(relation, subject)} {second}", True

    def _phrase(self, subject: int, last: str) -> str:
        """Returns the words that introduce an object. `last` is the form of its last facts."""
        # Facts by form: adjectives, parts and complements.
        known = self._known[subject]
        before: list[str] = []
        after: dict[str, str] = {}
        noun = skewed(self._stream, words.NOUNS[str(known["kind"])] if "kind" in known else words.UNNAMED)
        self._nouns[subject] = noun
        colour = ""
        for stated in self._grouped(known):
            # At most one part or complement, and a place after it.
            name = stated[0][0]
            forms = (BEFORE,) if after else (BEFORE, WITH, AFTER) if last == AFTER else (BEFORE, WITH)
            phrase = choice.phrase(
                self._stream, stated, (AFTER,) if name == "place" and last == AFTER else forms
            )
            late = len(known) >= _LONG and self._stream.integer(0, 5) == 5 and name != "colour"
            if phrase is None or late or phrase.form in after:
                self.later.setdefault(subject, []).append((name, stated))
            elif phrase.form == BEFORE:
                before.append(phrase.words)
                colour = str(known["colour"]) if name == "colour" else colour
            else:
                after[phrase.form] = phrase.words if phrase.form == AFTER else f"with {phrase.words}"
                colour = str(known["colour"]) if name == "colour" else colour

        # The words of a text.
        if "text" in known:
            if WITH in after:
                self.later.setdefault(subject, []).append(("text", (("text", known["text"]),)))
            else:
                after[WITH] = f'{one(self._stream, words.TEXT_FORMS)} "{known["text"]}"'

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
        related = {n for r in self.relations for n in (r.subject, r.object)}
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
            skewed(self._stream, [p.words for p in words.PHRASES[(name, known[name]),] if p.form == BEFORE])
            for name in ("size", "colour")
            if name in known
        ]
        noun = words.plural(
            one(self._stream, words.NOUNS[str(known["kind"])] if "kind" in known else words.UNNAMED)
        )
        for subject in group:
            self._nouns[subject] = noun
            self._mention(subject, str(known.get("kind", "")), str(known.get("colour", "")))
        return " ".join((number(len(group)), *adjectives, noun))

    def _mention(self, subject: int, kind: str, colour: str) -> None:
        self.order.append(subject)
        self._mentions.words.append((kind, colour))

    def again(self, subject: int) -> str:
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

    def related(self, relation: SceneFact, subject: int) -> str:
        """Returns the words of a relation, seen from one of its objects."""
        name = relation.relation
        if subject != relation.subject:
            name = "around" if name == "inside" else OPPOSITES.get(name, name)
        return skewed(self._stream, words.RELATIONS[name])

    @staticmethod
    def other(relation: SceneFact, subject: int) -> int:
        return relation.object if relation.subject == subject else relation.subject
