"""Class tables as CSV files: one file a class, one row `a,b,c,d,e,f,p` a map, as FractalDB's users have them.

A map is x' = a x + b y + e, y' = c x + d y + f, and is taken with probability p. A folder of such files, in
the order of their names, replaces the random classes of a data set: `--set table=DIR`. The numbers are part
of a set's identity. The folder's path is not.
"""

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from synth import foreign, settings
from synth.errors import UserError
from synth.sets.storage import Folder, reading

System = tuple[tuple[float, ...], ...]

_COLUMNS = "a,b,c,d,e,f,p"
_MOST = 16  # maps


@dataclass(frozen=True)
class Table:
    """The systems of all classes, which are sent to the workers, and their sha256 for a set's identity."""

    sha256: str
    systems: tuple[System, ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Returns the table of a folder. Raises UserError if a file is not a table of this form."""
        files = sorted(path for path in Path(text).glob("*") if path.suffix.lower() == ".csv")
        # 100000.csv follows 99999.csv.
        if all(re.fullmatch(r"[0-9]{5,}", path.stem) for path in files):
            files.sort(key=lambda path: (len(path.stem), path.stem))
        if not files:
            raise UserError(
                f"{text} holds no .csv files; give a folder with one file a class, rows {_COLUMNS}"
            )
        systems = tuple(_read(file) for file in files)
        return cls(settings.digest(systems), systems)

    @property
    def stated(self) -> str:
        """The entry of the table in an identity: its sha256."""
        return self.sha256


def limit(config: Any) -> None:
    """Limits the classes of a config to those of its table, if it has one. Raises UserError if the config
    holds only the table's sha256, as a manifest's does."""
    if isinstance(config.table, str):
        table = f"a table with the sha256 {config.table[:12]}..."
        raise UserError(f"the classes come from {table}; give its folder: --set table=DIR")
    # A frozen dataclass is changed in its __post_init__ alone, which calls this.
    if config.table:
        object.__setattr__(config, "classes", min(config.classes, len(config.table.systems)))


def write(folder: Path, systems: Iterable[System]) -> int:
    """Writes one file a class, 00000.csv and so on, exact to the last bit. Returns their number.

    The folder appears whole or not at all, because a part of the classes would be another table. An equal
    table is left alone. Raises UserError if the folder has other files, or cannot be written."""
    # repr gives the shortest text that reads back as the same float.
    texts = ("".join(",".join(map(repr, row)) + "\n" for row in system) for system in systems)
    files = {f"{number:05d}.csv": text.encode() for number, text in enumerate(texts)}

    # An equal table.
    target = Folder(str(folder))
    if target.sizes().keys() == files.keys() and target.read_many(files) == files:
        return len(files)

    # A new folder, which appears when it is complete.
    with target.filled() as scratch:
        for name, data in files.items():
            scratch.write(name, data)
    return len(files)


def _read(file: Path) -> System:
    # Numbers.
    try:
        with reading(str(file)):
            lines = foreign.read_text(file).split("\n")
        rows = [tuple(map(float, row)) for row in csv.reader(lines) if row]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{file} is no table of numbers: {error}; its rows must be {_COLUMNS}") from None

    # Form and ranges.
    if not 1 <= len(rows) <= _MOST:
        raise UserError(f"{file} has {len(rows)} maps; a system has 1 to {_MOST}, a row each: {_COLUMNS}")
    for number, row in enumerate(rows, 1):
        if len(row) != 7:
            raise UserError(f"{file} has {len(row)} columns in row {number}; there must be seven: {_COLUMNS}")
        if not all(map(math.isfinite, row)):
            raise UserError(f"{file} has a number in row {number} that is not finite")
        if row[6] < 0:
            raise UserError(f"{file} has a negative probability in row {number}")
    if not sum(row[6] for row in rows) > 0:
        raise UserError(f"{file} gives no map a probability above 0")
    return tuple(rows)
