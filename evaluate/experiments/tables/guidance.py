"""`guidance`: guidance and dropped texts below 10 million parameters, after two CPU-minutes."""

from collections.abc import Sequence

from evaluate.experiments.parts import WORDS, formulas, kernel_distance, live, obedience
from evaluate.experiments.table import Arm, Experiment, Hypothesis, Reading, Step

IMAGES = 11_000  # two CPU-minutes
DROPPED = (0.0, 0.1, 0.5)  # share of the samples without their text
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
HELD_OUT_SEED = 29  # of the pictures that drawn ones are compared with


def arm(dropped: float, guidance: float) -> Arm:
    """Returns the arm of one dropout and one weight of guidance. Arms of one dropout share their run."""

    def steps(seed: int) -> Sequence[Step]:
        changes = ("training.drop_words=0", f"training.drop_both={dropped}")
        run = live(WORDS, "scenes_flat", IMAGES, seed, "blend:1,plain", *changes)
        real, draw = formulas("scenes_flat", 2_000, HELD_OUT_SEED).shards, f"guidance={guidance}"
        return [obedience(run, 3, "facts", draw), kernel_distance(run, "words", "kd", on=real, draw=[draw])]

    return Arm(f"drop-{dropped}-w-{guidance}", steps)


def right(name: str, fact: str) -> Reading:
    """Returns the share of right facts of one type."""
    return Reading(name, f"obedience: {fact}", "last", {"step": "facts", "split": "all"}, ratio=False)


EXPERIMENT = Experiment(
    "guidance",
    "Which guidance and which share of dropped texts suit a model of 1.6 million parameters?",
    tuple(arm(dropped, guidance) for dropped in DROPPED for guidance in GUIDANCE),
    right("colours right", "colour"),
    others=(
        Reading("KD", "KD (efficientnet-lite0)", "last", {"step": "kd"}),
        right("kinds right", "kind"),
    ),
    hypotheses=(
        Hypothesis("H1", "drop-0.1-w-3.0", "drop-0.1-w-1.0", "higher"),
        Hypothesis("H2", "drop-0.1-w-3.0", "drop-0.0-w-3.0", "higher"),
    ),
    seeds=3,
    limits="The exact test needs more pairs: with three seeds, read the intervals. Kinds need more training.",
)
