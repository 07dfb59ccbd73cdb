"""The curves of a demo as one plot, by matplotlib's object interface: the same bytes each time."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from evaluate.experiments.demo.figures import DemoFigures, Point

FINETUNED, SCRATCH, LONGER = "#1f6fb4", "#d9822b", "#9a5b12"

_INK, _PALE = "#2b3036", "#8a929c"
_STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": "#c9ced6",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


def curves(figures: DemoFigures, pretraining: int) -> bytes:
    """Plots KID against emoji seen, a PNG: three curves with 95 % intervals, and an untrained generator."""
    with matplotlib.rc_context(_STYLE):
        # From scratch.
        canvas = Figure(figsize=(8.6, 4.6), layout="constrained")
        axes = canvas.add_subplot()
        first = [p for p in figures.scratch if p.images_seen <= figures.same.images_seen]
        longer = figures.scratch[len(first) - 1 :]
        level = figures.untrained.value
        axes.axhline(level, color=_PALE, lw=1.2, ls=(0, (5, 4)), label=f"never trained ({level:.0f})")
        _curve(axes, [figures.untrained._replace(images_seen=0), *first], SCRATCH, "from scratch")
        _curve(axes, longer, LONGER, "from scratch, continued", marker="s")

        # Fine-tuned.
        _curve(axes, figures.finetuned, FINETUNED, "pre-trained on formulas, then fine-tuned")
        shifted = [p._replace(images_seen=p.images_seen + pretraining) for p in figures.finetuned]
        label = "the same, with formula pictures counted"
        axes.plot(*_line(shifted), color=FINETUNED, lw=1.1, ls=":", label=label)
        axes.axvline(figures.at, color="#dfe3e8", lw=1, zorder=0)

        # Axes and legend.
        axes.set(xlabel="emoji seen", ylabel="KID $\\times$ 1000 (lower is better)", ylim=(0, None))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(axis="y", color="#edeff2")
        canvas.legend(loc="outside upper left", ncols=3, handlelength=2.2, columnspacing=1.6, fontsize=9)

        # PNG, without matplotlib's version.
        file = io.BytesIO()
        canvas.savefig(file, dpi=180, format="png", metadata={"Software": None})
        return file.getvalue()


def _curve(axes: Any, points: Sequence[Point], colour: str, label: str, marker: str = "o") -> None:
    style = {"color": colour, "marker": marker, "markersize": 4.5, "lw": 1.8, "capsize": 2.5, "elinewidth": 1}
    axes.errorbar(*_line(points), yerr=[p.interval for p in points], label=label, **style)


def _line(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [p.images_seen for p in points], [p.value for p in points]
