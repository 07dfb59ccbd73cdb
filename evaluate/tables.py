"""The paper's tables 1 to 3 with our figures and the paper's beside them, as Markdown and as a page with sample grids."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synth.errors import UserError
from train.runs import Run, find

Json = dict[str, Any]

_SETS = ("coco", "cub", "celeba_hq")
_TITLES = {
    1: "Pre-training sets (Nakao et al., table 1)",
    2: "Without colour (table 2)",
    3: "Without background, and with corrupted contours (table 3)",
}
_PAPER: dict[int, dict[str, tuple[float | None, ...]]] = {  # arm -> IS and FID on MSCOCO, CUB, CelebA-HQ
    1: {
        "Scratch": (17.4, 50.9, 5.82, 46.0, 3.02, 52.7),
        "CC3M + caption": (25.9, 20.4, 5.94, 20.4, 2.94, 17.8),
        "CC3M + pseudo": (24.2, 26.3, 6.21, 25.3, 2.86, 21.2),
        "visual_atoms": (20.9, 36.9, 6.95, 38.6, 2.85, 35.2),
        "shaders21k": (22.1, 37.4, 6.64, 35.3, 2.67, 25.8),
        "fractals": (24.2, 29.3, 6.13, 30.4, 2.76, 26.9),
    },
    2: {"fractals": (None, 29.3, None, 30.4, None, 26.9), "fractals_without_color": (None, 42.7, None, 41.6, None, 39.5)},
    3: {
        "fractals_without_background": (None, 35.9, None, 50.1, None, 36.6),
        "fractals_corrupted_contour": (None, 41.6, None, 52.7, None, 41.3),
    },
}


class Row(NamedTuple):
    """A run in the table."""

    run: Run
    arm: str  # what it was pre-trained on
    fitted_to: str  # what it was fine-tuned on
    figures: list[Json]  # of its newest measured checkpoint


def write(number: int, places: Sequence[str], out: str) -> Json:
    """Writes both files; what was written. Raises UserError where a run has no figures."""
    path = Path(out)
    if path.suffix != ".md":
        raise UserError(f"--out is {out}; it must end in .md")
    rows = [row_of(find(place)) for place in places]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = markdown(number, rows)
    path.write_text(text)
    path.with_suffix(".html").write_text(page(number, rows))
    return {"out": out, "page": str(path.with_suffix(".html")), "runs": len(rows)}


def row_of(run: Run) -> Row:
    """A run with its newest figures. Raises UserError where it has none."""
    try:
        lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    except (FileNotFoundError, ValueError):
        raise UserError(
            f"{run.path} has no readable metrics.jsonl; `python -m evaluate metrics {run.path} --reference ...` writes it"
        ) from None
    taken = [line for line in lines if line.get("value") is not None]
    newest = max((line["images_seen"] for line in taken), default=0)
    latest = {line["metric"]: line for line in taken if line["images_seen"] == newest}  # of a figure taken twice, the later
    if not latest:
        raise UserError(f"{run.path / 'metrics.jsonl'} holds no figure; `python -m evaluate metrics {run.path}` writes some")
    return Row(run, _arm(run), str(run.about["shards"].get("dataset")), list(latest.values()))


def markdown(number: int, rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    names = list(dict.fromkeys(f["metric"] for row in rows for f in row.figures))
    lines = [f"# {_TITLES[number]}", "", "The paper's figures:", "", *_paper(number), "", "Ours:", ""]
    lines += [f"| run | pre-trained on | set | images seen | N | {' | '.join(names)} |", "|" + " --- |" * (5 + len(names))]
    for row in rows:
        values = {f["metric"]: _value(f) for f in row.figures}
        n, seen = row.figures[0]["n"], row.figures[0]["images_seen"]
        shown = " | ".join(values.get(name, "") for name in names)
        lines.append(f"| {row.run.path.name} | {row.arm} | {row.fitted_to} | {seen:,} | {n:,} | {shown} |")
    return "\n".join([*lines, "", *_notes(rows)]) + "\n"


def page(number: int, rows: Sequence[Row]) -> str:
    """The table as one HTML page that needs nothing else, each run with its newest grid."""
    body = "\n".join(_html_table(block) if block.startswith("|") else _html_text(block) for block in markdown(number, rows).split("\n\n"))
    grids = "\n".join(_grid(row) for row in rows)
    style = "body{font:15px/1.5 sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    style += "td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left}table{border-collapse:collapse}img{max-width:100%}"
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_TITLES[number]}</title><style>{style}</style></head>'
    return f"{head}<body>\n{body}\n{grids}\n</body></html>\n"


def _arm(run: Run) -> str:
    """What a run was pre-trained on: the set of the run that it was started from, or scratch."""
    source = run.about.get("from")
    if not source:
        return "scratch"
    try:
        return str(find(source["run"]).about["shards"].get("dataset"))
    except UserError:
        return Path(source["run"]).name


def _value(figure: Json) -> str:
    spread = f" ± {figure['error']:.3g}" if figure.get("error") else ""
    return f"{figure['value']:.4g}{spread}" + ("*" if figure.get("notes") else "")


def _notes(rows: Sequence[Row]) -> list[str]:
    """What makes the figures comparable, and what a reader must know of them."""
    kept = ("reference", "reference_n", "reference_digest", "detector", "weights", "resize", "seed", "captions")
    terms = dict.fromkeys(tuple((k, str(f[k])) for k in kept if f.get(k) is not None) for row in rows for f in row.figures)
    lines = [", ".join(f"{k.replace('_', ' ')} {v[:12] if k in ('weights', 'reference_digest') else v}" for k, v in t) for t in terms]
    notes = dict.fromkeys(f"* {f['metric']}: {note}" for row in rows for f in row.figures for note in f.get("notes") or ())
    warning = ["Figures compare only where all of this agrees:"] if len(lines) > 1 else []
    return ["\n".join([*warning, *(f"- {line}" for line in lines), *(f"- {note}" for note in notes)])]


def _paper(number: int) -> list[str]:
    head = [f"{metric} {name}" for name in ("MSCOCO", "CUB", "CelebA-HQ") for metric in ("IS", "FID")]
    kept = [i for i in range(6) if any(v[i] is not None for v in _PAPER[number].values())]
    lines = [f"| pre-trained on | {' | '.join(head[i] for i in kept)} |", "|" + " --- |" * (1 + len(kept))]
    return lines + [f"| {arm} | {' | '.join(str(values[i]) for i in kept)} |" for arm, values in _PAPER[number].items()]


def _html_table(block: str) -> str:
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in block.splitlines()]
    rows = [f"<tr>{''.join(f'<th>{html.escape(c)}</th>' for c in cells[0])}</tr>"]
    rows += [f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in cells[2:]]
    return f"<table>{''.join(rows)}</table>"


def _html_text(block: str) -> str:
    if block.startswith("# "):
        return f"<h1>{html.escape(block[2:])}</h1>"
    lines = [f"<li>{html.escape(line[2:])}</li>" if line.startswith("- ") else f"<p>{html.escape(line)}</p>" for line in block.splitlines()]
    return "\n".join(lines)


def _grid(row: Row) -> str:
    """The newest sample grid of a run, if it drew one."""
    drawn = sorted((row.run.path / "samples").glob("*.png"))
    if not drawn:
        return ""
    picture = base64.b64encode(drawn[-1].read_bytes()).decode()
    name = html.escape(f"{row.run.path.name}, {int(drawn[-1].stem):,} images seen")
    return f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{picture}">'
