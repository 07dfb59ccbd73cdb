"""DOOR. Options that the commands of several packages share, as annotated types.

A command's parameter is written `size: Size = 256`. The alias holds the option's name and help, the command
its default.
"""

import math
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from synth.errors import UserError

EMPTY: list[str] = []  # the default of options that may be repeated
MOST = (1 << 64) - 1  # of numbers without a limit of their own, such as seeds


def whole(value: object) -> int:
    """Returns a whole number. Raises BadParameter for any other spelling, such as 1.0 or 1_000."""
    if not re.fullmatch(r"-?\d+", str(value)):
        raise typer.BadParameter(f"{str(value)!r} is not a whole number")
    return int(str(value))


def real(value: object) -> float:
    """Returns a finite number. Raises BadParameter for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{str(value)!r} is not a number")
    return number


def in_range(
    name: str,
    parse: Callable[[object], Any],
    least: float,
    most: float,
    above: bool,
    below: bool,
    value: object,
) -> Any:
    """Returns a number. Raises UserError, with the range, if it is not in least..most.

    `above` and `below` exclude the ends."""
    number = parse(value)
    if least < number < most or (number == least and not above) or (number == most and not below):
        return number
    if above and below:
        span = f"between {least:,} and {most:,}"
    elif above or below:
        span = f"{'above' if above else 'at least'} {least:,} and {'below' if below else 'at most'} {most:,}"
    else:
        span = f"at least {least:,}" if most == MOST else f"{least:,} to {most:,}"
    raise UserError(f"{name} is {number}; it must be {span}")


def integer(name: str, help: str, *, least: int = 0, most: int = MOST) -> Any:
    """Returns an option that takes a whole number from `least` to `most`."""
    parser = partial(in_range, name, whole, least, most, False, False)
    return typer.Option(name, metavar="N", parser=parser, help=help)


def number(
    name: str,
    help: str,
    *,
    least: float = 0,
    most: float = MOST,
    above: bool = False,
    below: bool = False,
) -> Any:
    """Returns an option that takes a finite number from `least` to `most`, with or without these ends."""
    parser = partial(in_range, name, real, least, most, above, below)
    return typer.Option(name, metavar="X", parser=parser, help=help)


def text(name: str, metavar: str, help: str) -> Any:
    """Returns an option that takes a text."""
    return typer.Option(name, metavar=metavar, help=help)


def flag(name: str, help: str) -> Any:
    """Returns an option without a value."""
    return typer.Option(name, help=help)


Size = Annotated[int, integer("--size", "Pixels a side, 1 to 4096.")]
Seed = Annotated[int, integer("--seed", "Seed of all randomness.")]
ShardSize = Annotated[int, integer("--shard-size", "Pictures in a tar.")]
Codec = Annotated[str, text("--codec", "NAME", "png, webp (lossless) or jpeg (quality 95).")]
Settings = Annotated[
    list[str], text("--set", "KEY=VALUE", "Change a setting of the family; may be repeated.")
]
Overwrite = Annotated[bool, flag("--overwrite", "Replace another set at the target.")]
DryRun = Annotated[bool, flag("--dry-run", "Show the estimate and write nothing.")]
RayAddress = Annotated[
    str | None, text("--ray-address", "ADDRESS", "A Ray cluster to use; by default $RAY_ADDRESS.")
]
Device = Annotated[str, text("--device", "NAME", "auto, cpu or cuda.")]
ImagesSeen = Annotated[int | None, integer("--images-seen", "The checkpoint; by default the newest.")]


def require_least(least: int, **values: int | None) -> None:
    """Raises UserError if the value of an option, named as in Python, is below `least`."""
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} is {value}; it must be at least {least}")


def cluster(ray_address: str | None, workers: int | None) -> str | None:
    """Returns the address of the Ray cluster to use: the option's, else that of the environment.

    Raises UserError if the option contradicts --workers 0, which uses no Ray."""
    if workers == 0 and ray_address:
        raise UserError("--workers 0 uses no Ray, so --ray-address has no use; leave one of them out")
    return ray_address or (os.environ.get("RAY_ADDRESS") if workers != 0 else None)


def pair(names: Sequence[str], outs: Sequence[str], what: str) -> list[tuple[str, str | None]]:
    """Returns each name with its --out, or with None if there is no --out.

    Raises UserError if their numbers differ."""
    if outs and len(outs) != len(names):
        counts = f"{len(names)} {what} and {len(outs)} --out are given"
        raise UserError(f"{counts}; give --out once for each, in the same order, or not at all")
    return [(name, outs[i] if outs else None) for i, name in enumerate(names)]
