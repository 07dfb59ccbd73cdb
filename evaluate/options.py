"""Options that several commands of evaluate share, and the printing of their rows."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from synth import console, options
from synth.errors import UserError
from synth.sets.storage import Folder

Json = dict[str, Any]

Run = Annotated[
    str, options.place_argument("RUN", "A run directory, an export, or the name of a shipped model.")
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
    for option in draw:
        if not re.fullmatch(r"\w+=.+", option):
            raise UserError(f"--draw is {option!r}; give NAME=VALUE, such as --draw guidance=2")
    return dict(option.split("=", 1) for option in draw)


def target(out: str, suffix: str = "", *, beside: str = "") -> Path:
    """Returns the path of the file of --out, before any work. `beside` is the suffix of a second file there.

    Raises UserError if the file has another suffix, is a folder, or lies in a folder that takes no files."""
    if not out.endswith(suffix):
        raise UserError(f"--out is {out}; it must end in {suffix}")
    path = Path(out)
    for file in (path, path.with_suffix(beside)) if beside else (path,):
        if file.is_dir() or out.endswith(os.sep):
            raise UserError(f"--out is {out}, and {file} is a folder; give the name of a file")
    Folder(str(path.parent)).require_writable()
    return path


def show(rows: list[Json]) -> None:
    """Prints rows, and first their notes."""
    warn(rows)
    for row in rows:
        console.show(row)


def warn(rows: list[Json]) -> None:
    """Prints the notes of figures, once each."""
    for note in dict.fromkeys(f"{row['metric']}: {note}" for row in rows for note in row.get("notes") or ()):
        console.note(f"warning: {note}")
