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
    """The entry of `python -m evaluate.experiments.demo`."""
    console.run(command, "python -m evaluate.experiments.demo")


@click.command(epilog="\b\nExample:\n  python -m evaluate.experiments.demo --out runs/demo")
@click.option("--out", default="runs/demo", show_default=True, help="The folder of everything that it makes.")
@click.option("--pretraining", default=_USUAL.pretraining, show_default=True, help="Formula pictures that the model sees.")
@click.option("--finetuning", default=_USUAL.finetuning, show_default=True, help="Emoji that it sees then.")
@click.option("--pictures", default=_USUAL.pictures, show_default=True, help="How many are rendered of each family.")
@click.option("--size", default=_USUAL.size, show_default=True, help="Pixels a side: 16, 32, 64 or 128.")
@click.option("--font", metavar="FILE", help="The colour font; by default where Debian's fonts-noto-color-emoji puts it.")
@click.option("--encoder", default=ENCODER, show_default=True, help="Of the captions: as in `python -m caption captions --help`.")
@click.option("--measured", default=_USUAL.measured, show_default=True, help="Pictures drawn of each checkpoint to measure it.")
def command(out: str, **sizes: Any) -> None:
    """The four stages once through, on two CPU cores in less than ten minutes: formula pictures, captions, pre-training, fine-tuning on
    emoji beside training from scratch, and a page, OUT/report.html, that shows what came of it.

    It may be stopped at any time; the same command goes on. A finished demo is left alone."""
    from evaluate.experiments.demo import course

    begun, place = time.perf_counter(), Path(out)
    with contextlib.closing(course.run(Plan(**sizes), place)) as lines:
        for line in lines:
            console.note(line)
    figures = json.loads((place / course.FIGURES).read_text())
    console.show({"report": str(place / course.PAGE), "seconds": round(time.perf_counter() - begun, 1), "shows": figures["sentence"]})
