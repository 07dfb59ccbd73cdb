"""The options and the course that the commands of all sets share: `python -m data.SET.prepare`."""

import os
from collections.abc import Callable, Generator
from functools import reduce
from typing import Any, NoReturn

import click

from data import preparation
from data.originals import Pictures, Source, Splits
from data.preparation import PrepareRequest
from data.summary import SetSummary
from synth import console
from synth.errors import UserError
from synth.sets.completion import Estimate, Progress

_NAMED = 3  # originals that are left out and named on stderr; the manifest has all


def root(what: str) -> Callable[..., Any]:
    """Returns the option --root, the folder of the original."""
    return click.option("--root", required=True, callback=at_home, help=what)


def at_home(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Returns a path with ~ replaced by the home folder. Not every shell does that for `make ROOT=~/coco`.
    Raises UserError if the path is empty, as from an unset variable: it would mean the current folder, or the
    root of all folders."""
    if value == "":
        raise UserError(f"{parameter.get_error_hint(context)} is empty; give a folder")
    return value and os.path.expanduser(value)


def prepares(name: str | None, *, size: int = 256) -> Callable[..., Any]:
    """Returns the options of every preparation, as one decorator. Without a name, the default of --out
    follows from the set's own name."""
    place = f"data/real/{name}" if name else None
    return options(
        click.option(
            "--out",
            default=place,
            callback=at_home,
            show_default=place or "data/real/NAME",
            help="Each split becomes a set in OUT/SPLIT.",
        ),
        click.option("--size", default=size, show_default=True, help="Pixels a side, 1 to 4096."),
        click.option(
            "--codec", default="png", show_default=True, help="png, webp (lossless) or jpeg (quality 95)."
        ),
        click.option("--shard-size", default=4096, show_default=True, help="Pictures in a tar."),
        making,
    )


def making(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options of every command that makes a set."""
    return options(
        click.option(
            "--workers",
            type=int,
            help="Processes at once; 0: this one. Default: a core each, if the shards allow.",
        ),
        click.option("--overwrite", is_flag=True, help="Replace other sets at the target."),
        click.option("--dry-run", is_flag=True, help="Show the estimate and write nothing."),
    )(command)


def split_by_seed(
    held_out: str = "The share of pictures to hold out, between 0 and 1.",
) -> Callable[..., Any]:
    """Returns the options of a set that its owner does not split."""
    return options(
        click.option(
            "--seed", default=0, show_default=True, help="The seed that chooses the held-out pictures."
        ),
        click.option("--test-share", default=0.1, show_default=True, help=held_out),
    )


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Returns several options as one decorator, in the order in which --help shows them."""
    return lambda command: reduce(lambda made, option: option(made), reversed(decorators), command)


def prepare(
    source: Source, law: str, found: Splits, pictures: Pictures, *, dry_run: bool, **options: Any
) -> None:
    """Prepares the splits of a set. With `dry_run`, shows the estimates and writes nothing. Raises
    UserError."""
    request = PrepareRequest(**options)
    if dry_run:
        for out, estimate in preparation.estimate(source, found, pictures, request):
            console.show({"out": out, **estimate._asdict()})
        return
    finish(request.out, preparation.prepare(source, law, found, pictures, request))


def finish(out: str, events: Generator[Estimate | Progress | list[SetSummary], None, None]) -> None:
    """Draws the events of a preparation and shows its summaries."""
    summaries = console.watched("pictures", events)
    if not any(s.prepared for s in summaries):
        console.note(f"{out} is finished: nothing to do")
    for summary in summaries:
        if summary.left_out:
            named = "; ".join(f"{o['name']}: {o['reason']}" for o in summary.left_out[:_NAMED])
            some = f"{len(summary.left_out):,} pictures cannot be used and are left out of {summary.out}"
            console.note(f"warning: {some}, among them {named}")
        console.show(summary.row())


def run(command: click.Command, module: str) -> NoReturn:
    """Runs `python -m MODULE`."""
    console.run(command, f"python -m {module}")
