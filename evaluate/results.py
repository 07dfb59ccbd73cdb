"""The figures of a run on disk: metrics.jsonl, one figure a line.

A crash may tear the last line. Readers leave a torn line out, and the next writer removes it. Any other
damage is an error.
"""

import json
import os
from pathlib import Path
from typing import Any

from synth.errors import UserError
from synth.sets import locks
from synth.sets.storage import Folder, plain_errors

NAME = "metrics.jsonl"

Json = dict[str, Any]


def require_place(run: Path) -> None:
    """Raises UserError if a run takes no figures, so that nothing is measured in vain."""
    Folder(str(run)).require_writable()
    path = run / NAME
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; remove it, or copy the run without it")
    # A writer reads the last line first.
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise UserError(f"{path} may not be read or written to; change its rights, or copy the run")


def append(run: Path, *rows: Json) -> None:
    """Adds rows to a run's figures by a single write, so that a kill leaves all of these rows or none.

    Raises UserError if the disk does not take all of it."""
    add(run / NAME, *rows)


def add(path: Path, *rows: Json) -> None:
    """Adds rows to a file of JSON lines by a single write.

    Raises UserError if the disk does not take all of it."""
    new = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    with plain_errors(str(path)), path.open("a+b", buffering=0) as file:
        # Some file systems have no locks, and two commands on one run are rare.
        locks.lock(file.fileno(), wait=True)

        # Torn last line.
        file.seek(0)
        lines, torn = _split(file.read())
        if torn:
            os.truncate(file.fileno(), len(lines))
        elif lines and not lines.endswith(b"\n"):
            new = b"\n" + new

        # The new lines.
        if file.write(new) != len(new):
            problem = f"{path} could not be written to its end"
            raise UserError(f"{problem}; make room, then run the command again")


def read(run: Path) -> list[Json]:
    """Returns the rows of a run's figures, oldest first.

    Raises UserError if there are none, a line is damaged, or a row is no figure."""
    try:
        rows = rows_of(run / NAME)
    except (FileNotFoundError, NotADirectoryError):
        advice = f"`python -m evaluate metrics {run} --on SET` writes it"
        raise UserError(f"{run} has no {NAME}; {advice}") from None
    for row in rows:
        if not _is_figure(row):
            raise UserError(
                f"{run / NAME} has a line without a figure: {json.dumps(row)[:60]}; remove that line"
            )
    return rows


def rows_of(path: Path) -> list[Json]:
    """Returns the rows of a file of JSON lines, without a torn last one.

    Raises FileNotFoundError, or UserError if a line is damaged."""
    lines, _ = _split(path.read_bytes())
    rows = []
    for number, line in enumerate(lines.splitlines(), 1):
        if not line.strip():
            continue
        row = _parsed(line)
        if row is None:
            raise UserError(f"line {number} of {path} is damaged; remove that line")
        rows.append(row)
    return rows


def _is_figure(row: Json) -> bool:
    """Returns True if a row names its metric, and its value and its clock are numbers, if it has any."""
    value, clock = row.get("value"), row.get("images_seen", 0)
    numbers = (value is None or isinstance(value, int | float)) and isinstance(clock, int)
    return numbers and isinstance(row.get("metric"), str)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Returns the whole lines, and the torn line that a crash left at the end."""
    lines, end, last = data.rpartition(b"\n")
    return (data, b"") if not last or _parsed(last) is not None else (lines + end, last)


def _parsed(line: bytes) -> Json | None:
    """Returns the JSON object of a line, or None if the line holds none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
