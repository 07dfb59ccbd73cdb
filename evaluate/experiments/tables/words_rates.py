"""`words-rates`: which learning rate teaches words soonest, from nothing on flat scenes?"""

from collections.abc import Sequence

from evaluate.experiments.parts import WORDS, live, obedience, rates
from evaluate.experiments.table import Arm, Experiment, Step
from evaluate.experiments.tables.guidance import IMAGES, right

GUIDANCE = 1.5  # the best for colours after so many images, by `guidance`
FACTORS = {"half": 0.5, "plain": 1, "double": 2, "quadruple": 4}  # times the preset's rates


def arm(rate: str) -> Arm:
    """Returns the arm of one rate, with a tenth of the texts dropped, as the best of `guidance`."""

    def steps(seed: int) -> Sequence[Step]:
        changes = ("training.drop_words=0", "training.drop_both=0.1", *rates(FACTORS[rate]))
        run = live(WORDS, "scenes_flat", IMAGES, seed, "blend:1,plain", *changes)
        return [obedience(run, 3, "facts", f"guidance={GUIDANCE}")]

    return Arm(rate, steps)


EXPERIMENT = Experiment(
    "words-rates",
    "Which learning rate teaches the words of flat scenes soonest?",
    tuple(map(arm, FACTORS)),
    right("colours right", "colour"),
    others=(right("kinds right", "kind"),),
    seeds=3,
    limits="Rates are constant after the warm-up. After so few images colours are learned, and kinds hardly.",
)
