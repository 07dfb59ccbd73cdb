"""`worth-rates`: the learning rate of the augmented opponent in `worth`, on other seeds than those."""

from collections.abc import Sequence

from evaluate.experiments.parts import VECTOR, loss, tuned
from evaluate.experiments.table import Arm, Experiment, Reading, Step
from evaluate.experiments.tables.worth import LOOKS

FIRST = 100  # the first seed
N = 64  # real pictures, as in H1 of worth
RATES = {  # of AdamW and of Muon; the last one was added when double was the best of three
    "half": ("0.001", "0.002"),
    "plain": ("0.002", "0.004"),
    "double": ("0.004", "0.008"),
    "quadruple": ("0.008", "0.016"),
}


def arm(name: str) -> Arm:
    """Returns the augmented arm of one rate."""
    adamw, muon = RATES[name]
    changes = ("data.mirror=true", f"training.lr={adamw}", f"training.muon_lr={muon}")

    def steps(seed: int) -> Sequence[Step]:
        run = tuned(VECTOR, None, N, LOOKS * 12 * N, 12 * N, FIRST + seed, *changes)
        return [loss(run, "vector", LOOKS)]

    return Arm(f"{name}-{N}", steps, N, name)


EXPERIMENT = Experiment(
    "worth-rates",
    "Which learning rate suits the augmented model from scratch best?",
    tuple(map(arm, RATES)),
    Reading("best held-out loss", "held-out loss"),
    seeds=2,
)
