"""What the commands of all sets do alike: `python -m data.SET.prepare`."""

import os
from collections.abc import Callable, Generator
from functools import reduce
from typing import Any, NoReturn

import click

from data import preparation
from data.originals import Pictures, Source, Splits
from data.preparation import Request
from data.summary import Summary
from synth import console
from synth.errors import UserError
from synth.sets.completion import Estimate, Progress

_NAMED = 3  # originals that are left out and named on stderr; the manifest has all


def root(what: str) -> Callable[..., Any]:
    """The option that says where the original lies."""
    return click.option("--root", required=True, callback=at_home, help=what)


def at_home(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A place with ~ as the home folder, which not every shell puts in for `make ROOT=~/coco`. Raises UserError where it is empty, as
    a variable that is not set makes it: it would be here, or the root of all folders."""
    if value == "":
        raise UserError(f"{parameter.get_error_hint(context)} is empty; give a folder")
    return value and os.path.expanduser(value)


def prepares(name: str | None, *, size: int = 256) -> Callable[..., Any]:
    """The options of every preparation, gathered as its `request`; without a name the set's own says where it lies."""
    place = f"data/real/{name}" if name else None
    return options(
        click.option(
            "--out", default=place, callback=at_home, show_default=place or "data/real/NAME", help="Each split becomes a set in OUT/SPLIT."
        ),
        click.option("--size", default=size, show_default=True, help="Pixels a side, 1 to 4096."),
        click.option("--codec", default="png", show_default=True, help="png, webp (lossless) or jpeg (quality 95)."),
        click.option("--shard-size", default=4096, show_default=True, help="Pictures in a tar."),
        making,
    )


def making(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of whatever makes a set."""
    return options(
        click.option("--workers", type=int, help="Processes at once; 0: this one. Default: a core each, if the shards allow."),
        click.option("--overwrite", is_flag=True, help="Replace other sets that lie there."),
        click.option("--dry-run", is_flag=True, help="Say what it would take, and write nothing."),
    )(command)


def split_by_seed(held_out: str = "The part that is held out, between 0 and 1.") -> Callable[..., Any]:
    """The options of a set that its owner does not split."""
    return options(
        click.option("--seed", default=0, show_default=True, help="Which pictures are held out."),
        click.option("--test-share", default=0.1, show_default=True, help=held_out),
    )


def options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Several options as one decorator, in the order in which --help shows them."""
    return lambda command: reduce(lambda made, option: option(made), reversed(decorators), command)


def prepare(source: Source, law: str, found: Splits, pictures: Pictures, *, dry_run: bool, **options: Any) -> None:
    """Prepares the splits of a set, or says what it would take. Raises UserError."""
    request = Request(**options)
    if dry_run:
        for out, estimate in preparation.estimate(source, found, pictures, request):
            console.show({"out": out, **estimate._asdict()})
        return
    finish(request.out, preparation.prepare(source, law, found, pictures, request))


def finish(out: str, events: Generator[Estimate | Progress | list[Summary], None, None]) -> None:
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
