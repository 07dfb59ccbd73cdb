"""A metric against images seen, as in the paper's figure 4: a PNG, and a JSON with its numbers."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluate.measuring import best_and_last
from synth.errors import UserError
from synth.sets.storage import Folder

Json = dict[str, Any]


def target(out: str) -> Path:
    """Returns the PNG's path. Raises UserError for another kind of file."""
    if not out.endswith(".png"):
        raise UserError(f"--out is {out}; it must end in .png")
    return Path(out)


def write(path: Path, rows_of: Mapping[str, Sequence[Json]]) -> list[Json]:
    """Writes the curves of runs, one axis per metric, and their numbers.

    Returns the rows of last and best."""
    names = list(dict.fromkeys(row["metric"] for rows in rows_of.values() for row in rows))
    ends = [_ends(run, rows, name) for run, rows in rows_of.items() for name in names]
    picture, folder = io.BytesIO(), Folder(str(path.parent))
    figure(rows_of, names).savefig(picture, dpi=120, format="png")
    folder.write(
        path.with_suffix(".json").name,
        (json.dumps({"ends": ends, "rows": dict(rows_of)}, indent=1) + "\n").encode(),
    )
    folder.write(path.name, picture.getvalue())
    return ends


def figure(rows_of: Mapping[str, Sequence[Json]], names: Sequence[str]) -> Any:
    """Returns the matplotlib figure."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(5.5 * len(names), 4), layout="constrained")
    for i, name in enumerate(names):
        axes = drawn.add_subplot(1, len(names), i + 1)
        for run, rows in rows_of.items():
            own = sorted((r for r in rows if r["metric"] == name), key=lambda r: r["images_seen"])
            seen, values = [r["images_seen"] for r in own], [r["value"] for r in own]
            errors = [r.get("error") or 0.0 for r in own]
            axes.errorbar(
                seen,
                values,
                yerr=errors if any(errors) else None,
                marker="o",
                markersize=4,
                label=Path(run).name,
            )
        axes.set(xlabel="images seen", ylabel=name)
        axes.grid(alpha=0.3)
        if len(rows_of) > 1:
            axes.legend(frameon=False)
    return drawn


def _ends(run: str, rows: Sequence[Json], name: str) -> Json:
    best, last = best_and_last(rows, name)
    ends = {
        "last": last["value"],
        "last_at": last["images_seen"],
        "best": best["value"],
        "best_at": best["images_seen"],
    }
    return {"run": run, "metric": name, **ends}
