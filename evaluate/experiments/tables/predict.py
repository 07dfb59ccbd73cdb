"""`predict`: can the transfer of a family be foreseen from cheap statistics of its pictures?

The arms are those of `families`, and further sets. A figure foresees the order of the arms if the permutation
test of its rank correlation with the held-out loss is significant after Holm, over all figures.
"""

from collections.abc import Sequence

from evaluate.experiments.parts import VECTOR, distance, emoji, formulas, loss, pretrained, statistics, tuned
from evaluate.experiments.table import Arm, Experiment, Reading, Step
from evaluate.experiments.tables.families import EVERY, LOOKS, PRETRAINED, N
from evaluate.experiments.tables.families import SETS as FAMILIES
from evaluate.statistics import NAMES

SETS = (*FAMILIES, "scenes_flat", "fractals_multi", "fractaldb")
DISTANCE = Reading("distance to the target", "KD (nano)", "last")


def arm(name: str) -> Arm:
    """Returns the arm of a data set."""

    def steps(seed: int) -> Sequence[Step]:
        data = formulas(name)
        run = tuned(VECTOR, pretrained(VECTOR, data, PRETRAINED, seed), N, LOOKS * EVERY, EVERY, seed)
        return [loss(run, "vector", LOOKS), statistics(data), distance(data, emoji())]

    return Arm(name, steps, N)


CHEAP = (*(Reading(name, name, "last") for name in NAMES), DISTANCE)
EXPERIMENT = Experiment(
    "predict",
    "Can the transfer of a family be foreseen from cheap statistics of its pictures?",
    tuple(map(arm, SETS)),
    Reading("best held-out loss", "held-out loss"),
    others=CHEAP,
    predictors=tuple(reading.name for reading in CHEAP),
    seeds=3,
    limits="Intervals are jackknives over the arms. Eleven arms show strong relations alone.",
)
