"""The plots of the audit's page, by matplotlib's object interface: one audit has one SVG, byte for byte."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, PercentFormatter

from caption.audit import measures
from caption.audit.measures import BINS, Cosines
from caption.audit.report import DUPLICATE, Audit
from caption.audit.scan import IMAGE, PSEUDO, TEXT
from synth.images import lettering

TABLE_4 = {
    "BLIP on MSCOCO": 623,
    "BLIP on Visual Atoms": 34,
    "ClipCap on MSCOCO": 773,
    "ClipCap on Visual Atoms": 199,
}  # words

_NAMES = {IMAGE: "image", PSEUDO: "pseudo-caption", TEXT: "text"}
_COLOURS = {IMAGE: "#2f6db3", PSEUDO: "#e08a2b", TEXT: "#3a9a63"}
_PAIR_COLOURS = {(IMAGE, PSEUDO): "#2f6db3", (IMAGE, TEXT): "#3a9a63", (PSEUDO, TEXT): "#8a5fb0"}
_INK, _PALE, _ALARM = "#33383f", "#c9ced6", "#c0392b"
_WIDTH, _HEIGHT = 8.0, 2.9  # inches
_BARS = 60  # of a histogram
_DOTS = 500  # of a cloud
_STYLE: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.edgecolor": _PALE,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#edeff2",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same in every viewer
    "svg.hashsalt": "exnihilo",
}


def cosines(audit: Audit) -> str:
    """Plots histograms of the cosines of each pair of kinds, one panel each."""
    with _figure(1, len(audit.cosines)) as (axes, finished):
        for ax, (pair, histogram) in zip(axes, audit.cosines.items(), strict=True):
            _bars(ax, *_coarse(histogram), _PAIR_COLOURS[pair])
            ax.axvline(histogram.mean, color=_INK, lw=1)
            spread = f"{histogram.mean:.4f} ± {histogram.deviation:.4f}"
            ax.set_title(f"{_NAMES[pair[0]]} and {_NAMES[pair[1]]}\n{spread}")
            ax.set_xlabel("cosine")

        # The law of equation 3, for image and pseudo-caption.
        axes[0].axvline(audit.law, color=_ALARM, lw=1.4, ls="--")
        axes[0].set_ylabel("rows")
        return finished()


def gap(audit: Audit) -> str:
    """Plots images, pseudo-captions and texts of the sample in their two principal directions."""
    clouds = {IMAGE: audit.sample.image, PSEUDO: audit.sample.pseudo, TEXT: audit.sample.text}
    clouds = {kind: cloud[: 2 * _DOTS : 2] for kind, cloud in clouds.items() if len(cloud) > 1}
    cross: Any = {"s": 130, "marker": "X", "ec": "white", "lw": 1.2, "zorder": 3}
    with _figure(1, 1, height=3.6) as ([ax], finished):
        # Each kind's dots, with a cross at their mean.
        for kind, points in measures.principal_plane(clouds).items():
            ax.scatter(*points.T, s=7, color=_COLOURS[kind], alpha=0.45, lw=0)
            ax.scatter(*points.mean(axis=0), color=_COLOURS[kind], label=_NAMES[kind], **cross)

        # Equal scales.
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel("first principal direction")
        ax.set_ylabel("second")
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="mean (cross)")
        return finished()


def spectrum(audit: Audit) -> str:
    """Plots the singular values of each kind, the largest first, and their effective rank."""
    with _figure(1, 1) as ([ax], finished):
        for kind, values in audit.spectra.items():
            shares = values / (values.sum() or 1)
            ax.plot(np.arange(1, len(values) + 1), shares.clip(1e-6), color=_COLOURS[kind], lw=1.8)
            rank = audit.ranks[kind]
            ax.axvline(rank, color=_COLOURS[kind], lw=1.2, ls=":", label=f"{_NAMES[kind]}: {rank:.1f}")

        # Axes.
        ax.set_yscale("log")
        ax.set_xlim(0, audit.tables.dimensions + 1)
        ax.set_xlabel("direction, the widest first")
        ax.set_ylabel("share of the singular values")
        title = f"effective rank of {audit.tables.dimensions}\n(dotted)"
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title=title)
        return finished()


def nearest(audit: Audit) -> str:
    """Plots the cosine of each picture to its nearest other picture."""
    low = min(float(audit.nearest.min()), 1 - 2 * (1 - DUPLICATE))
    with _figure(1, 1) as ([ax], finished):
        _bars(ax, *np.histogram(audit.nearest.clip(None, 1), bins=_BARS, range=(low, 1)), _COLOURS[IMAGE])
        ax.axvline(DUPLICATE, color=_ALARM, lw=1.2, ls="--")
        title = f"{audit.duplicates:,} of {len(audit.nearest):,} above {DUPLICATE} (dashed)"
        ax.set_title(title, loc="right")
        ax.set_xlabel("cosine to the nearest other picture of the sample")
        ax.set_ylabel("pictures")
        return finished()


def retrieval(audit: Audit) -> str:
    """Plots the shares of pseudo-captions and texts that find their own picture."""
    rows = []
    for kind, r in audit.retrieval.items():
        rows += [(f"{_NAMES[kind]}, top {k}", share, kind) for k, share in ((1, r.top_1), (5, r.top_5))]

    with _figure(1, 1, height=0.75 + 0.42 * len(rows)) as ([ax], finished):
        # A bar a row, the first at the top.
        places = np.arange(len(rows))[::-1]
        colours = [_COLOURS[kind] for *_, kind in rows]
        ax.barh(places, [share for _, share, _ in rows], color=colours, height=0.62)
        for place, (_, share, _) in zip(places, rows, strict=True):
            ax.text(min(share, 1) + 0.008, place, f"{share:.1%}", va="center")

        # Axes.
        ax.set_yticks(places, [name for name, *_ in rows])
        ax.grid(axis="y", visible=False)
        ax.set_xlim(0, 1.08)
        ax.set_xticks(np.linspace(0, 1, 6))
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        among = audit.retrieval[PSEUDO].among
        chance = f"{1 / among:.2%} and {5 / among:.2%} by chance"
        ax.set_xlabel(f"share with their own among {among:,} pictures ({chance})")
        return finished()


def sweep(audit: Audit) -> str:
    """Plots mean cosine and retrieval against the amount of noise, with the law and notable amounts."""
    # Notable amounts of noise.
    amounts, set_xi = audit.sweep.xi, float(audit.tables.identity["xi"])
    marks = {0.25: ("the paper, 0.25", _INK), 3.0: ("LAFITE, 3", "#8a5fb0")}
    if set_xi not in marks:
        marks[set_xi] = (f"this set, {set_xi:g}", _ALARM)

    with _figure(1, 2, height=3.4) as ((left, right), finished):
        # Mean cosine, with its law.
        left.plot(amounts, audit.sweep.law, color=_PALE, lw=4, label="law")
        left.plot(amounts, audit.sweep.cosine, "o", color=_COLOURS[PSEUDO], ms=4, label="measured")
        left.set_title("mean cosine of pseudo-caption and image")

        # Retrieval.
        right.plot(amounts, audit.sweep.top_1, "o-", color=_COLOURS[PSEUDO], ms=4, lw=1.4)
        right.set_title("pictures nearest to their pseudo-caption")
        right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))

        # Axes and marks.
        for ax in (left, right):
            ax.set_xscale("log")
            ax.set_xticks([0.05, 0.1, 0.25, 0.5, 1, 3, 10], ["0.05", "0.1", "0.25", "0.5", "1", "3", "10"])
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.set_ylim(-0.04, 1.06)
            ax.set_xlabel("xi")
            for xi, (name, colour) in marks.items():
                if amounts[0] <= xi <= amounts[-1]:
                    ax.axvline(xi, color=colour, lw=1, ls="--", label=name if ax is left else None)
        left.figure.legend(loc="outside lower center", ncols=5)
        return finished()


def vocabulary(words: Mapping[str, int]) -> str:
    """Plots the numbers of distinct words in 1,000 captions, and those of the paper's table 4.

    `words` has our numbers, by name."""
    rows = [(lettering.label(name), count, _COLOURS[TEXT]) for name, count in words.items()]
    rows += [(name, count, _PALE) for name, count in TABLE_4.items()]

    with _figure(1, 1, height=0.75 + 0.33 * len(rows)) as ([ax], finished):
        # A bar a row, the first at the top.
        places = np.arange(len(rows))[::-1]
        ax.barh(places, [count for _, count, _ in rows], color=[colour for *_, colour in rows], height=0.64)
        most = max(count for _, count, _ in rows)
        for place, (_, count, _) in zip(places, rows, strict=True):
            ax.text(count + most * 0.008, place, f"{count:,}", va="center")

        # Axes.
        ax.set_yticks(places, [name for name, *_ in rows])
        ax.grid(axis="y", visible=False)
        ax.set_xlim(0, most * 1.08)
        ax.set_xlabel("distinct words")
        return finished()


def frequencies(audit: Audit) -> str:
    """Plots the frequency of each word by its rank, on logarithmic axes."""
    times = np.sort(np.fromiter(audit.tally.frequency.values(), np.float64))[::-1]
    with _figure(1, 1) as ([ax], finished):
        ranks = np.arange(1, len(times) + 1)
        ax.plot(ranks, times, "o-", color=_COLOURS[TEXT], ms=3, lw=1, label="all captions")
        ax.plot(ranks, times[:1] / ranks, color=_PALE, lw=2, ls="--", label="1 / rank (Zipf)", zorder=1)

        # Axes.
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_ylim(0.7, None)
        ax.set_xlabel("rank of the word")
        ax.set_ylabel("occurrences")
        ax.legend(loc="lower left")
        return finished()


@contextmanager
def _figure(rows: int, columns: int, *, height: float = _HEIGHT) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Yields axes in the project's style, and a function that returns the SVG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")

        def finished() -> str:
            file = io.StringIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            return file.getvalue()

        yield figure.subplots(rows, columns, squeeze=False).reshape(-1), finished


def _coarse(histogram: Cosines) -> tuple[np.ndarray, np.ndarray]:
    """Returns counts and edges of 60 bars over the filled range of a histogram."""
    filled = np.flatnonzero(histogram.counts)
    step = -(-(filled[-1] - filled[0] + 1) // _BARS)  # fine bins a bar

    # The bars are centred on the filled range, but none is above a cosine of 1.
    first = min((filled[0] + filled[-1] + 1 - step * _BARS) // 2, BINS - step * _BARS)
    counts = np.bincount((filled - first) // step, weights=histogram.counts[filled], minlength=_BARS)
    return counts, (first + step * np.arange(_BARS + 1)) * (2 / BINS) - 1


def _bars(ax: Any, counts: np.ndarray, edges: np.ndarray, colour: str) -> None:
    ax.stairs(counts, edges, fill=True, color=colour, alpha=0.85)
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_locator(MaxNLocator(4))
