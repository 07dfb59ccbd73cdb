"""The audit as one HTML page with its plots inside: no script, no requests."""

import base64
import io
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from PIL import Image

from caption.audit import plots
from caption.audit import report as limits
from caption.audit.report import Audit, Pair
from caption.audit.scan import IMAGE, PSEUDO, TEXT

_TEMPLATE = Path(__file__).with_name("page.html")
_EXAMPLES = 12  # captions of a captioner
_DISTINCT = "distinct words, or pairs of words, per word"
_VOCABULARY = (
    *("captions", "count", "distinct words", "distinct captions"),
    *("distinct-1", "distinct-2", "words per caption"),
)


class Section(NamedTuple):
    """A plot with a sentence that explains it."""

    title: str
    aid: str
    plot: str  # data: URL
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    pictures: Sequence[tuple[str, str]] = ()  # data: URL and remark


def page(audit: Audit, pictures: Mapping[str, np.ndarray]) -> str:
    """Returns the page. `pictures` (uint8 (H, W, 3) by key) has the nearest pairs, or nothing."""
    # StrictUndefined makes a missing value an error, and autoescape keeps captions from being markup.
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        title=f"{audit.tables.identity['shards']['dataset']}, by {audit.tables.identity['encoder']}",
        facts=_facts(audit),
        figures=_figures(audit),
        warnings=audit.warnings(),
        limits=limits,
        sections=_sections(audit, pictures),
        captioners={name: islice(texts.items(), _EXAMPLES) for name, texts in audit.captioners.items()},
    )


def _facts(audit: Audit) -> list[tuple[str, str]]:
    identity = audit.tables.identity
    return [
        ("Tables", audit.tables.storage.url),
        ("Digest", audit.tables.digest),
        ("Encoder", f"{identity['encoder']}, {identity['precision']}, weights sha256 {identity['weights']}"),
        ("Noise", f"xi = {identity['xi']:g}, seed {identity['seed']}"),
        ("Counted", f"cosines, means, singular values and words over all {len(audit.tables):,} pictures"),
        ("Sampled", f"neighbours and retrieval over {len(audit.nearest):,} of them"),
    ]


def _figures(audit: Audit) -> list[tuple[str, str, str]]:
    """Returns the headline figures: value, name, remark."""
    # Images and pseudo-captions.
    cosine = f"{audit.cosines[IMAGE, PSEUDO].mean:.3f}"
    share = f"{audit.duplicates / len(audit.nearest):.1%}"
    first, among = f"{audit.retrieval[PSEUDO].top_1:.1%}", f"{audit.retrieval[PSEUDO].among:,}"
    figures = [
        (cosine, "cosine of image and pseudo-caption", f"{audit.law:.3f} by the law"),
        (f"{audit.ranks[IMAGE]:.1f}", "effective rank of image embeddings", f"of {audit.tables.dimensions}"),
        (share, "pictures with a duplicate", f"cosine above {limits.DUPLICATE}"),
        (first, "nearest to their pseudo-caption", f"first of {among}"),
    ]

    # Texts.
    if (IMAGE, TEXT) in audit.gaps:
        figures.append((f"{audit.gaps[IMAGE, TEXT]:.2f}", "modality gap", "distance of image and text means"))
    else:
        figures.append((f"{audit.moments[IMAGE].pair_cosine:.3f}", "cosine of two pictures", "on average"))
    wording = audit.tally.wording()
    return [*figures, (f"{wording.vocabulary:,}", "distinct words", f"in {wording.captions:,} captions")]


def _sections(audit: Audit, pictures: Mapping[str, np.ndarray]) -> list[Section]:
    # Rows of the tables.
    cosines = []
    for (a, b), c in audit.cosines.items():
        numbers = (c.mean, c.deviation, audit.strangers[a, b], audit.gaps[a, b])
        cosines.append([f"{a} and {b}", *(f"{x:.4f}" for x in numbers), f"{c.total:,}"])
    kinds = [
        [kind, f"{audit.ranks[kind]:.1f}", f"{moments.pair_cosine:.4f}", f"{moments.count:,}"]
        for kind, moments in audit.moments.items()
    ]
    closest = [[pair.first, pair.second, f"{pair.cosine:.5f}"] for pair in audit.closest]
    shown = [pair for pair in audit.closest if pair.first in pictures]

    # Plots.
    xi = float(audit.tables.identity["xi"])
    sections = [
        Section(
            "Cosines",
            "The cosine of a pseudo-caption and its image should be that of the law (dashed). A text should"
            " be clearly nearer to its own image than to any other: compare its mean with that of any two.",
            _url(plots.cosines(audit)),
            ("pair", "mean", "deviation", "mean of any two", "distance of means", "rows"),
            cosines,
        ),
        Section(
            "Modality gap" if TEXT in audit.moments else "Images and pseudo-captions",
            "Dots are embeddings, seen in the two directions in which they differ most. If crosses of two"
            " colours lie apart, the encoder keeps the two kinds in different places. The table above has the"
            " distance of their means.",
            _url(plots.gap(audit)),
        ),
        Section(
            "Effective rank",
            "A curve that falls steeply means that embeddings differ in few directions only. The dotted line"
            " is the equivalent number of equal directions (Roy and Vetterli 2007).",
            _url(plots.spectrum(audit)),
            ("kind", "effective rank", "mean cosine of two", "rows"),
            kinds,
        ),
        Section(
            "Nearest other picture",
            "Mass at the right end is repetition: to the encoder, two pictures beyond the dashed line"
            f" ({limits.DUPLICATE}) are one.",
            _url(plots.nearest(audit)),
            ("picture", "its nearest", "cosine"),
            closest,
            [(_side_by_side(pictures, pair), f"{pair.cosine:.5f}") for pair in shown],
        ),
        Section(
            "Retrieval",
            "Share of pictures that are the nearest, or among the five nearest, of their own pseudo-caption"
            f" (xi = {xi:g}). Short bars mean that a pseudo-caption hardly identifies its picture.",
            _url(plots.retrieval(audit)),
        ),
        Section(
            "Amount of noise",
            "Dots on the grey curve follow the law of equation 3. The dashed lines are the paper's xi and the"
            " one that LAFITE's code amounts to.",
            _url(plots.sweep(audit)),
        ),
    ]
    return sections + (_wording(audit) if audit.wordings else [])


def _wording(audit: Audit) -> list[Section]:
    # Our forms, captioners, and the paper's table 4.
    forms = {
        f"{name} on this set" if name in audit.captioners else f"this set, {name} captions": w
        for name, w in audit.wordings.items()
    }
    rows = []
    for name, w in {**forms, "this set, all captions": audit.tally.wording()}.items():
        counts = (f"{count:,}" for count in (w.captions, w.vocabulary, w.distinct))
        rows.append([name, *counts, f"{w.distinct_1:.4f}", f"{w.distinct_2:.4f}", f"{w.words:.1f}"])
    paper = plots.TABLE_4.items()
    rows += [[f"{name} (paper)", "1,000", f"{words}", "", "", "", ""] for name, words in paper]

    # The most frequent captions.
    total = audit.tally.captions
    commonest = [[text, f"{times:,}", f"{times / total:.2%}"] for text, times in audit.commonest]
    return [
        Section(
            "Vocabulary and the paper's table 4",
            "A short bar means that captions repeat a handful of words, as captioners do on formula pictures"
            f" (grey: the paper's). Distinct-1 and distinct-2 are {_DISTINCT}.",
            _url(plots.vocabulary({name: w.vocabulary for name, w in forms.items()})),
            _VOCABULARY,
            rows,
        ),
        Section(
            "Frequency of words",
            "Natural language falls along the dashed line. A flat top is the grammar's fixed words, and a"
            " cliff is the end of a small vocabulary.",
            _url(plots.frequencies(audit)),
            ("most frequent captions", "times", "share"),
            commonest,
        ),
    ]


def _url(svg: str) -> str:
    """Returns a plot as a data: URL, so that the ids of two plots do not clash."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _side_by_side(pictures: Mapping[str, np.ndarray], pair: Pair) -> str:
    """Returns two pictures as a data: URL."""
    file = io.BytesIO()
    Image.fromarray(np.concatenate([pictures[pair.first], pictures[pair.second]], axis=1)).save(file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
