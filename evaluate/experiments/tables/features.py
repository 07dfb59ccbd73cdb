"""`features`: which way of learning features from formula pictures, by a linear probe on CIFAR-10.

A vision transformer of .7 million parameters sees 48,000 fractals and shaders, in `stablerep-long` twice as
many: SimCLR sees two views of a picture, StableRep one, so this arm sees as many views as `simclr`. `random`
has the first weights. Both families have 1,000 classes of 24 pictures. CIFAR-10 is expected in ~/cifar10, in
any form that `python -m data cifar10` reads.
"""

from collections.abc import Sequence

from evaluate.experiments.parts import probed
from evaluate.experiments.table import OUT, Arm, Experiment, Hypothesis, Reading, Step, step

PICTURES, CLASSES = 24_000, 1_000  # of each family
SEEN = 48_000  # pictures: one epoch of both families
_STILL = ("training.lr=0", "training.warm_up=0", "training.decay_to=0")  # the first weights stay

_SIDE = ("--size", 32, "--workers", 0)

LINEAR = Reading("linear probe", "probe accuracy, ridge", "last", ratio=False)
OTHERS = (
    Reading("k-NN", "probe accuracy, k-NN", "last", ratio=False),
    Reading("10-shot", "probe accuracy, 10-shot", "last", ratio=False),
)


def family(name: str) -> Step:
    """Returns a set of formula pictures."""
    classes = ("--set", f"classes={CLASSES}")
    words = ("synth", "shards", name, "--n", PICTURES, *classes, *_SIDE)
    return step(*words, "--out", OUT, seconds=100, megabytes=60)


def arm(
    name: str, preset: str, seconds: float, *changes: str, images: int = SEEN, seeds: int | None = None
) -> Arm:
    """Returns the arm of a preset with changes, on fractals and shaders."""

    def steps(seed: int) -> Sequence[Step]:
        sets = [family("fractals"), family("shaders")]
        return [probed(preset, sets, images, seconds, seed, *changes)]

    return Arm(name, steps, seeds=seeds)


EXPERIMENT = Experiment(
    "features",
    "Which way of learning features from formula pictures serves CIFAR-10 best?",
    (
        arm("random", "simclr-32", 0.022, *_STILL, images=240),
        arm("simclr", "simclr-32", 0.022),
        arm("stablerep", "stablerep-32", 0.011),
        arm("stablerep-long", "stablerep-32", 0.011, f"training.decay_to={2 * SEEN}", images=2 * SEEN),
        arm("mae", "mae-32", 0.008),
        arm("group-2", "stablerep-32", 0.011, "training.group=2", seeds=1),
        arm("group-4", "stablerep-32", 0.011, "training.group=4", seeds=1),
    ),
    LINEAR,
    others=OTHERS,
    hypotheses=(
        Hypothesis("H1", "stablerep", "simclr", "higher"),
        Hypothesis("H2", "simclr", "random", "higher"),
    ),
    seeds=3,
    limits="Three pairs cannot reach 5 % in the exact test. Groups of 2 and 4 have one seed.",
)
