"""The sentence of the demo's report."""

import pytest

from evaluate.experiments.demo.figures import DemoFigures, Point, sentence, swing

UNTRAINED = Point(32, 500.0, 5.0)


def at(value: float, images: int = 20_000, error: float = 5.0) -> Point:
    return Point(images, value, error)


@pytest.mark.parametrize(
    ("scratch", "longer", "said"),
    [
        (400, 350, "a lower KID than the run from scratch (300 ± 10 against 400 ± 10), and a lower KID than"),
        (400, 350, "pre-training was worth more here than the same computing time spent on emoji."),
        (400, 305, "but a KID that cannot be told from that of the run from scratch carried on"),
        (
            400,
            305,
            "pre-training is a head start, worth about as much as the same computing time spent on emoji.",
        ),
        (400, 200, "but a higher KID than the run from scratch carried on until it had seen 50,000"),
        (400, 200, "pre-training is a head start, but the same computing time was better spent on emoji."),
        (
            310,
            350,
            "at equal emoji the figures do not tell whether pre-training helped, and the longer run has become worse than both",
        ),
        (
            310,
            305,
            "a KID that cannot be told from that of the run from scratch (300 ± 10 against 310 ± 10), and a KID that cannot",
        ),
        (310, 305, "the figures do not tell whether pre-training helped."),
        (
            310,
            200,
            "the figures do not tell whether pre-training helped, and the same computing time was better spent on emoji",
        ),
        (200, 350, "pre-training did harm at equal emoji, though the longer run has become worse than both"),
        (200, 305, "pre-training did harm at equal emoji, and the longer run has come no further"),
        (200, 150, "pre-training did harm, and the same computing time was better spent on emoji"),
    ],
)
def test_the_sentence_says_what_the_ends_of_the_curves_say(scratch: float, longer: float, said: str) -> None:
    told = sentence(at(300), at(scratch), at(longer, 50_000), untrained=UNTRAINED)
    assert said in told and told.count(". ") == 0 and told.endswith(".")


def test_two_figures_are_equal_where_the_difference_lies_in_its_interval() -> None:
    inside, outside = (at(300 + 1.96 * 5 * 2**0.5 + more) for more in (-0.01, 0.01))
    assert "cannot be told from that of the run from scratch (" in sentence(
        at(300), inside, at(200), untrained=UNTRAINED
    )
    assert "a lower KID than the run from scratch (" in sentence(
        at(300), outside, at(200), untrained=UNTRAINED
    )


@pytest.mark.parametrize(
    ("finetuned", "scratch", "who"),
    [(495, 300, "the pre-trained run (495 ± 10) is"), (300, 620, "the run from scratch (620 ± 10) is")],
)
def test_nothing_is_compared_before_it_is_better_than_no_training(
    finetuned: float, scratch: float, who: str
) -> None:
    told = sentence(at(finetuned), at(scratch), at(100, 50_000), untrained=UNTRAINED)
    assert (
        told.startswith("Nothing can be said of pre-training yet")
        and who in told
        and "never trained (500 ± 10)" in told
    )


def test_both_may_be_no_better_than_no_training() -> None:
    told = sentence(at(600), at(505), at(100), untrained=UNTRAINED)
    assert "the pre-trained run (600 ± 10) and the run from scratch (505 ± 10) are no better" in told


def test_the_sentence_allows_for_how_runs_are_thrown_about() -> None:
    assert swing([[at(1), at(3)], [at(5), at(4), at(4)]]) == pytest.approx(((4 + 1 + 0) / 6) ** 0.5)
    calm = DemoFigures(UNTRAINED, [at(560, 0), at(300)], [at(400), at(390, 30_000)], 20_000, 400, 400, [])
    assert (
        calm.same == at(400)
        and "(300 ± 17 against 400 ± 17)" in calm.sentence
        and "a lower KID" in calm.sentence
    )
    wild = DemoFigures(
        at(700), [at(560, 0), at(300)], [at(300, 10_000), at(400), at(320, 30_000)], 20_000, 400, 400, []
    )
    assert "the figures do not tell whether pre-training helped." in wild.sentence
