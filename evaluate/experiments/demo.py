"""The demo: the shipped model fine-tuned on emoji beside the same model from scratch, in ten minutes.

It is an experiment of one seed with four arms of equal length: 128 emoji and all of them, from formula-32
and from scratch. The length of the arms follows from the measured speed of this machine.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluate.experiments.pace import BATCH, LOOKS, PRESET, SHIPPED
from synth import console, options
from synth.errors import UserError
from synth.sets import targets

if TYPE_CHECKING:
    from evaluate.experiments.pace import Pace
    from evaluate.experiments.table import Arm, Experiment, Step

PROGRAM = "python -m evaluate.experiments.demo"
FEW = 128  # emoji
PROMPTS = (
    "a red star on white",
    "a blue ring on black",
    "a green triangle on yellow",
    "an orange cross on gray",
    "a red star left of a blue disc on white",
    "a yellow square above a purple disc on black",
    "a pink ring right of a green cross on white",
    "a white star below a red square on blue",
    "a red fractal on a blue background",
    "a green fractal on a black background",
    "a gray contour on black",
    "a purple shader picture",
)

_EXAMPLE = f"{PROGRAM} --minutes 3 --out runs/short"
_MORE = "evaluate/README.md#protocol-of-the-experiments"
_SHEET = ("--n", 1, "--seed", 7, "--text", "words", "--guidance", 2.5, "--steps", 18, "--device", "cpu")

app = console.app("", _EXAMPLE)


def main() -> None:
    """Runs `python -m evaluate.experiments.demo`."""
    console.run(app, PROGRAM)


@app.command(epilog=console.epilog(_EXAMPLE))
def demo(
    out: Annotated[str, options.place("--out", "DIR", "The folder of steps and report.")] = "runs/demo",
    minutes: Annotated[
        float | None,
        options.number(
            "--minutes",
            "Minutes of all training together.  [default: what ten minutes leave]",
            most=10_000,
            above=True,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        options.integer(
            "--workers", "Steps at once; 0: one by one, without Ray.  [default: one a core, at most 4]"
        ),
    ] = None,
) -> None:
    """Teaches formula-32 emoji beside the same model from scratch, and writes the page OUT/report.html.

    The command measures the speed of this machine and chooses the length of training. It is idempotent and
    resumable: stop it at any time and run it again."""
    from evaluate.experiments import command
    from evaluate.experiments.running import ExperimentRequest

    folder, count = targets.folder(out), _cores() if workers is None else workers
    pace = _pace(folder, minutes, count)
    console.note(str(pace))
    command.watch(ExperimentRequest(table(pace), folder, seeds=1, workers=count))


def table(pace: "Pace") -> "Experiment":
    """Returns the experiment with arms of this length."""
    from evaluate.experiments.parts import EMOJI, HELD_OUT
    from evaluate.experiments.table import Contrast, Experiment, Reading

    both = [(f"{n:,} emoji", n) for n in (FEW, EMOJI)]
    arms = [
        _arm(f"{source} on {name}", source, n, pace) for name, n in both for source in (SHIPPED, "scratch")
    ]
    return Experiment(
        "demo",
        f"What is {SHIPPED} worth to a model that learns emoji for minutes?",
        tuple(arms),
        Reading("best held-out loss", "held-out loss"),
        contrasts=tuple(Contrast(f"{SHIPPED} on {name}", f"scratch on {name}") for name, _ in both),
        seeds=1,
        keep=True,
        gpus=0.0,
        limits=(
            f"{pace} Losses are of {HELD_OUT} emoji that no arm sees. Both arms of a pair see the"
            " same emoji in the same order, at one learning rate; from scratch a higher one is better. The"
            " experiments answer such questions over several seeds, with intervals."
        ),
        link=_MORE,
    )


def _arm(name: str, source: str, n: int, pace: "Pace") -> "Arm":
    """Returns the arm of n emoji, from the shipped model or from scratch."""
    from evaluate.experiments import parts
    from evaluate.experiments.pace import sizes
    from evaluate.experiments.table import PICTURE, Arm, step

    images = pace.images
    decay = (f"training.decay_from={images * 7 // 10}", f"training.decay_to={images}")
    changes = (*sizes(), f"training.batch={BATCH}", f"training.warm_up={images // 10}", *decay)
    net = parts.Net(PRESET, changes, pace.seconds)
    shown = f"{SHIPPED} before it has seen an emoji"
    sheet = step("train", "sample", SHIPPED, *PROMPTS, *_SHEET, "--out", PICTURE, seconds=8, label=shown)

    def steps(seed: int) -> "Sequence[Step]":
        first = SHIPPED if source == SHIPPED else None
        run = parts.tuned(net, first, n, images, images // LOOKS, seed)
        return [*([sheet] if first else []), parts.loss(run, "words", LOOKS), parts.pairs(run, "words")]

    return Arm(name, steps, n, source)


def _pace(out: Path, minutes: float | None, workers: int) -> "Pace":
    """Returns the pace of the demo in a folder. Measures that of a new one.

    Raises UserError if the folder holds something else, or a demo of another length."""
    from evaluate.experiments import pace

    kept = pace.read(out) or _measured(out, minutes, workers)
    if minutes not in (None, kept.minutes):
        has = f"--minutes {kept.minutes:g}" if kept.minutes else "the default of --minutes"
        raise UserError(f"{out} holds a demo with {has}; leave --minutes out, or give another --out")
    return kept


def _measured(out: Path, minutes: float | None, workers: int) -> "Pace":
    """Measures the pace of a new demo, and keeps it in its folder. Raises UserError if this is no place."""
    from evaluate.experiments import pace, running

    _require_font()
    request = running.ExperimentRequest(table(pace.chosen(1.0, workers, minutes)), out, seeds=1)
    running.sort(request)
    with running.held(out):
        running.claim(request)
        # Another start may have measured it before this one had the lock.
        if kept := pace.read(out):
            return kept
        console.note("measuring the speed of this machine")
        new = pace.chosen(pace.measured(min(max(workers, 1), pace.ARMS)), workers, minutes)
        pace.write(out, new)
    return new


def _require_font() -> None:
    """Raises UserError if this machine has no emoji font, before minutes are spent."""
    from data.emoji import font

    if not any(Path(place).is_file() for place in font.PLACES):
        raise UserError(f"this machine has no emoji font; as root: apt-get install {font.NOTO}")


def _cores() -> int:
    """Returns the default of --workers: a core for each arm, and no Ray on a single core."""
    cores = len(os.sched_getaffinity(0))
    return min(cores, 4) if cores > 1 else 0


if __name__ == "__main__":
    main()
