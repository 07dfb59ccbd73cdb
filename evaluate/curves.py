"""Metrics against images seen, as in the paper's figure 4: a PNG, and a JSON with its numbers."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluate.measuring import best_and_last
from synth.images import lettering
from synth.sets.storage import Folder

Json = dict[str, Any]


def write(path: Path, rows_of: Mapping[str, Sequence[Json]]) -> list[Json]:
    """Writes the curves of runs, one axis per metric, and their numbers.

    Returns one row per run and metric, with the last and the best value."""
    # Last and best values.
    names = list(dict.fromkeys(row["metric"] for rows in rows_of.values() for row in rows))
    ends = [_ends(run, rows, name) for run, rows in rows_of.items() for name in names]

    # JSON, then PNG.
    picture, folder = io.BytesIO(), Folder(str(path.parent))
    figure(rows_of, names).savefig(picture, dpi=120, format="png")
    text = json.dumps({"ends": ends, "rows": dict(rows_of)}, indent=1) + "\n"
    folder.write(path.with_suffix(".json").name, text.encode())
    folder.write(path.name, picture.getvalue())
    return ends


def figure(rows_of: Mapping[str, Sequence[Json]], names: Sequence[str]) -> Any:
    """Returns the curves as a matplotlib figure."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    for i, name in enumerate(names):
        axes = canvas.add_subplot(1, len(names), i + 1)

        # One curve per run.
        for run, rows in rows_of.items():
            points = sorted((r for r in rows if r["metric"] == name), key=lambda r: r["images_seen"])
            seen, values = [r["images_seen"] for r in points], [r["value"] for r in points]
            errors = [r.get("error") or 0.0 for r in points]
            bars = errors if any(errors) else None
            axes.errorbar(
                seen, values, yerr=bars, marker="o", markersize=4, label=lettering.label(Path(run).name)
            )

        # Labels.
        axes.set(xlabel="images seen", ylabel=lettering.label(name))
        axes.grid(alpha=0.3)
        if len(rows_of) > 1:
            axes.legend(frameon=False)
    return canvas


def _ends(run: str, rows: Sequence[Json], name: str) -> Json:
    """Returns the last and the best value of a run's metric."""
    best, last = best_and_last(rows, name)
    row = {"run": run, "metric": name, "last": last["value"], "last_at": last["images_seen"]}
    return {**row, "best": best["value"], "best_at": best["images_seen"]}
