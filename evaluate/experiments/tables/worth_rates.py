"""`worth-rates`: the learning rate of the augmented opponent in `worth`, on other seeds than those."""

from collections.abc import Sequence

from evaluate.experiments.parts import VECTOR, loss, tuned
from evaluate.experiments.table import Arm, Experiment, Reading, Step
from evaluate.experiments.tables.worth import LOOKS

FIRST = 100  # the first seed
RATES = {"half": ("0.001", "0.002"), "plain": ("0.002", "0.004"), "double": ("0.004", "0.008")}


def arm(name: str, n: int) -> Arm:
    """Returns the augmented arm of one rate."""
    adamw, muon = RATES[name]
    changes = ("data.mirror=true", f"training.lr={adamw}", f"training.muon_lr={muon}")

    def steps(seed: int) -> Sequence[Step]:
        run = tuned(VECTOR, None, n, LOOKS * 12 * n, 12 * n, FIRST + seed, *changes)
        return [loss(run, "vector", LOOKS)]

    return Arm(f"{name}-{n}", steps, n, name)


EXPERIMENT = Experiment(
    "worth-rates",
    "Which learning rate suits the augmented model from scratch best?",
    tuple(arm(name, n) for name in RATES for n in (64, 256)),
    Reading("best held-out loss", "held-out loss"),
    seeds=2,
)
