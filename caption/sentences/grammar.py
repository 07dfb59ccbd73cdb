"""The grammar of attribute sentences: one table of phrases, read forwards to state facts, backwards to parse.

    sentence    = determiner slot slot ...
    determiner  = a | an | some | two | three | ...

Slots are in the order of the table. A slot without a fact is left out. Only the fact `family` is required.
The determiner states the fact `count`. No phrase of a slot stands for two values, so parsing inverts stating.
"""

import re
from collections.abc import Mapping
from functools import cache

from caption.sentences.phrases import COUNTS, SLOTS, Slot, Value, article, number
from synth.errors import UserError

Facts = dict[str, Value]

FORMS = ("short", "long")
_COUNTED = "fractals"  # the family with a count, in the plural
_UNCOUNTED = "some"
_FACTS = frozenset(["count", *(slot.fact for slot in SLOTS)])
_SHORT = tuple(slot for slot in SLOTS if slot.short)


def state(facts: Mapping[str, Value], form: str = "long", *, choice: int = 0) -> str:
    """Returns the sentence that states these facts. The short form has fewer slots.

    `choice` picks among equivalent phrases; 0 takes the plain ones. Raises UserError if there is no
    phrase."""
    # Names of facts and form.
    unknown = facts.keys() - _FACTS
    if unknown or "family" not in facts or form not in FORMS:
        raise UserError(
            f"cannot state {dict(facts)} in a {form} form; forms are {', '.join(FORMS)},"
            f" facts are {', '.join(sorted(_FACTS))}, and family must be given"
        )

    # Phrases.
    pieces = []
    for slot in SLOTS if form == "long" else _SHORT:
        if slot.fact in facts:
            phrases = slot.phrases.get(facts[slot.fact])
            if phrases is None:
                values = ", ".join(map(str, slot.phrases))
                raise UserError(f"{slot.fact} cannot be {facts[slot.fact]!r}; it may be {values}")
            choice, pick = divmod(choice, len(phrases))
            pieces.append(slot.glue + phrases[pick])
    text = "".join(pieces)
    return _determiner(facts, text) + text


def parse(sentence: str) -> Facts:
    """Returns the facts that a sentence states. Raises UserError if it is no sentence of the grammar."""
    match = _pattern().fullmatch(sentence)
    if not match:
        raise _refusal(sentence)

    # Facts of the slots and of the determiner.
    facts: Facts = {slot.fact: _values(slot)[match[slot.fact]] for slot in SLOTS if match[slot.fact]}
    determiner = match["determiner"]
    if determiner in _counts():
        facts["count"] = _counts()[determiner]

    # The determiner fits the rest.
    countable = facts["family"] == _COUNTED or "count" not in facts
    if not countable or determiner != _determiner(facts, sentence[match.end("determiner") :]):
        raise _refusal(sentence)
    return facts


def _refusal(sentence: str) -> UserError:
    example = "'a red fractal on a blue background'"
    return UserError(f"{sentence!r} is no sentence of the grammar; write sentences such as {example}")


def _determiner(facts: Mapping[str, Value], text: str) -> str:
    """Returns the first word of a sentence. `text` is the rest of it, from its first space on."""
    # Singular families have an article.
    if facts["family"] != _COUNTED:
        if "count" in facts:
            raise UserError(f"only {_COUNTED} are counted, not {facts['family']}")
        return article(text[1:])

    # Plural.
    if "count" not in facts:
        return _UNCOUNTED
    if facts["count"] not in COUNTS:
        raise UserError(f"count cannot be {facts['count']}; it may be {COUNTS[0]} to {COUNTS[-1]}")
    return number(int(facts["count"]))


@cache
def _counts() -> dict[str, int]:
    return {number(n): n for n in COUNTS}


@cache
def _values(slot: Slot) -> dict[str, Value]:
    """Returns the value that each phrase of a slot states."""
    return {phrase: value for value, phrases in slot.phrases.items() for phrase in phrases}


@cache
def _pattern() -> re.Pattern[str]:
    """Returns a pattern that matches all sentences."""
    determiners = "|".join(["an", "a", _UNCOUNTED, *_counts()])
    parts = [f"(?P<determiner>{determiners})"]

    # Longer phrases come first. Only the family is required.
    for slot in SLOTS:
        phrases = "|".join(map(re.escape, sorted(_values(slot), key=len, reverse=True)))
        optional = "" if slot.fact == "family" else "?"
        parts.append(f"(?:{re.escape(slot.glue)}(?P<{slot.fact}>{phrases})){optional}")
    return re.compile("".join(parts))
