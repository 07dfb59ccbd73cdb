"""The result rows of an experiment: one JSON object for each finished (arm, seed), of at most 1 kB.

The shipped experiments keep their rows in results/NAME.jsonl, in the repository. A row counts if its address
is that of the present table and laws. Other rows are outdated: shown, and not used.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluate import results
from evaluate.experiments.table import Arm, Experiment, Reading
from synth.errors import UserError

MOST_BYTES = 1_000
NAME = "rows.jsonl"  # in the folder of an experiment

_ENTRIES: dict[str, type[Any]] = {
    "arm": str,
    "seed": int,
    "address": str,
    "figures": dict,
    "run": dict,
}  # of a row
_ORIGIN = ("commit", "machine", "cpu_seconds", "date")  # of its run
_POINTS = 24  # of a curve
_DIGITS = 5  # of a figure

Json = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """The rows of an experiment, sorted by their use."""

    used: Mapping[tuple[str, int], Json]  # by arm and seed
    outdated: Sequence[Json]

    def values(self, arm: str, seeds: Iterable[int], name: str) -> list[float | None]:
        """Returns a figure of an arm by seed, or None for each one that is missing."""
        rows = [self.used.get((arm, seed)) for seed in seeds]
        return [row["figures"].get(name) if row else None for row in rows]


def sort(experiment: Experiment, rows: Iterable[Json], seeds: int) -> Results:
    """Sorts rows into used and outdated ones. Of several rows with one address, the last is used."""
    addresses = {(arm.name, seed): arm.address(seed) for arm, seed in experiment.pairs(seeds)}
    used: dict[tuple[str, int], Json] = {}
    outdated = []
    for row in rows:
        key = (str(row["arm"]), int(row["seed"]))
        if addresses.get(key) == row["address"]:
            used[key] = row
        elif key in addresses or key[0] not in {arm.name for arm in experiment.arms}:
            outdated.append(row)
    # A row of today replaces an older one.
    outdated = [row for row in outdated if (str(row["arm"]), int(row["seed"])) not in used]
    return Results({key: used[key] for key in addresses if key in used}, outdated)


def read(path: Path) -> list[Json]:
    """Returns the rows of a file, or none if it does not exist.

    Raises UserError if a line is damaged, or has not all entries of a row."""
    rows = results.rows_of(path) if path.exists() else []
    for number, row in enumerate(rows, 1):
        lacking = [name for name, kind in _ENTRIES.items() if not isinstance(row.get(name), kind)]
        lacking = lacking or [f"{name} in its run" for name in _ORIGIN if name not in row["run"]]
        if lacking:
            problem = f"row {number} of {path} has no {lacking[0]}, so no experiment added it"
            raise UserError(f"{problem}; remove this line and run the command again")
    return rows


def add(path: Path, row: Json) -> None:
    """Adds a row to a file by a single write. Raises UserError if the disk does not take all of it."""
    results.add(path, row)


def _finite(value: Any) -> bool:
    """Returns True for a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def make(experiment: Experiment, arm: Arm, seed: int, printed: Sequence[Json], run: Json) -> Json:
    """Returns the row of an arm from the rows that its steps printed.

    `run` has commit, machine, CPU seconds and date, which may differ from run to run. Raises KeyError if the
    entry with the endpoint is missing, and ValueError if the row is too long."""
    figures: Json = {}
    for figure in experiment.figures:
        figures |= reduced(figure, printed, curve=figure is experiment.endpoint)
    if experiment.endpoint.name not in figures:
        raise KeyError(experiment.endpoint.key)
    row = {"experiment": experiment.name, "arm": arm.name, "seed": seed, "address": arm.address(seed)}
    whole = {**row, "figures": figures, "run": run}
    size = len(json.dumps(whole).encode())
    if size > MOST_BYTES:
        raise ValueError(f"the row of {arm.name} has {size:,} bytes")
    return whole


def reduced(figure: Reading, printed: Sequence[Json], *, curve: bool = False) -> Json:
    """Returns a figure's number from printed rows, or nothing if no row has the figure.

    With `curve`, its interval over pictures, its place and the curve follow, at most 24 points."""
    # Rows of the figure, along the run.
    matching = [
        row
        for row in printed
        if row.get("metric") == figure.metric
        and all(row.get(k) == v for k, v in figure.where.items())
        and _finite(row.get(figure.key))  # a figure may be None, or nan
    ]
    if not matching:
        return {}
    matching.sort(key=lambda row: row.get("images_seen", 0))

    # The best or last of them.
    best = matching[-1]
    if figure.best != "last":
        best = (min if figure.best == "lowest" else max)(matching, key=lambda row: row[figure.key])
    figures: Json = {figure.name: round(best[figure.key], _DIGITS)}
    if not curve:
        return figures

    # Its surroundings.
    if best.get("low") is not None:
        figures["over_pictures"] = [best["low"], best["high"]]
    if "images_seen" in best:
        figures["at"] = best["images_seen"]
        every = -(-len(matching) // _POINTS)
        points = matching[::-1][::every][::-1]
        figures["curve"] = [[row["images_seen"], round(row[figure.key], 4)] for row in points]
    return figures
