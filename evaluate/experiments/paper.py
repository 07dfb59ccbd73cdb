"""The paper's own experiments at full size, as tables: tables 1 to 3, and the curves of figure 4.

The hours are those of the presets, for one A100. CLIP and Inception are downloaded once.
"""

from collections.abc import Sequence

from evaluate.experiments.table import OUT, PICTURE, Arm, Experiment, Hypothesis, Inside, Reading, Step, step

PICTURES = 1_000_000  # of each family; ten epochs are the preset's length
DRAWN = 30_000  # for FID
FAMILIES = (
    "visual_atoms",
    "fractals",
    "shaders",
    "fractals_without_color",
    "fractals_without_background",
    "fractals_corrupted_contour",
)
_CLIP = ("--encoder", "ViT-B-32/openai")
_HOUR = 3600.0


def experiment(real: str, root: str, held_out: str, hours: float, gigabytes: float) -> Experiment:
    """Returns the paper's experiment on a real set, from its owner's files in `root`."""

    def arm(name: str) -> Arm:
        def steps(seed: int) -> Sequence[Step]:
            source = _pretrained(name) if name in FAMILIES else "none"
            data = step("data", real, "--root", root, "--out", OUT, seconds=_HOUR, megabytes=20_000)
            words = ("--on", data / "train", "--captions", _captions(data / "train"), "--from", source)
            given = ("--fraction", 0.1, "--set", f"training.seed={seed}", "--out", OUT)
            command = ("train", "finetune", f"{real}-256", *words, *given)
            run = step(*command, seconds=hours * _HOUR, megabytes=gigabytes * 1000)
            on = ("--on", data / held_out, "--captions", _captions(data / held_out), "--n", DRAWN)
            figures = ("--metrics", "fid,is,kid", "--detector", "inception")
            return [step("evaluate", "curve", run, *on, *figures, "--out", PICTURE, seconds=2 * _HOUR)]

        return Arm(name, steps)

    return Experiment(
        f"paper-{real}".replace("_", "-"),
        f"Does pre-training on formulas help on a tenth of {real}, as in the paper's tables 1 to 3?",
        tuple(map(arm, ("scratch", *FAMILIES))),
        Reading("best FID", "FID", "last", key="best"),
        others=(Reading("best IS", "IS", "last", key="best"), Reading("last FID", "FID", "last", key="last")),
        hypotheses=(
            Hypothesis("H1", "fractals", "scratch"),
            Hypothesis("H2", "fractals", "fractals_without_color"),
        ),
        seeds=6,
        limits="As in the paper, each family has one pre-training, so intervals are those of fine-tuning.",
    )


def _pretrained(family: str) -> Step:
    """Returns the paper's pre-training on a family, one for all seeds of fine-tuning."""
    count = ("--n", PICTURES, "--out", OUT)
    shards = step("synth", "shards", family, *count, seconds=_HOUR / 3, megabytes=60_000)
    words = ("--on", shards, "--captions", _captions(shards), "--out", OUT)
    return step("train", "pretrain", "paper-256", *words, seconds=100 * _HOUR, megabytes=13_000)


def _captions(shards: Step | Inside) -> Step:
    return step("caption", "captions", shards, *_CLIP, "--out", OUT, seconds=_HOUR, megabytes=2_500)
