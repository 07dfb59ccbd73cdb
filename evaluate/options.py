"""Options that several commands of evaluate share, and the printing of their rows."""

import re
from typing import Annotated, Any

from synth import console, options
from synth.errors import UserError

Json = dict[str, Any]

Run = Annotated[
    str, options.place_argument("RUN", "A run directory, an export, or a shipped model, formula-32.")
]
Detector = Annotated[
    str, options.place("--detector", "NAME", "inception, efficientnet-lite0, nano, an encoder, or run:RUN.")
]
Encoder = Annotated[
    str | None,
    options.place("--encoder", "PATH", "The run's encoder, if it has moved; it encodes the prompts."),
]
Draw = Annotated[
    list[str],
    options.text(
        "--draw", "NAME=VALUE", "A drawing option of the run's model, such as guidance=2; may be repeated."
    ),
]
Seed = Annotated[int, options.integer("--seed", "Seed of the latents.")]


def drawing(draw: list[str]) -> dict[str, str]:
    """Returns drawing options by name. Raises UserError if one has no value."""
    values = {}
    for option in draw:
        if not re.fullmatch(r"[\w-]+=.+", option):
            raise UserError(f"--draw is {option!r}; give NAME=VALUE, such as --draw guidance=2")
        name, _, value = option.partition("=")
        values[name.replace("-", "_")] = value
    return values


def once(option: str, places: list[str]) -> list[str]:
    """Returns the places of an option that may be repeated. Raises UserError if one is given twice."""
    bare = [place.rstrip("/") for place in places]
    if doubled := next((place for place in bare if bare.count(place) > 1), None):
        problem = f"{option} {doubled} is given twice, and its pictures would count twice"
        raise UserError(f"{problem}; give it once")
    return places


def show(rows: list[Json]) -> None:
    """Prints rows, and first their notes."""
    warn(rows)
    for row in rows:
        console.show(row)


def warn(rows: list[Json]) -> None:
    """Prints the notes of figures, once each."""
    for note in dict.fromkeys(f"{row['metric']}: {note}" for row in rows for note in row.get("notes") or ()):
        console.note(f"warning: {note}")
