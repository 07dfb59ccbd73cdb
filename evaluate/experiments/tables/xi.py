"""`xi`: the noise of pseudo-captions, equation 3: .25, 1 or 3?"""

from collections.abc import Sequence

from evaluate.experiments.parts import VECTOR, formulas, loss, pretrained, tuned
from evaluate.experiments.table import Arm, Experiment, Hypothesis, Reading, Step
from evaluate.experiments.tables.families import EVERY, LOOKS, PRETRAINED, N


def arm(xi: float) -> Arm:
    """Returns the arm of one size of the noise."""

    def steps(seed: int) -> Sequence[Step]:
        source = pretrained(VECTOR, formulas("fractals"), PRETRAINED, seed, f"data.xi={xi}")
        return [loss(tuned(VECTOR, source, N, LOOKS * EVERY, EVERY, seed), "vector", LOOKS)]

    return Arm(f"xi-{xi}", steps, N)


EXPERIMENT = Experiment(
    "xi",
    "How large should the noise of pseudo-captions be in pre-training?",
    tuple(map(arm, (0.25, 1, 3))),
    Reading("best held-out loss", "held-out loss"),
    hypotheses=(Hypothesis("H1", "xi-0.25", "xi-3"),),
    seeds=3,
    limits="The exact test needs five pairs: with three seeds, read the intervals.",
)
