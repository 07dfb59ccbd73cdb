"""The command of the demo."""

import contextlib
import json
import time
from pathlib import Path
from typing import Annotated

from evaluate.experiments.demo.plan import ENCODER, Plan
from synth import console, options

_USUAL = Plan()
_EXAMPLE = "python -m evaluate.experiments.demo --out runs/demo"

app = console.app("", _EXAMPLE)


def main() -> None:
    """Runs `python -m evaluate.experiments.demo`."""
    console.run(app, "python -m evaluate.experiments.demo")


@app.command(epilog=console.epilog(_EXAMPLE))
def demo(
    out: Annotated[str, options.place("--out", "DIR", "Output folder.")] = "runs/demo",
    pretraining: Annotated[
        int, options.integer("--pretraining", "Formula pictures seen in pre-training.")
    ] = _USUAL.pretraining,
    finetuning: Annotated[
        int, options.integer("--finetuning", "Emoji seen in fine-tuning.")
    ] = _USUAL.finetuning,
    pictures: Annotated[
        int, options.integer("--pictures", "Pictures to render of each family.")
    ] = _USUAL.pictures,
    size: Annotated[int, options.integer("--size", "Pixels a side: 16, 32, 64 or 128.")] = _USUAL.size,
    font: Annotated[
        str | None,
        options.place(
            "--font", "FILE", "The colour font.  [default: that of Debian's fonts-noto-color-emoji]"
        ),
    ] = None,
    encoder: Annotated[
        str, options.place("--encoder", "NAME", "Encoder of the captions, as in `caption captions --help`.")
    ] = ENCODER,
    measured: Annotated[
        int, options.integer("--measured", "Pictures to draw of each checkpoint for its metrics.")
    ] = _USUAL.measured,
) -> None:
    """Runs the four stages once, on two CPU cores in less than ten minutes. Writes the page OUT/report.html.

    The stages are formula pictures, captions, pre-training, and fine-tuning on emoji, compared with training
    from scratch. The command is idempotent and resumable: stop it at any time and run it again."""
    from evaluate.experiments.demo import course

    plan = Plan(
        pretraining=pretraining,
        finetuning=finetuning,
        pictures=pictures,
        size=size,
        font=font,
        encoder=encoder,
        measured=measured,
    )
    begun, place = time.perf_counter(), Path(out)
    with contextlib.closing(course.run(plan, place)) as lines:
        for line in lines:
            console.note(line)
    figures = json.loads((place / course.FIGURES).read_text(encoding="utf-8"))
    seconds = round(time.perf_counter() - begun, 1)
    console.show({"report": str(place / course.PAGE), "seconds": seconds, "shows": figures["sentence"]})
