"""The paper's tables 1 to 3, with the paper's figures and ours, as Markdown and as a page with sample grids.

A row is an arm: the pre-training set of a run. A column is a real set and a metric. The arm and the
fine-tuning set of a run determine its cell. A second table lists all runs with the figures that have no cell.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evaluate import results
from synth.errors import UserError
from synth.sets.storage import Folder
from train.runs import Run, find

SCRATCH = "scratch"

_ARM = "pre-trained on"
_SETS = {"coco": "MSCOCO", "cub": "CUB", "celeba_hq": "CelebA-HQ"}  # name in data/ -> name in the paper
_NO_CAPTIONS = ("pseudo", "stored")  # settings of data.text that read the pictures' embeddings
_CONDITIONS = (
    "reference",
    "reference_n",
    "reference_digest",
    "detector",
    "weights",
    "resize",
    "seed",
    "captions",
    "drawing",
)
_PARTS = ("set", "split", "method", "minus", "kind", "cross")  # entries that tell rows of one metric apart
_WHOLE = "all"  # the value of such an entry if a row is of everything
_DIGESTS = ("reference_digest", "weights")
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}"
    "td:first-child,h2{overflow-wrap:anywhere}"
    "table{border-collapse:collapse}img{max-width:100%}"
)

Json = dict[str, Any]


class Column(NamedTuple):
    """A real set and a metric."""

    dataset: str
    metric: str

    def __str__(self) -> str:
        return f"{_SETS[self.dataset]} {self.metric}"


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    title: str
    metrics: tuple[str, ...]
    arms: Mapping[str, tuple[str, tuple[float, ...]]]  # arm -> the paper's name, and its figures by columns

    @property
    def columns(self) -> list[Column]:
        """The columns, set by set."""
        return [Column(dataset, metric) for dataset in _SETS for metric in self.metrics]


TABLES = {
    1: Table(
        "Pre-training sets (Nakao et al., table 1)",
        ("IS", "FID"),
        {
            SCRATCH: ("Scratch", (17.4, 50.9, 5.82, 46.0, 3.02, 52.7)),
            "cc3m, captions": ("CC3M + caption", (25.9, 20.4, 5.94, 20.4, 2.94, 17.8)),
            "cc3m": ("CC3M + pseudo", (24.2, 26.3, 6.21, 25.3, 2.86, 21.2)),
            "visual_atoms": ("Visual Atoms", (20.9, 36.9, 6.95, 38.6, 2.85, 35.2)),
            "shaders21k": ("Shaders21k", (22.1, 37.4, 6.64, 35.3, 2.67, 25.8)),
            "fractals": ("Improved FractalDB", (24.2, 29.3, 6.13, 30.4, 2.76, 26.9)),
        },
    ),
    2: Table(
        "Without colour (Nakao et al., table 2)",
        ("FID",),
        {
            "fractals": ("Improved FractalDB", (29.3, 30.4, 26.9)),
            "fractals_without_color": ("w/o color", (42.7, 41.6, 39.5)),
        },
    ),
    3: Table(
        "Without background, and with corrupted contours (Nakao et al., table 3)",
        ("FID",),
        {
            "fractals_without_background": ("w/o background", (35.9, 50.1, 36.6)),
            "fractals_corrupted_contour": ("corrupted contour", (41.6, 52.7, 41.3)),
        },
    ),
}


class Row(NamedTuple):
    """A run in the table."""

    run: Run
    arm: str  # its pre-training set
    fitted_to: str  # its fine-tuning set
    figures: list[Json]  # of its newest measured checkpoint


def write(path: Path, number: int, rows: Sequence[Row]) -> Path:
    """Writes the Markdown and a page beside it. Returns the page's path.

    Each file appears whole or not at all."""
    folder, other = Folder(str(path.parent)), path.with_suffix(".html")
    folder.write(path.name, markdown(number, rows).encode())
    folder.write(other.name, page(number, rows).encode())
    return other


def row_of(run: Run) -> Row:
    """Returns a run with its newest figures. Leaves out those of probes, which name no checkpoint.

    Raises UserError if it has none."""
    rows = (row for row in results.read(run.path) if "images_seen" in row)
    measured = [{**row, "metric": _name(row)} for row in rows if row.get("value") is not None]
    newest = max((row["images_seen"] for row in measured), default=0)
    # Of two rows of one metric, the later counts.
    latest = {row["metric"]: row for row in measured if row["images_seen"] == newest}
    if not latest:
        advice = f"`python -m evaluate metrics {run.path} --on SET` writes some"
        raise UserError(f"{run.path / results.NAME} holds no figure; {advice}")
    return Row(run, _arm(run), str(run.metadata["shards"].get("dataset")), list(latest.values()))


def arms(number: int, rows: Sequence[Row]) -> list[Json]:
    """Returns the paper's arms, then our others, with the paper's figure and ours of each column."""
    table, cells = TABLES[number], _cells(TABLES[number], rows)
    lines: list[Json] = []
    for arm in dict.fromkeys([*table.arms, *(arm for arm, _ in cells)]):
        name, figures = table.arms.get(arm, (arm, (None,) * len(table.columns)))
        pairs = zip(table.columns, figures, strict=True)
        both = {str(column): {"paper": f, "ours": cells.get((arm, column), [])} for column, f in pairs}
        lines.append({_ARM: name, **both})
    return lines


def markdown(number: int, rows: Sequence[Row]) -> str:
    """Returns the table as Markdown, and below it the runs and the conditions of their figures."""
    parts = [f"# {TABLES[number].title}", _beside(TABLES[number], arms(number, rows))]
    if rows:
        parts += ["## Runs", _others(TABLES[number], rows), _notes(rows)]
    return "\n\n".join(parts) + "\n"


def page(number: int, rows: Sequence[Row]) -> str:
    """Returns the table as one self-contained HTML page, each run with its newest grid."""
    # Content.
    blocks = markdown(number, rows).split("\n\n")
    body = "\n".join(_html_table(b) if b.startswith("|") else _html_text(b) for b in blocks)
    grids = "\n".join(_grid(row) for row in rows)

    # Frame.
    meta = f'<meta charset="utf-8"><title>{TABLES[number].title}</title>'
    head = f'<!doctype html><html lang="en"><head>{meta}<style>{_STYLE}</style></head>'
    return f"{head}<body>\n{body}\n{grids}\n</body></html>\n"


def _arm(run: Run) -> str:
    """Returns the arm of a run: its pre-training set, and the captions if the pre-training read them."""
    source = run.metadata.get("from")
    if not source:
        return SCRATCH

    # The pre-training may have been deleted since.
    try:
        origin = find(source["run"])
        text = origin.config.data.text
    except UserError:
        return f"the run {Path(source['run']).name}, which cannot be read"

    # Set and captions.
    captions = "" if text in _NO_CAPTIONS else ", captions" if text == "caption" else f", {text}"
    return f"{origin.metadata['shards'].get('dataset')}{captions}"


def _name(row: Json) -> str:
    """Returns the metric of a row, with its set of scenes, split and method if it has any."""
    parts = [str(row[key]) for key in _PARTS if row.get(key, _WHOLE) != _WHOLE]
    return ", ".join([row["metric"], *parts])


def _cells(table: Table, rows: Sequence[Row]) -> dict[tuple[str, Column], list[Json]]:
    """Returns the figures of each cell, by arm and column, in the order of the runs."""
    cells: dict[tuple[str, Column], list[Json]] = {}
    for row in rows:
        for figure in row.figures:
            if _has(table, row, figure):
                cells.setdefault((row.arm, Column(row.fitted_to, figure["metric"])), []).append(figure)
    return cells


def _has(table: Table, row: Row, figure: Json) -> bool:
    """Returns True if the table has a cell for a figure of a run."""
    return row.fitted_to in _SETS and figure["metric"] in table.metrics


def _beside(table: Table, rows: Sequence[Json]) -> str:
    """Returns the arms, with the paper's figures and ours in adjacent columns."""
    # Head.
    columns = [str(column) for column in table.columns]
    head = [_ARM, *(word for name in columns for word in (f"{name}, paper", "ours"))]
    lines = [_line(head), _rule(len(head))]

    # Arms.
    for row in rows:
        pairs = [(_papers(row[name]["paper"]), "; ".join(map(_value, row[name]["ours"]))) for name in columns]
        lines.append(_line([row[_ARM], *(word for pair in pairs for word in pair)]))
    return "\n".join(lines)


def _papers(figure: float | None) -> str:
    return "" if figure is None else str(figure)


def _others(table: Table, rows: Sequence[Row]) -> str:
    """Returns all runs, with the figures that have no cell."""
    # Head.
    names = list(dict.fromkeys(f["metric"] for row in rows for f in row.figures if not _has(table, row, f)))
    lines = [_line(["run", _ARM, "set", "images seen", "N", *names]), _rule(5 + len(names))]

    # Runs.
    for row in rows:
        values = {f["metric"]: _value(f) for f in row.figures if not _has(table, row, f)}
        counts = ", ".join(f"{n:,}" for n in sorted({f["n"] for f in row.figures if "n" in f}, reverse=True))
        first = [row.run.path.name, row.arm, row.fitted_to, f"{row.figures[0]['images_seen']:,}", counts]
        lines.append(_line([*first, *(values.get(name, "") for name in names)]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + " --- |" * columns


def _value(figure: Json) -> str:
    spread = f" ± {figure['error']:.3g}" if figure.get("error") else ""
    return f"{figure['value']:.4g}{spread}" + ("*" if figure.get("notes") else "")


def _notes(rows: Sequence[Row]) -> str:
    """Returns the distinct conditions of the figures, and the figures' notes."""
    figures = [figure for row in rows for figure in row.figures]
    conditions = dict.fromkeys(map(_conditions, figures))
    notes = dict.fromkeys(f"* {f['metric']}: {note}" for f in figures for note in f.get("notes") or ())
    warning = ["Figures compare only if all of these conditions agree:"] if len(conditions) > 1 else []
    return "\n".join([*warning, *(f"- {line}" for line in (*conditions, *notes))])


def _conditions(figure: Json) -> str:
    """Returns the conditions that make a figure comparable, in one line. Shortens digests."""
    values = {key: figure[key] for key in _CONDITIONS if figure.get(key) is not None}
    values.update({key: str(values[key])[:12] for key in _DIGESTS if key in values})
    if drawing := values.get("drawing"):
        values["drawing"] = " ".join(f"{name}={value}" for name, value in sorted(drawing.items()))
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())


def _html_table(block: str) -> str:
    """Returns a Markdown table as HTML."""
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()]
    rows = [f"<tr>{''.join(f'<th>{html.escape(c)}</th>' for c in cells[0])}</tr>"]
    rows += [f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in cells[2:]]
    return f"<table>{''.join(rows)}</table>"


def _html_text(block: str) -> str:
    """Returns a Markdown title, list or paragraph as HTML."""
    hashes, _, title = block.partition(" ")
    if hashes in ("#", "##"):
        return f"<h{len(hashes)}>{html.escape(title)}</h{len(hashes)}>"
    lines = [
        f"<li>{html.escape(line[2:])}</li>" if line.startswith("- ") else f"<p>{html.escape(line)}</p>"
        for line in block.splitlines()
    ]
    return "\n".join(lines)


def _grid(row: Row) -> str:
    """Returns the newest sample grid of a run, if it drew one."""
    # Grids are named by images seen; other pictures there are the user's.
    grids = sorted(p for p in (row.run.path / "samples").glob("*.png") if p.stem.isdecimal())
    if not grids:
        return ""
    picture = base64.b64encode(grids[-1].read_bytes()).decode()
    name = html.escape(f"{row.run.path.name}, {int(grids[-1].stem):,} images seen")
    return f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{picture}">'
