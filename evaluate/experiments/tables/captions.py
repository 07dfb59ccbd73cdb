"""`captions`: lengths and shares of synthetic captions on flat scenes (Betker et al., 2023, in small)."""

from collections.abc import Sequence

from evaluate.experiments.parts import WORDS, live, obedience
from evaluate.experiments.table import Arm, Experiment, Hypothesis, Reading, Step

IMAGES = 84_000  # about eight minutes of one thread
BLENDS = {
    "truth": "blend:0",
    "short-95": "blend:0.95,short",
    "any-95": "blend:0.95",
    "long-80": "blend:0.8,long",
    "long-90": "blend:0.9,long",
    "long-95": "blend:0.95,long",
    "long-100": "blend:1,long",
}
PROMPTS = {"short": 2, "long": 6}  # facts


def arm(name: str) -> Arm:
    """Returns an arm, scored with short and with long prompts."""

    def steps(seed: int) -> Sequence[Step]:
        run = live(WORDS, "scenes_flat", IMAGES, seed, BLENDS[name])
        return [obedience(run, facts, label) for label, facts in PROMPTS.items()]

    return Arm(name, steps)


def right(fact: str, prompts: str, split: str = "all") -> Reading:
    """Returns the share of a type of facts that is right."""
    held = "" if split == "all" else f", {split.replace('_', '-')} combinations"
    where = {"step": prompts, "split": split}
    return Reading(
        f"{fact}s right, {prompts} prompts{held}", f"obedience: {fact}", "last", where, ratio=False
    )


EXPERIMENT = Experiment(
    "captions",
    "Which captions teach a model to follow its prompts: their length, and the share of synthetic ones?",
    tuple(map(arm, BLENDS)),
    right("colour", "long"),
    others=tuple(
        right(fact, prompts, split)
        for prompts in PROMPTS
        for fact in ("colour", "kind")
        for split in ("all", "held_out")
        if (fact, prompts, split) != ("colour", "long", "all")
    ),
    hypotheses=(
        Hypothesis("H1", "long-95", "truth", "higher"),
        Hypothesis("H2", "long-95", "short-95", "higher"),
    ),
    seeds=3,
    limits="The ground truth of a scene is its bare name. Kinds need more training than this.",
)
