"""`positives`: should StableRep call pictures of a class alike, of a caption, or those drawn of a prompt?

All sets have 6,000 pictures of flat scenes, and all runs see 48,000. formula-32 draws six pictures of each of
1,000 prompts, at one guidance scale or at five in turn. CIFAR-10 is expected in ~/cifar10.
"""

from collections.abc import Sequence

from evaluate.experiments.parts import probed
from evaluate.experiments.table import OUT, Arm, Contrast, Experiment, Step, step
from evaluate.experiments.tables.features import LINEAR, OTHERS, SEEN

PROMPTS, EACH = 1_000, 6
SCALES = ("1", "2", "3", "5", "8", "1,2,3,5,8")

_STABLEREP = ("stablerep-32", 0.011)


def rendered() -> Step:
    """Returns a set of flat scenes."""
    words = ("synth", "shards", "scenes_flat", "--n", PROMPTS * EACH, "--size", 32, "--workers", 0)
    return step(*words, "--out", OUT, seconds=30, megabytes=15)


def drawn(guidance: str) -> Step:
    """Returns a set that formula-32 draws of texts of these scenes."""
    words = ("train", "synthesise", "formula-32", "--on", rendered(), "--prompts", PROMPTS)
    given = ("--per-prompt", EACH, "--guidance", guidance, "--draw", "steps=12", "--device", "cpu")
    return step(*words, *given, "--out", OUT, seconds=1_200, megabytes=15, lasts=True)


def on_renders(name: str, preset: str, seconds: float, *changes: str) -> Arm:
    """Returns the arm of a preset on the rendered scenes."""

    def steps(seed: int) -> Sequence[Step]:
        return [probed(preset, [rendered()], SEEN, seconds, seed, *changes)]

    return Arm(name, steps)


def on_drawn(guidance: str) -> Arm:
    """Returns the arm of StableRep on pictures of one prompt, drawn at guidance scales."""

    def steps(seed: int) -> Sequence[Step]:
        preset, seconds = _STABLEREP
        return [probed(preset, [drawn(guidance)], SEEN, seconds, seed)]

    return Arm(f"drawn-{guidance.replace(',', '-')}", steps)


EXPERIMENT = Experiment(
    "positives",
    "Which pictures should StableRep call alike: those of a class, of a caption, or drawn of a prompt?",
    (
        on_renders("simclr", "simclr-32", 0.022),
        on_renders("class", *_STABLEREP),
        on_renders("caption", *_STABLEREP, "training.positives=caption"),
        *map(on_drawn, SCALES),
    ),
    LINEAR,
    others=OTHERS,
    contrasts=tuple(Contrast(f"drawn-{scale.replace(',', '-')}", "class") for scale in SCALES),
    seeds=1,
    limits="A class of flat scenes is a kind in a colour.",
)
