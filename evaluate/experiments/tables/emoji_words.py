"""`emoji-words`: formula-32, the shipped model, beside the same model from scratch, on emoji with words.

Runs on 128 emoji pass their least held-out loss. Runs on all 3,389 end while it still falls.
"""

from collections.abc import Iterator, Sequence

from evaluate.experiments.parts import EMOJI, WORDS, augmented, kernel_distance, loss, pairs, tuned
from evaluate.experiments.table import Arm, Experiment, Hypothesis, Reading, Step

SHIPPED = "formula-32"
LENGTHS = {128: (12_000, 12), EMOJI: (24_000, 6)}  # images seen, and looks at the held-out loss
_SOURCES = {"scratch": None, SHIPPED: SHIPPED}  # by series
_DETECTOR = "(efficientnet-lite0)"


def arm(series: str, n: int, source: str | None, *changes: str) -> Arm:
    """Returns the arm of n emoji, from the weights of a shipped model or from scratch."""
    images, looks = LENGTHS[n]

    def steps(seed: int) -> Sequence[Step]:
        run = tuned(WORDS, source, n, images, images // looks, seed, *changes)
        figures = kernel_distance(run, "words", "drawn", draw=["guidance=2.5"], metrics="kid,named")
        return [loss(run, "words", looks), figures, pairs(run, "words")]

    return Arm(f"{series}-{n}", steps, n, series)


def faster(factor: int, n: int) -> Iterator[Arm]:
    """Yields the arms of n mirrored emoji at `factor` times the preset's learning rates."""
    for series, source in _SOURCES.items():
        yield arm(f"{series}-times-{factor}", n, source, *augmented(factor))


EXPERIMENT = Experiment(
    "emoji-words",
    "With words, what are the shipped weights worth for 128 emoji, and for all of them?",
    (
        *(arm(series, n, source) for n in LENGTHS for series, source in _SOURCES.items()),
        *(each for n in LENGTHS for each in faster(4, n)),
    ),
    Reading("best held-out loss", "held-out loss"),
    others=(
        Reading("KD", f"KD {_DETECTOR}", "last", {"step": "drawn"}),
        Reading(
            "named right of ten", f"named right among 10 {_DETECTOR}", "last", {"step": "drawn"}, ratio=False
        ),
    ),
    hypotheses=tuple(
        Hypothesis(name, f"{SHIPPED}-{n}", f"scratch-{n}")
        for name, n in zip(("H1", "H2"), LENGTHS, strict=True)
    ),
    seeds=3,
    limits=(
        "The exact test needs five pairs: with three seeds, read the intervals. The hypotheses are about runs"
        " at the preset's learning rate, and from scratch a higher one is better at 128 emoji."
    ),
)
