"""The commands of evaluate: metrics, compare, curve, table."""

import sys
from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from synth import console

Json = dict[str, Any]

_DETECTOR = click.option(
    "--detector",
    default="inception",
    show_default=True,
    help="inception, efficientnet-lite0, nano, or an encoder.",
)
_WEIGHTS = click.option("--weights", metavar="FILE", help="Inception's weights; downloaded by default.")
_METRICS = click.option(
    "--metrics", default="fid,kid,is,pr,dc", show_default=True, help="Also fdinf, cmmd, clip, rprecision."
)
_DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")


def main() -> None:
    """Runs `python -m evaluate`."""
    console.run(commands, "python -m evaluate")


def _example(text: str) -> str:
    return f"\b\nExample:\n  {text}"


def _of_a_run(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that metrics and curve share."""
    options = [
        click.argument("run"),
        click.option(
            "--reference",
            required=True,
            help="Set of shards: its captions are the prompts, its pictures the reference.",
        ),
        click.option(
            "--captions",
            help="Caption tables of the reference by the run's encoder; without them this command encodes the texts.",
        ),
        click.option(
            "--n", default=30_000, show_default=True, help="Number of pictures to draw, one per caption."
        ),
        _DETECTOR,
        _WEIGHTS,
        _METRICS,
        click.option(
            "--clip", default="ViT-L-14/openai", show_default=True, help="The encoder of clip and rprecision."
        ),
        click.option("--seed", default=0, show_default=True, help="Seed of the latents."),
        click.option(
            "--resamples",
            default=0,
            show_default=True,
            help="Bootstrap resamples for 95 % intervals; 0: none.",
        ),
        click.option("--encoder", help="Path of the run's encoder, if it has moved."),
        _DEVICE,
    ]
    return reduce(lambda made, option: option(made), reversed(options), command)


@click.group(
    epilog=_example(
        "python -m evaluate metrics runs/emoji --reference data/real/emoji/test --detector efficientnet-lite0"
    )
)
def commands() -> None:
    """Measures runs and sets of pictures."""


@commands.command(
    epilog=_example(
        "python -m evaluate metrics runs/coco --reference data/real/coco/val --metrics fid,kid,is"
    )
)
@_of_a_run
@click.option("--images-seen", type=int, help="The checkpoint; by default the newest.")
def metrics(**options: Any) -> None:
    """Measures a run: its pictures of a reference's captions against the reference.

    Appends figures to metrics.jsonl."""
    from evaluate import measuring

    request = measuring.MeasureRequest(**options)
    _show(console.watched("pictures", measuring.metrics(request), measuring.pictures(request)))


@commands.command(
    epilog=_example(
        "python -m evaluate compare data/shards/fractals data/shards/fractaldb --metrics kid --detector nano"
    )
)
@click.argument("a")
@click.argument("b")
@click.option("--n", type=int, help="Pictures of each; by default all.")
@_DETECTOR
@_WEIGHTS
@click.option("--metrics", "names", default="fid,kid,pr,dc", show_default=True, help="Also is, fdinf, cmmd.")
@_DEVICE
def compare(a: str, b: str, **options: Any) -> None:
    """Measures a folder or set of pictures against another."""
    from evaluate import measuring

    _show(console.watched("pictures", measuring.compare(a, b, **options), 0))


@commands.command(
    epilog=_example(
        "python -m evaluate curve runs/emoji --reference data/real/emoji/test --metrics kid --detector nano"
    )
)
@_of_a_run
@click.option("--out", help="The PNG to write, and a JSON of the same stem; by default RUN/curve.png.")
def curve(out: str | None, **options: Any) -> None:
    """Measures every checkpoint of a run. Plots the metrics against images seen, with last and best."""
    from evaluate import curves, measuring

    target = curves.target(out or f"{options['run']}/curve.png")
    request = measuring.MeasureRequest(**options)
    rows = console.watched(
        "pictures", measuring.curve(request), measuring.pictures(request, checkpoints=True)
    )
    _warn(rows)
    for row in curves.write(target, {options["run"]: rows}):
        console.show(row)


@commands.command(
    epilog=_example(
        "python -m evaluate agreement runs/tiny --sets data/shards/fractals --sets data/shards/visual_atoms"
    )
)
@click.argument("run")
@click.option(
    "--sets",
    multiple=True,
    required=True,
    metavar="SHARDS",
    help="Set of formula pictures; repeat it for at least two families.",
)
@click.option(
    "--n",
    default=500,
    show_default=True,
    help="Pictures of each set; half of them fit the judge, the facts of the others are prompts.",
)
@click.option(
    "--detector",
    default="efficientnet-lite0",
    show_default=True,
    help="Detector of the features that tell families apart.",
)
@_WEIGHTS
@click.option("--seed", default=0, show_default=True, help="Seed of the halves and the latents.")
@click.option("--encoder", help="Path of the run's encoder, if it has moved.")
@_DEVICE
def agreement(run: str, sets: tuple[str, ...], **options: Any) -> None:
    """Measures attribute agreement: how often a run's pictures have the attributes in their prompts."""
    from evaluate import agreement as judging

    _show(console.watched("pictures", judging.agreement(run, sets, **options), 0))


@commands.command(
    epilog=_example("python -m evaluate table 1 runs/scratch runs/visual_atoms --out table1.md")
)
@click.argument("number", type=click.IntRange(1, 3))
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "--out",
    default="table.md",
    show_default=True,
    help="The Markdown to write, and an HTML page with sample grids of the same stem.",
)
def table(number: int, runs: tuple[str, ...], out: str) -> None:
    """Prints the paper's table 1 (sets), 2 (without colour) or 3 (contours), with the figures of runs."""
    from evaluate import tables
    from train.runs import find

    path = tables.target(out)
    rows = [tables.row_of(find(run)) for run in runs]
    page = tables.write(path, number, rows)
    if sys.stdout.isatty():
        click.echo(tables.markdown(number, rows), nl=False)
    else:
        for row in tables.arms(number, rows):
            console.show(row)
    console.note(f"written: {path} and {page}")


def _show(rows: list[Json]) -> None:
    _warn(rows)
    for row in rows:
        console.show(row)


def _warn(rows: list[Json]) -> None:
    """Prints the notes of figures, once each."""
    for note in dict.fromkeys(f"{row['metric']}: {note}" for row in rows for note in row.get("notes") or ()):
        console.note(f"warning: {note}")
