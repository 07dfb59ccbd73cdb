"""`worth-words`: the second pilot of `worth`, a larger model that reads words, after three kinds of pictures.

Scenes, fractals and noise are seen equally long, so the pictures and their words differ, and the length does
not. Where real pictures are many, the curves may cross.
"""

from collections.abc import Callable, Sequence

from evaluate.experiments.parts import EMOJI, WORDS, grid, live, loss, tuned
from evaluate.experiments.table import Arm, Exchange, Experiment, Hypothesis, Reading, Step

LOOKS = 24
PRETRAINED = 84_000  # pictures seen, about 15 minutes of one thread
# The run passes its minimum with few pictures, and ends while still falling with all.
LENGTHS = {128: 24_000, 512: 48_000, EMOJI: 96_000}
TEXTS = {"scenes_flat": "blend:1,plain", "fractals": "blend:1", "noise": "blend:1"}


def arm(series: str, n: int, source: Callable[[int], Step | None]) -> Arm:
    """Returns an arm at n real pictures."""
    images = LENGTHS[n]

    def steps(seed: int) -> Sequence[Step]:
        run = tuned(WORDS, source(seed), n, images, images // LOOKS, seed)
        return [loss(run, "words", LOOKS), grid(run, "words")]

    return Arm(f"{series}-{n}", steps, n, series)


def after(dataset: str) -> Callable[[int], Step]:
    """Returns the pre-training of each seed."""
    return lambda seed: live(WORDS, dataset, PRETRAINED, seed, TEXTS[dataset])


EXPERIMENT = Experiment(
    "worth-words",
    "With words, where do pre-training and training from scratch cross, and do pictures or length decide?",
    (
        *(arm("scratch", n, lambda seed: None) for n in LENGTHS),
        *(arm(dataset, n, after(dataset)) for dataset in TEXTS for n in LENGTHS),
    ),
    Reading("best held-out loss", "held-out loss"),
    hypotheses=(Hypothesis("H1", "scenes_flat-128", "scratch-128"),),
    exchanges=tuple(Exchange(dataset, n, "scratch") for dataset in TEXTS for n in (128, 512)),
    seeds=3,
    limits="The exact test needs five pairs: with three seeds, read the intervals.",
)
