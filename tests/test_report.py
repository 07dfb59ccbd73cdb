"""The conclusion of the demo's report."""

import pytest

from evaluate.experiments.demo.figures import DemoFigures, Point, conclusion, swing

UNTRAINED = Point(32, 500.0, 5.0)


def at(value: float, images: int = 20_000, error: float = 5.0) -> Point:
    return Point(images, value, error)


UNKNOWN = "the figures do not show whether pre-training helped"
BETTER_SPENT = "the same computing time was better spent on emoji."


@pytest.mark.parametrize(
    ("scratch", "longer", "part"),
    [
        (
            400,
            350,
            "a lower KID than the run from scratch (300 ± 10 against 400 ± 10). It also has a lower KID than",
        ),
        (400, 350, "So pre-training was worth more here than the same computing time spent on emoji."),
        (
            400,
            305,
            "But it has a KID that does not measurably differ from that of the run from scratch after 50,000",
        ),
        (400, 305, "a head start, worth about as much as the same computing time spent on emoji."),
        (400, 200, "But it has a higher KID than the run from scratch after 50,000 emoji (200 ± 10)"),
        (400, 200, f"So pre-training is a head start, but {BETTER_SPENT}"),
        (310, 350, f"So at equal emoji {UNKNOWN}, and the longer run has become worse than both."),
        (
            310,
            305,
            "differ from that of the run from scratch (300 ± 10 against 310 ± 10). It also has a KID that",
        ),
        (310, 305, f"So {UNKNOWN}."),
        (310, 200, f"So at equal emoji {UNKNOWN}, and {BETTER_SPENT}"),
        (
            200,
            350,
            "So pre-training did harm at equal emoji, though the longer run has become worse than both.",
        ),
        (200, 305, "did harm at equal emoji, and the longer run is no better than the pre-trained one."),
        (200, 150, f"So pre-training did harm, and {BETTER_SPENT}"),
    ],
)
def test_the_conclusion_follows_from_the_ends_of_the_curves(scratch: float, longer: float, part: str) -> None:
    text = conclusion(at(300), at(scratch), at(longer, 50_000), untrained=UNTRAINED)
    assert part in text and text.count(". ") == 2 and text.endswith(".")


def test_two_figures_are_equal_where_the_difference_lies_in_its_interval() -> None:
    inside, outside = (at(300 + 1.96 * 5 * 2**0.5 + more) for more in (-0.01, 0.01))
    near, far = (conclusion(at(300), p, at(200), untrained=UNTRAINED) for p in (inside, outside))
    assert "does not measurably differ from that of the run from scratch (" in near
    assert "a lower KID than the run from scratch (" in far


@pytest.mark.parametrize(
    ("finetuned", "scratch", "who"),
    [(495, 300, "the pre-trained run (495 ± 10) is"), (300, 620, "the run from scratch (620 ± 10) is")],
)
def test_nothing_is_compared_before_it_is_better_than_no_training(
    finetuned: float, scratch: float, who: str
) -> None:
    text = conclusion(at(finetuned), at(scratch), at(100, 50_000), untrained=UNTRAINED)
    assert text.startswith("Pre-training cannot be judged yet. After 20,000 emoji, ")
    assert who in text and "never trained (500 ± 10)" in text


def test_both_may_be_no_better_than_no_training() -> None:
    text = conclusion(at(600), at(505), at(100), untrained=UNTRAINED)
    assert "the pre-trained run (600 ± 10) and the run from scratch (505 ± 10) are no better" in text


def test_the_conclusion_allows_for_the_variation_between_checkpoints() -> None:
    assert swing([[at(1), at(3)], [at(5), at(4), at(4)]]) == pytest.approx(((4 + 1 + 0) / 6) ** 0.5)
    ends = [at(560, 0), at(300)]
    calm = DemoFigures(UNTRAINED, ends, [at(400), at(390, 30_000)], 20_000, 400, 400, [])
    assert calm.same == at(400)
    assert "a lower KID than the run from scratch (300 ± 17 against 400 ± 17)" in calm.conclusion
    scratch = [at(300, 10_000), at(400), at(320, 30_000)]
    wild = DemoFigures(at(700), ends, scratch, 20_000, 400, 400, [])
    assert f"So {UNKNOWN}." in wild.conclusion
