import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from caption.sentences import shader_words
from caption.sentences.attributes import COLOURS, FAMILIES, MANY, colour_word, facts, parse, sentences, state
from caption.sentences.colour_words import clear_word, colour_numbers
from caption.sentences.grammar import FORMS
from caption.sentences.phrases import COUNTS, SLOTS
from synth import datasets, settings
from synth.errors import UserError
from synth.families import fractals, visual_atoms
from synth.families.fractal_scenes import Params as Scene
from synth.glsl.blocks import blocks
from synth.glsl.plans import PLANS
from synth.images.pictures import Picture
from synth.recipe import Recipe

Json = dict[str, Any]

RNG = np.random.default_rng(0)
SIZE = 128
FEW = ("visual_atoms", "fractals", "fractaldb")  # sets of which a quick test looks at pictures
# Without programs that cannot be shipped, and noise (test_noise.py).
SETS = [name for name in datasets.DATASETS if name not in ("shaders21k", "noise")]
IMPORTED = {
    "program": "abc",
    "wrapper": "shadertoy",
    "licence": "CC0-1.0",
    "author": "somebody",
    "source": "",
    "time": 1.5,
    "redraws": 0,
}


def recipe(name: str) -> Recipe:
    dataset = datasets.get(name)
    few = {"classes": 24} if name == "fractaldb" else {}  # whose classes are searched for
    return Recipe(dataset, dataset.module.Config(**dataset.config, **few), SIZE, 0, 1000, "png")


def as_json(value: Any) -> Any:
    return json.loads(settings.canonical(value))


def side(*mean: float, mode: tuple[int, ...] = ()) -> Json:
    return {"mean": list(mean), "mode": list(mode or map(round, mean))}


def sample_json(
    family: str,
    params: Json,
    *,
    fill: float = 0.15,
    box: Any = (20, 20, 120, 120),
    fore: Json,
    back: Json,
    index: int = 0,
) -> Json:
    stats = {"fill": fill, "box": list(box) if box else None, "foreground": fore, "background": back}
    return {"family": family, "params": params, "stats": stats, "size": SIZE, "index": index}


def random_side(channels: int) -> Json:
    """A mode, and a mean that is mixed of it and another colour."""
    mode, other = RNG.integers(0, 256, (2, channels))
    share = RNG.random() ** 2
    return {"mean": [round(float(v), 2) for v in mode + share * (other - mode)], "mode": mode.tolist()}


def random_stats(channels: int) -> Json:
    left, right = sorted(RNG.choice(SIZE + 1, 2, replace=False).tolist())
    top, bottom = sorted(RNG.choice(SIZE + 1, 2, replace=False).tolist())
    fill = RNG.random() * (right - left) * (bottom - top) / SIZE**2
    return {
        "fill": fill,
        "box": [left, top, right, bottom],
        "foreground": random_side(channels),
        "background": random_side(channels),
    }


def random_samples(name: str, count: int) -> Iterator[Json]:
    """Samples with parameters of the law and stats of chance."""
    renderer = recipe(name)
    pool = [
        as_json(vars(datasets.sample_params(renderer.dataset, renderer.config, seed=0, index=index)))
        for index in range(300)
    ]
    for index in range(count):
        stats = random_stats(renderer.config.channels)
        yield {
            "family": renderer.dataset.family,
            "params": pool[index % 300],
            "stats": stats,
            "size": SIZE,
            "index": index,
        }


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "name", ["visual_atoms", "fractals_corrupted_contour", "fractals_multi", "fractaldb", "shaders"]
)
def test_sentences_parse_back_to_the_facts_of_random_samples(name: str, count: int) -> None:
    stated: set[str] = set()
    for sample in random_samples(name, count):
        short, long = sentences(sample)
        known = facts(sample)
        assert parse(long) == known
        assert parse(short) == {s.fact: known[s.fact] for s in SLOTS if s.short and s.fact in known} | only(
            known, "count"
        )
        stated |= known.keys()
    assert len(stated) >= 9


def only(known: Json, *names: str) -> Json:
    return {name: known[name] for name in names if name in known}


def test_every_phrase_of_the_table_parses_back() -> None:
    for slot in SLOTS:
        given = {"family": "fractals" if slot.fact != "family" else ""}
        for value, phrases in slot.phrases.items():
            for pick, phrase in enumerate(phrases):
                known = given | {slot.fact: value}
                skip = (
                    1
                    if slot.fact in ("family", "second")
                    or SLOTS.index(slot) < [s.fact for s in SLOTS].index("family")
                    else 2
                )
                sentence = state(known, choice=pick if skip == 1 else 2 * pick)
                assert phrase in sentence and parse(sentence) == known, (slot.fact, value, phrase)
        assert len({p for ps in slot.phrases.values() for p in ps}) == sum(map(len, slot.phrases.values())), (
            slot.fact
        )
    for count in COUNTS:
        assert parse(state({"family": "fractals", "count": count})) == {"family": "fractals", "count": count}


def test_facts_make_the_prompts_that_one_would_write() -> None:
    red = {"family": "fractal", "colour": "red", "background": "blue"}
    assert state(red) == "a red fractal on a blue background"
    orange = {"family": "fractal", "colour": "orange", "background": "orange"}
    assert state(orange) == "an orange fractal on an orange background"
    three: dict[str, str | int] = {"family": "fractals", "count": 3, "background": "green"}
    assert state(three) == "three fractals on a green background"
    contour = {"family": "contour", "colour": "grey", "waves": "14 and 9", "background": "black"}
    assert state(contour) == "a grey contour of fourteen and nine waves on a black background"
    assert state(contour, "short") == "a grey contour on a black background"
    assert parse("a gray contour drawing with fourteen and nine waves on black") == contour


REFUSED = """
a|fractal|a red|an red fractal|a orange fractal|A red fractal|a red fractal.|two fractal|a fractals
a fractal red|a red green fractal|a fractal on a blue ground|a fractal on an blue background|a  fractal
a fractal |a photograph of a dog|seventeen fractals|a fractal,|a fractal made of two copies of itself
some shader picture|two red contours
"""


@pytest.mark.parametrize("text", ["", *REFUSED.replace("\n", "|").split("|")])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="no sentence of the grammar"):
        parse(text)


def test_facts_without_a_phrase_are_refused() -> None:
    with pytest.raises(UserError, match="colour cannot be 'mauve'; it may be black, white"):
        state({"family": "fractal", "colour": "mauve"})
    with pytest.raises(UserError, match="family must be given"):
        state({"colour": "red"})
    with pytest.raises(UserError, match="cannot state"):
        state({"family": "fractal", "mood": "sad"})
    with pytest.raises(UserError, match="only fractals are counted"):
        state({"family": "contour", "count": 2})
    with pytest.raises(UserError, match="count cannot be 99"):
        state({"family": "fractals", "count": 99})


def test_phrases_vary_with_the_index_and_state_the_same() -> None:
    sample = sample_json("fractals", FRACTAL, fore=side(*RED), back=side(*BLUE))
    texts = {index: sentences({**sample, "index": index}) for index in range(200)}
    assert len({long for _, long in texts.values()}) > 50 and len({short for short, _ in texts.values()}) > 3
    assert all(parse(long) == facts(sample) for _, long in texts.values())
    assert sentences({**sample, "index": 7}) == texts[7]


# ---- colours


@pytest.mark.parametrize(
    ("word", "examples"),
    [
        ("black", [(0, 0, 0), (24, 24, 24)]),
        ("white", [(255, 255, 255), (245, 245, 245)]),
        ("grey", [(128, 128, 128), (190, 190, 190), (90, 90, 90)]),
        ("red", [(255, 0, 0), (178, 34, 34), (220, 20, 60)]),
        ("orange", [(255, 165, 0), (255, 140, 0)]),
        ("yellow", [(255, 255, 0), (255, 215, 0), (240, 230, 140)]),
        ("green", [(0, 255, 0), (0, 128, 0), (144, 238, 144), (46, 139, 87)]),
        ("blue", [(0, 0, 255), (65, 105, 225), (0, 191, 255), (70, 130, 180)]),
        ("purple", [(128, 0, 128), (75, 0, 130), (148, 0, 211), (147, 112, 219)]),
        ("pink", [(255, 192, 203), (255, 105, 180), (255, 20, 147)]),
        ("brown", [(139, 69, 19), (160, 82, 45), (101, 67, 33)]),
    ],
)
def test_colours_have_the_words_that_everybody_gives_them(
    word: str, examples: list[tuple[int, int, int]]
) -> None:
    assert word in COLOURS and [colour_word(rgb) for rgb in examples] == [word] * len(examples)
    assert colour_numbers(np.array(examples, np.uint8)).tolist() == [COLOURS.index(word)] * len(examples)


@pytest.mark.parametrize(
    "rgb", [(0, 255, 255), (255, 0, 255), (0, 128, 128), (230, 230, 250), (210, 180, 140)]
)
def test_colours_between_words_have_none(rgb: tuple[int, int, int]) -> None:
    assert colour_word(rgb) is None and colour_numbers(np.array(rgb, np.uint8)) == -1


def test_what_is_clearly_of_a_word_is_of_that_word() -> None:
    words = [(clear_word(rgb), colour_word(rgb)) for rgb in RNG.integers(0, 256, (5000, 3)).tolist()]
    assert all(clear in (word, None) for clear, word in words)
    assert 0.5 < np.mean([clear is not None for clear, word in words if word]) < 0.95


# ---- nothing is said where the evidence is not clear

FRACTAL: Json = {
    "maps": [[0.0] * 7] * 3,
    "hue": 100.0,
    "saturation": 200.0,
    "value": 200.0,
    "hue_mode": "uniform",
    "clouds": [],
    "lines": 0,
    "line_length": [0.0, 1.0],
    "colour": "rgb",
}
RED, BLUE, TEAL, BLACK = (220, 20, 30), (30, 60, 230), (0, 128, 128), (0, 0, 0)


def test_a_colour_needs_mean_and_mode() -> None:
    clear = facts(sample_json("fractals", FRACTAL, fore=side(*RED), back=side(*BLUE)))
    assert (clear["colour"], clear["background"]) == ("red", "blue")
    for front in (
        side(*RED, mode=BLUE),
        side(*BLUE, mode=RED),
        side(*TEAL),
        side(*TEAL, mode=RED),
        side(170, 90, 90, mode=RED),
    ):
        assert "colour" not in facts(sample_json("fractals", FRACTAL, fore=front, back=side(*BLUE)))
    mixed = sample_json("fractals", FRACTAL, fore=side(110, 100, 95, mode=RED), back=side(*BLUE))
    assert facts(mixed)["colour"] == MANY


def test_nothing_is_said_of_what_is_not_there() -> None:
    nothing: Json = {"mean": None, "mode": None}
    known = facts(sample_json("fractals", FRACTAL, fill=0.0, box=None, fore=nothing, back=side(*BLACK)))
    assert known == {"family": "fractal", "background": "black", "maps": 3}
    red, blue, black = side(*RED), side(*BLUE), side(*BLACK)
    plain, lined = {"plan": "fields", "blocks": []}, {**FRACTAL, "lines": 100}
    assert "background" not in facts(sample_json("fractals", FRACTAL, fill=0.97, fore=red, back=blue))
    assert "background" not in facts(sample_json("shaders", plain, fill=0.7, fore=red, back=blue))
    assert "cut" not in facts(sample_json("fractals", lined, fill=0.002, fore=red, back=black))
    assert facts(sample_json("fractals", lined, fore=red, back=black))["cut"] == "lines"


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((10, 10, 50, 50), "upper left"),
        ((80, 10, 120, 50), "upper right"),
        ((10, 80, 50, 120), "lower left"),
        ((80, 80, 120, 120), "lower right"),
        ((50, 50, 80, 80), "centre"),
        ((50, 2, 80, 40), "top"),
        ((0, 50, 50, 80), "left"),
        ((10, 10, 100, 50), None),
        ((30, 30, 70, 70), None),
        ((0, 0, 128, 128), None),
    ],
)
def test_a_place_is_said_where_the_box_leaves_no_doubt(box: Any, place: str | None) -> None:
    sample = sample_json("fractals", FRACTAL, box=box, fore=side(*RED), back=side(*BLUE))
    assert facts(sample).get("place") == place


def test_a_scene_is_counted_where_no_figure_hides_another() -> None:
    def scene(*boxes: tuple[float, ...]) -> Json:
        figure = only(FRACTAL, "maps", "hue", "saturation", "value", "hue_mode")
        params = {"figures": [{**figure, "box": box} for box in boxes], "clouds": []}
        return facts(sample_json("fractal_scenes", params, fore=side(*RED), back=side(*BLUE)))

    apart = scene((0.1, 0.1, 0.3, 0.3), (0.6, 0.6, 0.9, 0.9))
    assert (apart["family"], apart["count"], apart["mostly"]) == ("fractals", 2, "red")
    assert "colour" not in apart
    half = scene((0.1, 0.1, 0.3, 0.3), (0.15, 0.1, 0.6, 0.6), (0.5, 0.5, 0.9, 0.9))
    assert half["family"] == "fractals" and "count" not in half
    hidden = scene((0.1, 0.1, 0.3, 0.3), (0.1, 0.1, 0.5, 0.5))
    assert hidden["family"] == "fractal" and "colour" not in hidden and "count" not in hidden
    single = scene((0.1, 0.1, 0.3, 0.3))
    assert (single["family"], single["colour"], single["maps"]) == ("fractal", "red", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("visual_atoms", {"orbits": (0, 0)}),
        (
            "visual_atoms",
            {"orbits": (900, 999), "noise": (0.0, 0.5), "frequency": (900, 5000), "radius": (0, 5)},
        ),
        ("fractals", {"maps": (1, 1), "points": 1000}),
        (
            "fractals",
            {"maps": (16, 16), "points": 1000, "lines": 5000, "colour": "grey", "hue_mode": "uniform"},
        ),
        ("fractals_multi", {"figures": (20, 30), "points": 1000, "saturation": (0.0, 0.0)}),
    ],
)
def test_settings_far_from_the_usual_get_sentences_too(name: str, settings: Json) -> None:
    renderer = recipe(name)
    renderer = replace(renderer, config=replace(renderer.config, **settings))
    for index in range(5):
        sample = as_json(renderer.describe(index, *renderer.render(index)))
        assert parse(sentences(sample)[1]) == facts(sample)


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(KeyError, match="poems"):
        facts(sample_json("poems", {}, fore=side(*RED), back=side(*BLUE)))


# ---- the words hold against the pixels


def hsv(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Hue in degrees, saturation and value of uint8 (N, 3)."""
    rgb = pixels.astype(float) / 255
    value = rgb.max(axis=1)
    chroma = np.maximum(value - rgb.min(axis=1), 1e-9)
    red, green, blue = rgb.T
    cool = np.where(value == green, 2 + (blue - red) / chroma, 4 + (red - green) / chroma)
    return (
        60 * np.where(value == red, (green - blue) / chroma % 6, cool),
        chroma / np.maximum(value, 1e-9),
        value,
    )


def hues(pixels: np.ndarray) -> np.ndarray:
    """The share of pixels in each sixth of the hue circle: float (6,)."""
    return np.bincount((hsv(pixels)[0] // 60).astype(int) % 6, minlength=6) / len(pixels)


def shares(pixels: np.ndarray) -> dict[str, float]:
    """Returns by colour word the share of pixels, uint8 (N, 3), of this word.

    It reads hue, saturation and value generously."""
    hue, saturation, value = hsv(pixels)

    def hued(first: float, last: float, least: float = 0.1) -> np.ndarray:
        return ((hue - first) % 360 <= (last - first) % 360) & (saturation > least)

    bears = {
        "black": value < 0.3,
        "white": (value > 0.85) & (saturation < 0.15),
        "grey": (saturation < 0.25) & (value > 0.08) & (value < 0.97),
        "red": hued(335, 28, 0.3),
        "orange": hued(10, 50, 0.3) & (value > 0.5),
        "yellow": hued(35, 80) & (value > 0.55),
        "green": hued(52, 182),
        "blue": hued(172, 268),
        "purple": hued(230, 332),
        "pink": hued(285, 28) & (value > 0.5),
        "brown": hued(350, 65) & (value < 0.85),
    }
    return {word: float(mask.mean()) for word, mask in bears.items()}


def widened(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def luma(pixels: np.ndarray) -> float:
    return float((pixels @ [0.299, 0.587, 0.114]).mean())


COVER: dict[str, Callable[[float], bool]] = {
    "less than a hundredth": lambda f: f < 0.01,
    "less than a twentieth": lambda f: f < 0.05,
    "less than a tenth": lambda f: f < 0.1,
    "more than a tenth": lambda f: f > 0.1,
    "about a quarter": lambda f: abs(f - 0.25) < 0.04,
    "about a third": lambda f: abs(f - 0.333) < 0.04,
    "about half": lambda f: abs(f - 0.5) < 0.06,
    "more than half": lambda f: f > 0.5,
    "more than three quarters": lambda f: f > 0.75,
}


def check_frame(known: Json, picture: Picture) -> None:
    """Place, size, cover, shape and edges, from where foreground pixels lie."""
    seen = picture.foreground
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    high, wide = ((line[-1] - line[0] + 1) / SIZE for line in (rows, columns))
    place = str(known.get("place", ""))
    assert "left" not in place or columns[-1] < 0.55 * SIZE
    assert "right" not in place or columns[0] > 0.45 * SIZE
    assert ("upper" not in place and place != "top") or rows[-1] < 0.55 * SIZE
    assert ("lower" not in place and place != "bottom") or rows[0] > 0.45 * SIZE
    if place == "centre":
        assert all(abs((line[0] + line[-1]) / 2 - SIZE / 2) < 0.1 * SIZE for line in (rows, columns))
    longest = {"tiny": 0.15, "small": 0.4}
    if known.get("size") in longest:
        assert max(wide, high) < longest[known["size"]]
    assert known.get("size") != "large" or min(wide, high) > 0.75
    assert "cover" not in known or COVER[known["cover"]](float(seen.mean()))
    if "shape" in known:
        assert wide > 1.3 * high if known["shape"] == "wide" else high > 1.3 * wide
    border = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
    assert {name for name, line in border.items() if line.any()} == set(
        str(known.get("edges", "")).replace("and", "").split()
    )


def check_colours(known: Json, picture: Picture) -> None:
    """Colours in front and behind, their shades and contrast."""
    pixels = widened(picture.pixels)
    front, back = pixels[picture.foreground], pixels[~picture.foreground]
    fore, behind = shares(front), shares(back)
    for word in [known[fact] for fact in ("colour", "mostly") if known.get(fact, MANY) != MANY]:
        assert fore[word] >= 0.45, (known, fore)
    if known.get("colour") == MANY:
        assert np.sort(hues(front))[-3] > 0.02 and hues(front).max() < 0.85
    assert "background" not in known or behind[known["background"]] >= 0.45, (known, behind)
    assert "commonest" not in known or shares(pixels.reshape(-1, 3))[known["commonest"]] >= 0.12
    cloud = str(known.get("backdrop", "")).removesuffix("clouds").strip()
    assert not cloud or behind[cloud] >= 0.12
    if "contrast" in known:
        assert (luma(front) > luma(back)) == (known["contrast"] == "lighter")
    middle = {"red": 90, "green": 130, "blue": 100, "purple": 90, "grey": 128}
    for fact, word, level in (
        ("shade", known.get("colour"), luma(front)),
        ("behind", known.get("background"), luma(back)),
    ):
        if fact in known:
            assert (level < middle[str(word)]) == (known[fact] == "dark"), (known, level)


def check_contour(known: Json, params: Any, picture: Picture) -> None:
    """Waves from the spectrum of what pushes the ring, and an empty disc for a hole."""
    if "waves" in known:
        spectrum = np.abs(np.fft.rfft(visual_atoms.ring(params)[4]))[1:]
        waves = [int(n) for n in str(known["waves"]).split(" and ")]
        assert set(waves) <= set(np.argsort(spectrum)[-2:] + 1)
        assert np.isclose(spectrum[waves[0] - 1], params.vertices / 4, rtol=0.01)
    if "hole" in known:
        across, down = (np.abs(np.arange(SIZE) + 0.5 - c * SIZE / 512) for c in params.centre)
        disc = np.hypot(across[None], down[:, None]) < 16 * SIZE / 512
        assert disc.any() and not picture.foreground[disc].any()


def check_scene(known: Json, params: Scene, picture: Picture) -> None:
    """Every counted figure shows: without it the picture is another."""
    if known["family"] == "fractals":
        renderer = recipe("fractals_multi")
        figures = [params.figures[:i] + params.figures[i + 1 :] for i in range(len(params.figures))]
        others = [renderer.dataset.module.render(replace(params, figures=f), SIZE).pixels for f in figures]
        shown = sum(int((other != picture.pixels).any(axis=2).sum() >= 4) for other in others)
        assert shown == known["count"] if "count" in known else shown >= 2


def check_fractal(known: Json, params: Any, picture: Picture) -> None:
    """The colour of the sparsest quarter of its pixels, and black lines that take pixels away."""
    if "thin" in known:
        counts = fractals.density(params, SIZE)[picture.foreground]
        sparse = picture.pixels[picture.foreground][counts <= np.quantile(counts, 0.25)]
        assert shares(sparse)[known["thin"]] >= 0.3, known
    if "cut" in known:
        whole = fractals.render(replace(params, lines=0), SIZE)
        assert (whole.foreground & ~picture.foreground).sum() >= 8


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name not in FEW else name for name in SETS]
)
def test_what_is_said_holds_against_the_pixels(name: str) -> None:
    renderer = recipe(name)
    stated: set[str] = set()
    for index in range(60 if name != "fractaldb" else 24):
        params, picture = renderer.render(index)
        sample = as_json(renderer.describe(index, params, picture))
        known = parse(sentences(sample)[1])
        stated |= known.keys()
        check_colours(known, picture)
        if known["family"] not in ("shader", "scene"):
            check_frame(known, picture)
        if known["family"] == "contour":
            check_contour(known, params, picture)
        elif name == "fractals_multi":
            check_scene(known, params, picture)
        elif renderer.dataset.family == "fractals":
            check_fractal(known, params, picture)
    assert stated >= {"family", "colour", "background"}


GOLDEN = {
    ("visual_atoms", 22): (
        "a grey contour on a black background",
        "a little clean gray contour of ten waves in the lower part on a black background, "
        "covering less than a twentieth of the picture, round an empty hole, made of nineteen closed lines",
    ),
    ("fractals", 25): (
        "a fractal figure on a green background",
        "a large fractal figure on green, its thinnest parts red, with clouds behind, "
        "darker than what lies behind, reaching the bottom, left and right edges, "
        "made of three copies of itself",
    ),
    ("fractals_without_color", 50): (
        "a grey fractal on a grey background",
        "a large grey fractal figure against grey, with clouds behind, brighter than the surroundings, "
        "reaching the top, left and right edges, made of three copies of itself",
    ),
    ("fractals_without_background", 25): (
        "a red fractal figure on a black background",
        "a large dark red fractal figure on black, reaching the bottom, left and right edges, "
        "made of three copies of itself",
    ),
    ("fractals_corrupted_contour", 25): (
        "a red fractal figure on a black background",
        "a large dark red fractal figure on black, crossed by black lines, "
        "touching the bottom, left and right edges, made of three copies of itself",
    ),
    ("fractals_multi", 8): (
        "four multicoloured fractal figures against green",
        "four colourful fractals against a green background, with clouds behind, "
        "dimmer than the surroundings, covering about a quarter of the picture, "
        "reaching the top and left edges",
    ),
    ("fractaldb", 22): (
        "a grey speckled fractal on a black background",
        "a big gray grainy fractal on a black background, thickly strewn, made of two copies of itself",
    ),
}


@pytest.mark.parametrize(("name", "index"), GOLDEN)
def test_golden_sentences(name: str, index: int) -> None:
    renderer = recipe(name)
    sample = as_json(renderer.describe(index, *renderer.render(index)))
    assert tuple(sentences(sample)) == GOLDEN[name, index]


def test_golden_sentences_of_shaders() -> None:
    """The stats are constants, because the pixels of shaders depend on the renderer."""
    params = {"plan": "views", "blocks": ["skyline", "scan_lines"]}
    yellow, black = side(200, 190, 90), side(6, 6, 14)
    composed = sample_json("shaders", params, fill=0.2, fore=yellow, back=black, index=58)
    assert sentences(composed) == [
        "a yellow shader picture of a view on a black background",
        "a yellow shader image of a view against a black background, made from a skyline at night, "
        "with scan lines",
    ]
    red, blue = side(*RED), side(*BLUE)
    imported = sample_json("imported_shaders", IMPORTED, fill=0.7, fore=red, back=blue, index=3)
    assert sentences(imported) == [
        "a red shader image",
        "a red shader picture, its commonest colour blue",
    ]


def test_a_program_is_described_by_the_plan_and_blocks_that_it_has() -> None:
    assert set(shader_words.KINDS) == {plan.__name__.strip("_") for plan in PLANS}
    for words in (shader_words.MOTIFS, shader_words.BENDS, shader_words.FINISHES):
        assert words.keys() <= blocks().keys() and len(set(words.values())) == len(words)
    params = {"plan": "tilings", "blocks": ["kaleidoscope", "hexagons", "heart", "print", "halftone"]}
    known = facts(sample_json("shaders", params, fill=0.3, fore=side(*RED), back=side(*BLACK)))
    assert only(known, "kind", "motif", "second", "bend", "finish") == {
        "kind": "tiling",
        "motif": "hexagons",
        "second": "hearts",
        "bend": "mirrored in a kaleidoscope",
        "finish": "printed in dots",
    }


def test_families_are_those_that_samples_get() -> None:
    assert set(FAMILIES) == set(next(s for s in SLOTS if s.fact == "family").phrases)
    assert FORMS == ("short", "long")
    imported = facts(sample_json("imported_shaders", IMPORTED, fill=0.3, fore=side(*RED), back=side(*BLACK)))
    assert imported == {"family": "shader", "colour": "red", "background": "black"}
