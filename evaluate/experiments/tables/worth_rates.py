"""`worth-rates`: the learning rates of `worth`, from scratch and after fractals, on other seeds."""

from collections.abc import Sequence

from evaluate.experiments.parts import VECTOR, augmented, loss, tuned
from evaluate.experiments.table import Arm, Experiment, Reading, Step
from evaluate.experiments.tables.worth import LOOKS, SHORT, after, scratch

FIRST = 100  # the first seed
N = 64  # real pictures, as in H1 of worth
SOURCES = {"": scratch, "fractals-": after("fractals", SHORT)}
# Times the preset's rates. At first three, from scratch; more while the highest was best.
FACTORS = {"half": 0.5, "plain": 1, "double": 2, "quadruple": 4, "octuple": 8, "sixteenfold": 16}


def arm(source: str, rate: str) -> Arm:
    """Returns an augmented arm at one rate."""

    def steps(seed: int) -> Sequence[Step]:
        start, changes = SOURCES[source](FIRST + seed), augmented(FACTORS[rate])
        run = tuned(VECTOR, start, N, LOOKS * 12 * N, 12 * N, FIRST + seed, *changes)
        return [loss(run, "vector", LOOKS)]

    return Arm(f"{source}{rate}-{N}", steps, N, rate)


EXPERIMENT = Experiment(
    "worth-rates",
    "Which learning rate suits augmented runs best, from scratch and after fractals?",
    (
        *(arm("", rate) for rate in FACTORS),
        *(arm("fractals-", rate) for rate in ("double", "quadruple", "octuple")),
    ),
    Reading("best held-out loss", "held-out loss"),
    seeds=2,
)
