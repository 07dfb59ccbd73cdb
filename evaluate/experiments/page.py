"""The report of an experiment: one HTML page that contains its pictures, and its tables as Markdown.

The page has no script and makes no requests. Times, dates, machines and commits are in its element `times`.
Everything else follows from the rows, the table and the pictures that this folder has.
"""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from evaluate.experiments import findings, plot, registration
from evaluate.experiments.findings import Findings
from evaluate.experiments.rows import Results
from evaluate.experiments.running import REPORT, TABLE, ExperimentRequest
from evaluate.experiments.table import Arm, Step
from synth.checkout import ROOT
from synth.sets.storage import Folder
from synth.settings import canonical, digest

_TEMPLATE = Path(__file__).with_name("page.html")
_CODE = ("page.py", "page.html", "plot.py", "findings.py", "exchange.py", "../inference.py")
_DIGEST = re.compile(r'<meta name="digest" content="([0-9a-f]{64})">')

Json = dict[str, Any]


class Line(NamedTuple):
    """An arm in the table of the page."""

    arm: Arm
    dots: list[float | None]  # the endpoint by seed
    mean: float | None
    others: list[float | None]  # means of the other figures


class Shown(NamedTuple):
    """A picture that an arm drew, or one with a title of its own, which stands alone."""

    title: str
    alone: bool
    picture: str  # data: URL


class Timed(NamedTuple):
    """The times of an arm."""

    arm: str
    rows: int
    cpu_seconds: float  # mean over seeds, with shared steps


def write(request: ExperimentRequest, results: Results) -> None:
    """Writes the page and, before it, the tables as Markdown."""
    folder = Folder(str(request.out))
    conclusions = findings.read(request.experiment, results, request.seeds)
    folder.write(TABLE, markdown(request, results, conclusions).encode())
    folder.write(REPORT, render(request, results, conclusions).encode())


def is_current(request: ExperimentRequest, results: Results) -> bool:
    """Returns True if the report matches the rows, the pictures and the code of the page."""
    page = request.out / REPORT
    if not page.exists() or not (request.out / TABLE).exists():
        return False
    match = _DIGEST.search(page.read_text(encoding="utf-8"))
    return match is not None and match[1] == _inputs(request, results)


def render(request: ExperimentRequest, results: Results, conclusions: Findings) -> str:
    """Returns the page."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["number"] = _number
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    experiment, rows = request.experiment, list(results.used.values())
    registered = registration.read(experiment, request.registered) or {}
    return template.render(
        e=experiment,
        found=conclusions,
        lines=lines(request, results),
        outdated=sorted({f"{row['arm']}, seed {row['seed']}" for row in results.outdated}),
        dots=_url(plot.dots(experiment, results, request.seeds)) if rows else "",
        curves=_url(plot.curves(experiment, results)) if any(plot.points(row) for row in rows) else "",
        pictures=_pictures(request),
        commands=_commands(experiment.arms),
        registered=registered,
        committed=registration.committed(request.registered),
        shipped=request.shipped,
        seeds=request.seeds,
        rows=rows,
        times=[_times(arm, results) for arm in experiment.arms],
        dates=sorted(row["run"]["date"] for row in rows),
        machines=sorted({row["run"]["machine"] for row in rows}),
        commits=sorted({row["run"]["commit"] for row in rows}),
        link=_link(request),
        digest=_inputs(request, results),
    )


def markdown(request: ExperimentRequest, results: Results, conclusions: Findings) -> str:
    """Returns the sentence and the tables, for a README."""
    experiment = request.experiment
    others = [figure.name for figure in experiment.others]
    head = ["arm", experiment.endpoint.name, "by seed", *others]
    body = [
        [line.arm.name, _number(line.mean), ", ".join(map(_number, line.dots)), *map(_number, line.others)]
        for line in lines(request, results)
    ]
    rows = [head, ["---"] * len(head), *body]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{experiment.question}\n\n{conclusions.sentence}\n\n{table}\n"


def lines(request: ExperimentRequest, results: Results) -> list[Line]:
    """Returns the arms with their figures."""
    experiment = request.experiment
    table = []
    for arm in experiment.arms:
        seeds = range(min(request.seeds, arm.seeds or request.seeds))
        dots, *others = (results.values(arm.name, seeds, figure.name) for figure in experiment.figures)
        table.append(Line(arm, dots, _mean(dots), [_mean(values) for values in others]))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _times(arm: Arm, results: Results) -> Timed:
    rows = [row for (name, _), row in results.used.items() if name == arm.name]
    return Timed(arm.name, len(rows), _mean([row["run"]["cpu_seconds"] for row in rows]) or 0.0)


def _drawn(request: ExperimentRequest) -> list[tuple[str, bool, Path]]:
    """Returns the pictures that this folder has of every arm's first seed, in the order of the arms.

    A picture that arms share comes once. Its title is its step's label, else the name of its first arm. True
    if it has a label."""
    drawn: dict[Path, tuple[str, bool]] = {}
    for arm in request.experiment.arms:
        for step in arm.chain(0):
            drawn.setdefault(request.out / step.makes, (step.label or arm.name, bool(step.label)))
    return [(*title, path) for path, title in drawn.items() if path.suffix == ".png" and path.is_file()]


def _pictures(request: ExperimentRequest) -> list[Shown]:
    return [Shown(title, alone, _url(path.read_bytes())) for title, alone, path in _drawn(request)]


def _link(request: ExperimentRequest) -> str:
    """Returns the address of the experiment's page with more, relative to the report, or nothing."""
    place, mark, anchor = request.experiment.link.partition("#")
    return os.path.relpath(ROOT / place, request.out) + mark + anchor if place else ""


def _commands(arms: Sequence[Arm]) -> list[tuple[str, list[Step]]]:
    """Returns the steps of every arm's first seed, without those of earlier arms."""
    seen: set[str] = set()
    commands = []
    for arm in arms:
        steps = [step for step in arm.chain(0) if step.address not in seen]
        seen |= {step.address for step in steps}
        commands.append((arm.name, steps))
    return commands


def _inputs(request: ExperimentRequest, results: Results) -> str:
    """Returns the sha256 of everything that the page shows, besides its element of times."""
    stated = [{k: v for k, v in row.items() if k != "run"} for row in results.used.values()]
    outdated = [[row["arm"], row["seed"]] for row in results.outdated]
    registered = request.registered.read_bytes() if request.registered.exists() else b""
    code = [hashlib.sha256((_TEMPLATE.parent / name).read_bytes()).hexdigest() for name in _CODE]
    pictures = [[title, hashlib.sha256(path.read_bytes()).hexdigest()] for title, _, path in _drawn(request)]
    content = [stated, outdated, hashlib.sha256(registered).hexdigest(), code, pictures, request.seeds]
    experiment = request.experiment
    stated_besides = {
        "limits": experiment.limits,
        "link": _link(request),
        "tables": markdown(request, results, findings.read(experiment, results, request.seeds)),
        "committed": registration.committed(request.registered),
        "arms": [arm.address(0) for arm in experiment.arms],
    }
    return digest({"content": canonical(content).decode(), **stated_besides})


def _url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
