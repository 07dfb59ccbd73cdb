import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from caption.sentences import attributes, grammar, scene_phrases, scene_sentences
from caption.sentences.phrases import article
from caption.sentences.scene_facts import TYPES, SceneFact, scene_facts
from caption.sentences.scene_phrases import AFTER, BEFORE, IS, WITH
from caption.sentences.scene_sentences import bare, canonical, draw, long, parse, plain, short, statement
from synth import datasets, seeds, settings
from synth.errors import UserError
from synth.families import draw as pictures
from synth.families.scene_world import KINDS, PALETTE, SIZES
from tests.kit import make_small, make_tables

Json = dict[str, Any]

SETS = {"scenes": (), "scenes with letters": ("letters=true",), "scenes_flat": ()}
OF_PAPER = {"BLIP on Visual Atoms": 34, "ClipCap on Visual Atoms": 199}  # words of 1,000 captions, table 4


@cache
def samples(name: str, count: int, size: int = 64) -> list[Json]:
    """The JSON of the first pictures of a set."""
    dataset = datasets.get(name.split()[0])
    config = settings.with_settings(dataset.module.Config(**dataset.config), SETS[name])
    return [sample for _, sample in pictures(dataset, config, 0, range(count), size=size)]


def fact(type_: str, subject: int, value: str | int) -> SceneFact:
    return SceneFact(type_, subject, value)


def related(first: int, relation: str, second: int) -> SceneFact:
    return SceneFact("relation", first, relation, relation, second)


RED_STAR = [fact("kind", 0, "star"), fact("colour", 0, "red")]
BLUE_DISC = [fact("kind", 1, "disc"), fact("colour", 1, "blue")]
ON_WHITE = [fact("backdrop", -1, "white")]


# ---- writing and reading


@pytest.mark.parametrize(
    ("name", "count", "draws"),
    [
        *((name, 40, 100) for name in SETS),
        pytest.param("scenes with letters", 500, 2000, marks=pytest.mark.slow),
        pytest.param("scenes with letters", 1000, 10_000, marks=pytest.mark.soak),
        pytest.param("scenes_flat", 500, 2000, marks=pytest.mark.soak),
    ],
)
def test_a_text_states_exactly_the_facts_that_were_chosen(name: str, count: int, draws: int) -> None:
    drawn, stated = samples(name, count), set()
    for number in range(draws):
        # Every length.
        facts, stream = scene_facts(drawn[number % count]), seeds.stream(0, "test of sentences", number)
        known = set(canonical(facts))
        k = stream.integer(1, len(known))
        chosen = statement(facts, stream, k)
        assert len(chosen.facts) == len(set(chosen.facts)) == k and known.issuperset(chosen.facts)
        mentioned = {n for f in chosen.facts for n in (f.subject, f.object)} - {-1}
        assert sorted(chosen.order) == sorted(mentioned)
        assert parse(chosen.text) == chosen.renumbered(), chosen.text
        stated |= {f.type for f in chosen.facts}

        # Articles, spaces and stops.
        for determiner, after in re.findall(r"\b(an?) ([a-z-]+)", chosen.text):
            assert determiner == article(after), chosen.text
        assert "  " not in chosen.text and chosen.text == chosen.text.strip(" .,;"), chosen.text
    usual = set(TYPES) - ({"text"} if "letters" not in name else set())
    assert stated >= (usual if name != "scenes_flat" else {"kind", "colour", "relation", "count", "backdrop"})


def test_the_same_stream_gives_the_same_text_and_others_give_others() -> None:
    facts = scene_facts(samples("scenes", 40)[1])
    texts = [draw(facts, seeds.stream(0, "test of sentences", i), 4) for i in range(50)]
    assert texts == [draw(facts, seeds.stream(0, "test of sentences", i), 4) for i in range(50)]
    assert len(set(texts)) >= 45


@pytest.mark.parametrize("k", [-1, 0, 38, 100])
def test_more_facts_than_a_scene_has_are_refused(k: int) -> None:
    facts = [*RED_STAR, *BLUE_DISC, related(0, "above", 1), related(1, "below", 0)]
    with pytest.raises(UserError, match=rf"k is {k}, but the scene has 5 facts; k must lie in 1\.\.5"):
        draw(facts, seeds.stream(0, "test of sentences"), k)
    assert parse(draw(facts, seeds.stream(0, "test of sentences"), 5)) == canonical(facts)


def test_every_phrase_is_read_as_its_value_and_every_value_has_five() -> None:
    for stated, phrases in scene_phrases.PHRASES.items():
        want = [fact(type_, 0, value) for type_, value in stated]
        texts = set()
        for form, words in phrases:
            if form == BEFORE:
                texts.add(f"{article(words)} {words} shape")
            elif form in (AFTER, WITH):
                texts.add(f"a shape {words}" if form == AFTER else f"a shape with {words}")
            texts.add(f"a shape. it {'has' if form == WITH else 'is'} {words}")
            assert form in (BEFORE, AFTER, IS, WITH)
        assert len(texts) >= 5, stated
        assert all(parse(text) == canonical(want) for text in texts), texts

    # Kinds and relations.
    assert scene_phrases.NOUNS.keys() == {*KINDS, "text"}
    for kind, nouns in scene_phrases.NOUNS.items():
        assert len(set(nouns)) >= 5
        assert all(parse(f"{article(noun)} {noun}") == [fact("kind", 0, kind)] for noun in nouns)
        several = [fact("kind", n, kind) for n in (0, 1)]
        assert kind == "text" or all(parse(f"two {scene_phrases.plural(n)}") == several for n in nouns)
    for relation, phrases_ in scene_phrases.RELATIONS.items():
        want = [related(1, "inside", 0) if relation == "around" else related(0, relation, 1)]
        texts = {f"a shape {phrase} another shape" for phrase in phrases_}
        texts |= {f"a shape and another shape. the first shape is {p} the second shape" for p in phrases_}
        assert len(texts) >= 5 and all(parse(text) == canonical(want) for text in texts)
    assert len(scene_phrases.TEXT_VERBS + scene_phrases.TEXT_FORMS) >= 5
    assert min(map(len, (scene_phrases.COUNTED, scene_phrases.COUNTED_ONE, scene_phrases.UNNAMED))) >= 5


def test_every_word_on_a_backdrop_is_read_as_its_value() -> None:
    textures = {word: name for name, words in scene_phrases.TEXTURES.items() for word in words}
    assert all(len(words) >= 5 for words in scene_phrases.TEXTURES.values())
    for colour, texture in itertools.product(("", *PALETTE), ("", *textures)):
        want = [fact("backdrop", -1, colour)] if colour else []
        want += [fact("texture", -1, textures[texture])] if texture else []
        if want:
            templates = scene_phrases.ON_BACKGROUND + (() if texture else scene_phrases.ON_COLOUR)
            texts = {f"a star {scene_phrases.background(colour, texture, t)}" for t in templates}
            texts |= {
                f"a star. {scene_phrases.background(colour, texture, t)}" for t in scene_phrases.BACKGROUND_IS
            }
            assert len(texts) >= 5
            assert all(parse(text) == canonical([fact("kind", 0, "star"), *want]) for text in texts)


def test_no_phrase_stands_for_two_values() -> None:
    words = [(p.words, stated) for stated, phrases in scene_phrases.PHRASES.items() for p in phrases]
    assert len(dict(words)) == len(words)
    nouns = [noun for same in (*scene_phrases.NOUNS.values(), scene_phrases.UNNAMED) for noun in same]
    assert len(set(nouns)) == len(nouns)
    relations = [phrase for same in scene_phrases.RELATIONS.values() for phrase in same]
    assert len(set(relations)) == len(relations)


PROMPTS = {
    "a red star on white": RED_STAR + ON_WHITE,
    "a red star left of a blue disc on white": [
        *(*RED_STAR, *BLUE_DISC),
        *(related(0, "left of", 1), *ON_WHITE),
    ],
    "an orange arrow": [fact("kind", 0, "arrow"), fact("colour", 0, "orange")],
    "a red shape": [fact("colour", 0, "red")],
    "two red stars on white": [*RED_STAR, fact("kind", 1, "star"), fact("colour", 1, "red"), *ON_WHITE],
    "two shapes: a red star and a blue disc": [*RED_STAR, *BLUE_DISC, fact("count", -1, 2)],
    "three shapes on a mottled grey background": [
        fact("count", -1, 3),
        *(fact("backdrop", -1, "grey"), fact("texture", -1, "texture")),
    ],
    'a text that reads "AB3"': [fact("kind", 0, "text"), fact("text", 0, "AB3")],
    "a red five-pointed star": [*RED_STAR, fact("points", 0, 5)],
    "a green-striped red star": [*RED_STAR, fact("filling", 0, "stripes"), fact("second", 0, "green")],
    "a small red star in the upper left": [
        *RED_STAR,
        *(fact("size", 0, "small"), fact("place", 0, "upper left")),
    ],
    "a shape above another shape": [related(0, "above", 1)],
    "the background is white": ON_WHITE,
}


@pytest.mark.parametrize("text", PROMPTS)
def test_facts_make_the_prompts_that_one_would_write(text: str) -> None:
    assert plain(PROMPTS[text]) == text and parse(text) == canonical(PROMPTS[text])


REFUSED = """
star|a star.|an star|a orange star|A red star|a  star|a red blue star|a red star in blue|two star|a stars
two red|one star|a star left of|a star left of the disc|a star on|a star on a white|a star is small
a star on an white background|a star and a star. the star is small|a star. the third star is small
it is small|a star. the background is white. it is small|a star. it is with five points|a star. it has red
two shapes: |two shapes: a star, and|a dog on grass|three shape|a star with five points on white on red
a photograph of a dog|two texts|a star. the star and the star share a colour
a star. the star is left of the star
"""


@pytest.mark.parametrize("text", ["", *REFUSED.strip().replace("\n", "|").split("|")])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read|states no facts|two values of one fact|to itself"):
        parse(text)


def test_a_text_without_facts_is_named() -> None:
    with pytest.raises(UserError, match=r"^'a shape' states no facts; write texts such as"):
        parse("a shape")


def test_facts_without_a_phrase_are_refused() -> None:
    with pytest.raises(UserError, match="colour cannot be 'mauve'; it may be red, orange"):
        plain([fact("colour", 0, "mauve")])
    with pytest.raises(UserError, match="kind cannot be 'dog'; it may be disc, square"):
        plain([fact("kind", 0, "dog")])
    with pytest.raises(UserError, match="unknown fact 'mood'; facts of scenes are backdrop"):
        plain([fact("mood", 0, "sad")])
    with pytest.raises(UserError, match="count cannot be 7; it may be 1, 2"):
        plain([fact("count", -1, 7)])
    with pytest.raises(UserError, match="text cannot be 'ab'; it must be capital letters"):
        plain([fact("text", 0, "ab")])
    with pytest.raises(UserError, match="two values"):
        plain([*RED_STAR, fact("colour", 0, "blue")])
    with pytest.raises(UserError, match="relation to itself"):
        plain([*RED_STAR, related(0, "above", 0)])
    with pytest.raises(UserError, match="7 objects are too many for a text; state facts of up to 6"):
        plain([fact("kind", n, "star") for n in range(7)])
    with pytest.raises(UserError, match="no facts"):
        plain([])


def test_several_objects_share_a_phrase_only_if_there_are_no_others() -> None:
    stars = [fact(t, n, v) for n in (0, 1) for t, v in (("kind", "star"), ("colour", "red"))]
    third = [fact("kind", 2, "star"), fact("colour", 2, "red"), fact("count", -1, 3)]
    for number in range(300):
        stream = seeds.stream(0, "test of sentences", number)
        assert "two red stars" not in draw([*stars, *third], stream, 4)
    texts = [draw([*stars, fact("count", -1, 2)], seeds.stream(0, "pairs", n), 4) for n in range(300)]
    assert sum("two red stars" in text for text in texts) > 20


def test_a_later_mention_means_one_object() -> None:
    large = fact("size", 1, "large")
    stars = [*RED_STAR, fact("kind", 1, "star"), fact("colour", 1, "blue"), large]
    for text in ("the blue star is large", "the second star is large", "the second star is big"):
        assert parse(f"a red star and a blue star. {text}") == canonical(stars)
    assert parse("a red shape and a star. the shape is large") == [
        fact("colour", 0, "red"), fact("size", 0, "large"), fact("kind", 1, "star"),
    ]  # fmt: skip


# ---- sentences of samples


@pytest.mark.parametrize("name", SETS)
def test_the_two_sentences_state_the_main_object_and_everything(name: str) -> None:
    for sample in samples(name, 40, 32):
        facts = scene_facts(sample)
        first, second = attributes.sentences(sample)
        assert attributes.sentences(sample) == [first, second] and first != second
        main = {f.type: f.value for f in facts if f.subject == facts[0].subject}
        known = {f.type: f.value for f in parse(first)}
        assert known.keys() >= {"kind", "colour"} and known.items() <= main.items()
        assert len(parse(second)) == len(canonical(facts))
        assert sorted(f.type for f in parse(second)) == sorted(f.type for f in canonical(facts))
        assert attributes.parse(second) == attributes.facts(sample)
        assert attributes.facts(sample)["background"] == sample["params"]["backdrop"]


GOLDEN = {
    3: (
        "a picture of a red star of small size",
        "three shapes: a small red star above a small yellow-coloured star, and a medium-sized dotted "
        "orange square with a pink pattern on the left with a shaded purple background. the square is "
        "bigger than the yellow star. the yellow star is right of the square. the square is bigger in "
        "size than the red star",
    ),
    7: (
        "a drawing of an oval in red",
        "there is a small red oval of smaller size than a large brown-striped yellow six-pointed star "
        "over a softly shaded orange backdrop; the yellow star is in the lower right; the red oval is in "
        "the centre; there are two forms",
    ),
}


def test_golden_sentences() -> None:
    """Raise scene_sentences.LAW with these."""
    drawn = samples("scenes", 40)
    assert {index: tuple(attributes.sentences(drawn[index])) for index in GOLDEN} == GOLDEN


def test_the_grammars_of_scenes_and_of_other_pictures_share_no_sentence() -> None:
    for sample in samples("scenes", 40):
        for text in attributes.sentences(sample):
            with pytest.raises(UserError, match="no sentence of the grammar"):
                grammar.parse(text)
    for slot in grammar.SLOTS:
        for words in itertools.chain(*slot.phrases.values()):
            text = f"{article(words)} {words}" if slot.fact == "family" else f"a fractal{slot.glue}{words}"
            with pytest.raises(UserError):
                parse(text)


def test_the_bare_name_is_that_of_the_class() -> None:
    for sample in samples("scenes", 40):
        main = sample["params"]["objects"][sample["params"]["main"]]
        assert {(f.type, f.value) for f in parse(bare(sample))} == {
            ("kind", main["kind"]), ("colour", main["colour"]),
        }  # fmt: skip
    assert (
        bare({"params": {"objects": [{"kind": "oval", "colour": "orange"}], "main": 0}}) == "an orange oval"
    )


def test_a_picture_without_named_objects_has_its_backdrop() -> None:
    facts = [*ON_WHITE, fact("texture", -1, "gradient")]
    assert short(facts) == "the background is white" and parse(long(facts)) == canonical(facts)


@pytest.mark.slow
def test_tables_of_scenes_have_the_law_of_their_sentences(tmp_path: Path, tiny_encoder: Path) -> None:
    from caption.table import CaptionSet

    make_small(tmp_path / "s", dataset="scenes", settings=(), samples=4, shard_size=4, size=32)
    make_tables(tmp_path / "s", tmp_path / "t", tiny_encoder)
    tables = CaptionSet(str(tmp_path / "t"))
    assert tables.identity["sentences"] == attributes.law("scenes") == scene_sentences.LAW
    [rows] = [tables.read(part, ["caption"])["caption"].to_pylist() for part in tables.parts]
    assert [len(row) for row in rows] == [2] * 4
    assert all(parse(text) for row in rows for text in row)
    assert attributes.law("fractals") == attributes.LAW == 1


@pytest.mark.slow
def test_sentences_have_more_words_than_captions_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for name in SETS:
        texts = [attributes.sentences(sample) for sample in samples(name, 1000)]
        words = {word.strip('.,;:"') for pair in texts for text in pair for word in text.split()}
        letters = {w for w in words if w.isupper() or w.isdigit()}
        rows.append(
            (name, len(words - letters), len({long_ for _, long_ in texts}), len({s for s, _ in texts}))
        )
    with capsys.disabled():
        print(f"\nwords of 1,000 captions in the paper: {OF_PAPER}")
        for name, words_, longs, shorts in rows:
            print(f"{name}: {words_} words, {longs} distinct long texts, {shorts} distinct short texts")
    assert rows[0][1] > 200 and rows[2][1] > 130
    assert all(longs >= 990 for _, _, longs, _ in rows)
    assert SIZES.keys() == {"small", "medium", "large"}
