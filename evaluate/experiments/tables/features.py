"""`features`: which way of learning features from formula pictures, by a linear probe on CIFAR-10.

A vision transformer of .7 million parameters sees 48,000 fractals and shaders, in `stablerep-long` twice as
many: SimCLR sees two views of a picture, StableRep one, so this arm sees as many views as `simclr`. `random`
has the first weights. CIFAR-10 is expected in ~/cifar10, in any form that `python -m data cifar10` reads.
"""

from collections.abc import Sequence

from evaluate.experiments.table import OUT, Arm, Experiment, Hypothesis, Inside, Reading, Step, settings, step

PICTURES = 24_000  # of each family
SEEN = 48_000  # pictures: one epoch of both families
PROBED = 20_000  # training pictures of the probes
_STILL = ("training.lr=0", "training.warm_up=0", "training.decay_to=0")  # the first weights stay

_SIDE = ("--size", 32, "--workers", 0)
_RIDGE = "probe accuracy, ridge"


def family(name: str) -> Step:
    """Returns a set of formula pictures."""
    return step("synth", "shards", name, "--n", PICTURES, *_SIDE, "--out", OUT, seconds=100, megabytes=60)


def cifar(split: str) -> Inside:
    """Returns a split of CIFAR-10."""
    return (
        step("data", "cifar10", "--root", "~/cifar10", *_SIDE, "--out", OUT, seconds=60, megabytes=150)
        / split
    )


def arm(
    name: str, preset: str, seconds: float, *changes: str, images: int = SEEN, seeds: int | None = None
) -> Arm:
    """Returns the arm of a preset with changes. `seconds` are CPU seconds of a picture."""

    def steps(seed: int) -> Sequence[Step]:
        given = settings(*changes, f"training.seed={seed}", f"run.checkpoint={images}", "run.workers=0")
        data = ("--on", family("fractals"), "--on", family("shaders"))
        form = ("--precision", "fp32", "--device", "cpu", "--out", OUT)
        cost, command = 10 + images * seconds, ("train", "pretrain", preset)
        run = step(*command, *data, "--images", images, *given, *form, seconds=cost, megabytes=20)
        sets = ("--train", cifar("train"), "--test", cifar("test"), "--n", PROBED)
        probes = ("--probes", "ridge,knn,few", "--baselines", "none", "--device", "cpu")
        return [step("evaluate", "probe", run, *sets, *probes, seconds=150)]

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
    Reading("linear probe", _RIDGE, "last", ratio=False),
    others=(
        Reading("k-NN", "probe accuracy, k-NN", "last", ratio=False),
        Reading("10-shot", "probe accuracy, 10-shot", "last", ratio=False),
    ),
    hypotheses=(
        Hypothesis("H1", "stablerep", "simclr", "higher"),
        Hypothesis("H2", "simclr", "random", "higher"),
    ),
    seeds=3,
    limits="Three pairs cannot reach 5 % in the exact test. Groups of 2 and 4 have one seed.",
)
