"""DOOR. Options that the commands of several packages share, as annotated types.

A command's parameter is written `size: Size = 256`. The alias holds the option's name and help, the command
its default. The parser of a number knows its range. The parser of a place knows the home folders. So a wrong
value ends a command before it does anything.
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
LARGEST = 4096  # pixels a side


def whole(value: object) -> int:
    """Returns a whole number. Raises BadParameter for any other spelling, such as 1.0 or 1_000."""
    if not re.fullmatch(r"-?\d{1,100}", str(value)):
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
    elif above and most == MOST:
        span = f"above {least:,}"
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


def located(name: str, value: object) -> str:
    """Returns the text of a place with ~ and ~USER replaced by the home folder, also in MODEL=~/FILE.

    Not every shell does that after `--out=` and in make's variables. Raises UserError if the place is empty,
    as from an unset variable, or the home folder is unknown."""
    text = str(value)
    if not text:
        raise UserError(f"{name} is empty; give a folder, a file or a URL")

    # The architecture before a file of weights. A folder's name may contain "=" too.
    before, equals, place = text.rpartition("=~")
    before, place = (f"{before}=", f"~{place}") if equals and "/" not in before else ("", text)
    if not place.startswith("~"):
        return text

    # The home folder.
    expanded = os.path.expanduser(place)
    if expanded.startswith("~"):
        home = place.partition("/")[0]
        raise UserError(
            f"{name} is {text}, and the home folder {home} is unknown; write ./{place} for a folder here"
        )
    return before + expanded


def place(name: str, metavar: str, help: str) -> Any:
    """Returns an option that takes a file, a folder, a URL, or a name that may stand for one."""
    return typer.Option(name, metavar=metavar, parser=partial(located, name), help=help)


def place_argument(metavar: str, help: str) -> Any:
    """Returns an argument that takes a file, a folder, a URL, or a name that may stand for one."""
    return typer.Argument(metavar=metavar, parser=partial(located, metavar), help=help)


def setting(value: object) -> str:
    """Returns a setting KEY=VALUE, with ~ as in `located`. An empty one is left to the check of the keys."""
    return located("--set", value) if str(value) else ""


def text(name: str, metavar: str, help: str) -> Any:
    """Returns an option that takes a text."""
    return typer.Option(name, metavar=metavar, help=help)


def flag(name: str, help: str) -> Any:
    """Returns an option without a value."""
    return typer.Option(name, help=help)


# Keys of samples have nine digits.
Pictures = Annotated[int, integer("--n", "Pictures in each finished set.", least=1, most=10**9)]
Workers = Annotated[
    int | None,
    integer("--workers", "Ray tasks at once; 0: no Ray.  [default: one for each core and shard]"),
]
Size = Annotated[int, integer("--size", "Pixels a side, 1 to 4096.", least=1, most=LARGEST)]
Seed = Annotated[int, integer("--seed", "Seed of all randomness.")]
ShardSize = Annotated[int, integer("--shard-size", "Pictures in a tar.", least=1)]
Codec = Annotated[str, text("--codec", "NAME", "png, webp (lossless) or jpeg (quality 95).")]
Settings = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", parser=setting, help="Change a setting of the family; may be repeated."
    ),
]
Overwrite = Annotated[bool, flag("--overwrite", "Replace another set at the target.")]
DryRun = Annotated[bool, flag("--dry-run", "Show the estimate and write nothing.")]
RayAddress = Annotated[
    str | None, text("--ray-address", "ADDRESS", "A Ray cluster to use; by default $RAY_ADDRESS.")
]
Device = Annotated[str, text("--device", "NAME", "auto, cpu or cuda.")]
ImagesSeen = Annotated[int | None, integer("--images-seen", "The checkpoint; by default the newest.")]


def require(option: Any, value: int) -> None:
    """Raises UserError if a value is not in the range of an option of this module, such as Size."""
    [information] = option.__metadata__
    information.parser(value)


def cluster(ray_address: str | None, workers: int | None) -> str | None:
    """Returns the address of the Ray cluster to use: the option's, else that of the environment.

    Raises UserError if the option contradicts --workers 0, which uses no Ray."""
    if workers == 0 and ray_address:
        raise UserError("--workers 0 uses no Ray, so --ray-address has no use; leave one of them out")
    return ray_address or (os.environ.get("RAY_ADDRESS") if workers != 0 else None)


def pair(names: Sequence[str], outs: Sequence[str], what: str) -> list[tuple[str, str | None]]:
    """Returns each name with its --out, or with None if there is no --out.

    Raises UserError if their numbers differ, or two places are equal."""
    if outs and len(outs) != len(names):
        counts = f"{len(names)} {what} and {len(outs)} --out are given"
        raise UserError(f"{counts}; give --out once for each, in the same order, or not at all")
    # The same folder may be written in several ways.
    places = [out.rstrip("/") if "://" in out else os.path.realpath(out) for out in outs]
    for out, place in zip(outs, places, strict=True):
        if places.count(place) > 1:
            raise UserError(f"--out {out} is given twice; give each of the {what} a place of its own")
    return [(name, outs[i] if outs else None) for i, name in enumerate(names)]
