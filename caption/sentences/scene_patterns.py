"""The phrases of scenes as patterns for reading: backwards through the tables of scene_phrases.py."""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from caption.sentences import scene_phrases as words
from caption.sentences.phrases import number
from caption.sentences.scene_phrases import AFTER, BEFORE, IS, WITH, Stated
from synth.families.scene_world import PALETTE

_END = r"(?![\w-])"


class Patterns(NamedTuple):
    """Patterns of phrases, and the facts of each phrase."""

    phrase: re.Pattern[str]  # an article or number, adjectives, and a noun
    adjective: re.Pattern[str]
    modifier: re.Pattern[str]  # after a noun
    later: re.Pattern[str]  # a later mention
    predicate: re.Pattern[str]  # of `is`
    part: re.Pattern[str]  # of `has`
    backdrop: re.Pattern[str]
    counted: Mapping[str, int]
    heading: re.Pattern[str]
    nouns: Mapping[str, tuple[str, bool]]  # kind, and True for plurals
    stated: Mapping[str, Stated]
    relations: Mapping[str, str]
    numbers: Mapping[str, int]
    backdrops: Mapping[str, Stated]


def _any(phrases: Iterable[str]) -> str:
    """Returns a pattern of one of these phrases, longest first."""
    return "(?:" + "|".join(map(re.escape, sorted(set(phrases), key=len, reverse=True))) + ")" + _END


@cache
def patterns() -> Patterns:
    """Returns the patterns, compiled once."""
    # Nouns and numbers.
    names = {noun: kind for kind, nouns in words.NOUNS.items() for noun in nouns}
    names |= dict.fromkeys(words.UNNAMED, "")
    nouns = {noun: (kind, False) for noun, kind in names.items()}
    nouns |= {words.plural(noun): (kind, True) for noun, kind in names.items()}
    noun, numbers = _any(nouns), {number(n): n for n in range(1, 7)}
    counts, things = _any(numbers), _any([*words.UNNAMED, *map(words.plural, words.UNNAMED)])

    # Phrases by form.
    forms: dict[str, set[str]] = {form: set() for form in (BEFORE, AFTER, IS, WITH)}
    stated: dict[str, Stated] = {}
    for facts, phrases in words.PHRASES.items():
        for phrase in phrases:
            forms[phrase.form].add(phrase.words)
            stated[phrase.words] = facts
    relations = {phrase: relation for relation, same in words.RELATIONS.items() for phrase in same}
    modifiers = {*forms[AFTER], *relations, *(f"with {part}" for part in forms[WITH])}
    stated |= {f"with {part}": stated[part] for part in forms[WITH]}
    adjective = _any(forms[BEFORE])

    # Backdrops: a pattern that is too wide, and the table of all phrases.
    backdrops = dict(_backdrops())
    before = "(?:on|against|over|with|in front of|the background is|the backdrop is|behind it all is)"
    inner = _any([*_backdrop_words(), "a", "an"])
    return Patterns(
        phrase=re.compile(f"(another|an|a|{counts}) ((?:{adjective} )*)({noun})"),
        adjective=re.compile(f"({adjective}) "),
        modifier=re.compile(f' (?:({_any(modifiers)})|{_any(words.TEXT_FORMS)} "([A-Z0-9]+)")'),
        later=re.compile(f"the (?:({_any(words.ORDINALS)}) )?(?:({_any([*PALETTE, 'gray'])}) )?({noun})"),
        predicate=re.compile(_any({*forms[BEFORE], *forms[AFTER], *forms[IS], *relations})),
        part=re.compile(_any(forms[WITH])),
        backdrop=re.compile(f"{before}(?: {inner})+"),
        counted=dict(_counted()),
        heading=re.compile(f"({counts}) ({things})"),
        nouns=nouns,
        stated=stated,
        relations=relations,
        numbers=numbers,
        backdrops=backdrops,
    )


def _counted() -> Iterator[tuple[str, int]]:
    """Yields each sentence that counts objects."""
    for noun in words.UNNAMED:
        for template in words.COUNTED_ONE:
            yield template.format(thing=noun), 1
        for count in range(2, 7):
            for template in words.COUNTED:
                yield template.format(things=words.unnamed(count, noun)), count


def _backdrop_words() -> set[str]:
    """Returns the words that phrases of backdrops are made of, besides the first ones."""
    textures = {word for names in words.TEXTURES.values() for name in names for word in name.split()}
    return {*PALETTE, "gray", *words.BACKGROUNDS, *textures}


def _backdrops() -> Iterator[tuple[str, Stated]]:
    """Yields each phrase of a backdrop with its facts."""
    colours: dict[str, Stated] = {word: (("backdrop", word),) for word in PALETTE}
    colours |= {"gray": (("backdrop", "grey"),), "": ()}
    textures: dict[str, Stated] = {w: (("texture", t),) for t, names in words.TEXTURES.items() for w in names}
    for colour, stated in colours.items():
        for template in words.ON_COLOUR if colour else ():
            yield words.background(colour, "", template), stated
        for texture, also in (textures | {"": ()}).items():
            for template in (*words.ON_BACKGROUND, *words.BACKGROUND_IS) if colour or texture else ():
                yield words.background(colour, texture, template), (*stated, *also)
