"""The command of the demo."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import click

from evaluate.experiments.demo.plan import ENCODER, Plan
from synth import console

_USUAL = Plan()


def main() -> None:
    """Runs `python -m evaluate.experiments.demo`."""
    console.run(command, "python -m evaluate.experiments.demo")


@click.command(epilog="\b\nExample:\n  python -m evaluate.experiments.demo --out runs/demo")
@click.option("--out", default="runs/demo", show_default=True, help="Output folder.")
@click.option(
    "--pretraining",
    default=_USUAL.pretraining,
    show_default=True,
    help="Formula pictures seen in pre-training.",
)
@click.option("--finetuning", default=_USUAL.finetuning, show_default=True, help="Emoji seen in fine-tuning.")
@click.option(
    "--pictures", default=_USUAL.pictures, show_default=True, help="Pictures to render of each family."
)
@click.option("--size", default=_USUAL.size, show_default=True, help="Pixels a side: 16, 32, 64 or 128.")
@click.option(
    "--font",
    metavar="FILE",
    help="The colour font; by default that of Debian's package fonts-noto-color-emoji.",
)
@click.option(
    "--encoder",
    default=ENCODER,
    show_default=True,
    help="Encoder of the captions, as in `python -m caption captions --help`.",
)
@click.option(
    "--measured",
    default=_USUAL.measured,
    show_default=True,
    help="Pictures to draw of each checkpoint for its metrics.",
)
def command(out: str, **sizes: Any) -> None:
    """Runs the four stages once, on two CPU cores in less than ten minutes. Writes the page OUT/report.html.

    The stages are formula pictures, captions, pre-training, and fine-tuning on emoji, compared with training
    from scratch. The command is idempotent and resumable: stop it at any time and run it again."""
    from evaluate.experiments.demo import course

    begun, place = time.perf_counter(), Path(out)
    with contextlib.closing(course.run(Plan(**sizes), place)) as lines:
        for line in lines:
            console.note(line)
    figures = json.loads((place / course.FIGURES).read_text())
    console.show(
        {
            "report": str(place / course.PAGE),
            "seconds": round(time.perf_counter() - begun, 1),
            "shows": figures["sentence"],
        }
    )
