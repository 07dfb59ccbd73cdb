"""The plots of a report: every dot of the endpoint, and the curves along the runs."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from evaluate.experiments.rows import Results
from evaluate.experiments.table import Experiment

_COLOURS = ("#1f6fb4", "#d9822b", "#3a8f5c", "#9a4f96", "#7a6a2f", "#c24a4a", "#4a7f8f", "#6b7480")
_STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": "#c9ced6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
}

Json = dict[str, Any]


def points(row: Json) -> list[Sequence[float]]:
    """Returns the curve of a row: images seen and value, or nothing if it is a single point."""
    curve = list(row["figures"].get("curve", ()))
    return curve if len(curve) > 1 else []


def dots(experiment: Experiment, results: Results, seeds: int) -> bytes:
    """Plots the endpoint of every arm and seed, a PNG. A line joins the dots of one seed."""
    names = [arm.name for arm in experiment.arms]
    with matplotlib.rc_context(_STYLE):
        canvas = Figure(figsize=(8.6, 1.2 + 0.32 * len(names)), layout="constrained")
        axes = canvas.add_subplot()
        for seed in range(seeds):
            values = [results.values(name, [seed], experiment.endpoint.name)[0] for name in names]
            x = [np.nan if value is None else value for value in values]
            colour = _COLOURS[seed % len(_COLOURS)]
            axes.plot(
                x, range(len(names)), "o-", color=colour, ms=5, lw=0.6, alpha=0.85, label=f"seed {seed}"
            )
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel=experiment.endpoint.name, ylim=(len(names) - 0.5, -0.5))
        axes.grid(axis="x", color="#edeff2")
        canvas.legend(loc="outside upper left", ncols=8, fontsize=8)
        return _png(canvas)


def curves(experiment: Experiment, results: Results) -> bytes:
    """Plots the curves of the rows, a PNG. Runs of one arm have one colour, and all begin at 0 images."""
    with matplotlib.rc_context(_STYLE):
        canvas = Figure(figsize=(8.6, 4.8), layout="constrained")
        axes = canvas.add_subplot()
        for number, arm in enumerate(experiment.arms):
            of_arm = [row for (name, _), row in results.used.items() if name == arm.name and points(row)]
            style: Any = {"color": _COLOURS[number % len(_COLOURS)], "lw": 1.1}
            style["ls"] = ("-", "--", ":", "-.")[number // len(_COLOURS) % 4]
            for i, row in enumerate(of_arm):
                x, y = zip(*points(row), strict=True)
                axes.plot(x, y, label=None if i else arm.name, alpha=0.8, **style)
        axes.set(xlabel="images seen", ylabel=experiment.endpoint.name)
        axes.grid(color="#edeff2")
        canvas.legend(loc="outside upper left", ncols=4, fontsize=8)
        return _png(canvas)


def _png(canvas: Any) -> bytes:
    """Returns a figure as a PNG, without matplotlib's version."""
    file = io.BytesIO()
    canvas.savefig(file, dpi=110, format="png", metadata={"Software": None})
    return file.getvalue()
