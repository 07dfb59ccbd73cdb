"""`worth`: at which number of real pictures does a model from scratch reach what a pre-trained one does?"""

from collections.abc import Callable, Sequence

from evaluate.experiments.parts import VECTOR, augmented, formulas, grid, loss, pretrained, tuned
from evaluate.experiments.table import Arm, Exchange, Experiment, Hypothesis, Reading, Step

LOOKS = 16  # three times the images of the minimum at the preset's rate; fixed before the first row
SHORT, LONG = 9_600, 96_000  # pictures seen in pre-training: 600 and 6,000 steps
# Times the preset's learning rates: the best of worth-rates from scratch and after fractals.
SCRATCH_RATE, TUNED_RATE = 8, 8


def arm(series: str, n: int, source: Callable[[int], Step | None], *changes: str) -> Arm:
    """Returns an arm at n real pictures, which sees 192 n of them."""
    every = 12 * n

    def steps(seed: int) -> Sequence[Step]:
        run = tuned(VECTOR, source(seed), n, LOOKS * every, every, seed, *changes)
        shown = [grid(run, "vector")] if n == 64 else []
        return [loss(run, "vector", LOOKS), *shown]

    return Arm(f"{series}-{n}", steps, n, series)


def scratch(seed: int) -> None:
    """Returns no run to start from."""


def after(dataset: str, images: int, *changes: str) -> Callable[[int], Step]:
    """Returns the pre-training of each seed."""
    return lambda seed: pretrained(VECTOR, formulas(dataset), images, seed, *changes)


EXPERIMENT = Experiment(
    "worth",
    "How many real pictures is pre-training on formulas worth?",
    (
        *(arm("scratch", n, scratch) for n in (32, 64, 128, 256)),
        *(arm("augmented", n, scratch, *augmented(SCRATCH_RATE)) for n in (32, 64, 128, 256)),
        *(arm("fractals", n, after("fractals", SHORT), *augmented(TUNED_RATE)) for n in (32, 64, 128)),
        # Added when xi's first rows favoured pseudo-captions with more noise.
        arm("fractals-xi-3", 64, after("fractals", SHORT, "data.xi=3"), *augmented(TUNED_RATE)),
        *(arm("noise", n, after("noise", SHORT), *augmented(TUNED_RATE)) for n in (32, 64, 128)),
        *(arm("fractals-long", n, after("fractals", LONG), *augmented(TUNED_RATE)) for n in (32, 64, 128)),
    ),
    Reading("best held-out loss", "held-out loss"),
    hypotheses=(Hypothesis("H1", "fractals-64", "augmented-64"),),
    exchanges=tuple(
        Exchange(series, n, "augmented")
        for series in ("fractals", "noise", "fractals-long")
        for n in (32, 64, 128)
    ),
    limits=(
        "The best point of a run is found on the same held-out emoji as its loss, for all arms alike."
        " Learning rates were chosen at 64 emoji, on two other seeds; those of scratch are the preset's."
    ),
)
