"""Measuring: a run against a reference, one set against another, every checkpoint of a run."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from caption import encoders
from caption.table import CaptionSet
from evaluate import detectors, prompts, results, sources
from evaluate.detectors import Detector
from evaluate.distances import scores
from evaluate.features import Features, extract
from evaluate.figures import Figure
from evaluate.metrics import (
    CANDIDATES,
    METRICS,
    NAMED,
    TEXT_METRICS,
    conditions,
    measure,
    measure_naming,
    measure_texts,
    parse,
    require_measurable,
)
from evaluate.prompts import Prompts
from synth.errors import UserError
from synth.sets import places
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from train.runs import Run, find
from train.sampling.draw import opened_by, options_of, require_drawing

_LARGE_IS_GOOD = (
    *("IS", "precision", "recall", "density", "coverage", "CLIP score", "R-precision"),
    "named right among 10",
)
CLIP = "ViT-L-14/openai"  # the usual encoder of text metrics

Json = dict[str, Any]
Events = Generator[Progress | list[Json], None, None]  # numbers of processed pictures, and last the rows


@dataclass(frozen=True)
class MeasureRequest:
    """The options of `metrics` and `curve`."""

    run: str
    reference: str
    captions: str | None = None
    n: int = 30_000
    detector: str = detectors.INCEPTION
    weights: str | None = None  # a file, for inception
    metrics: str = "fid,kid,is,pr,dc"
    clip: str | None = None  # encoder of the text metrics; None: ViT-L-14/openai
    seed: int = 0
    resamples: int = 0
    images_seen: int | None = None
    encoder: str | None = None
    device: str = "auto"
    drawing: Mapping[str, str] = field(default_factory=dict)  # options, in their command-line form


@dataclass(frozen=True)
class TextJudge:
    """An encoder that compares pictures with their texts."""

    detector: Detector
    rows: list[int]  # numbers of the pictures that have a text
    texts: np.ndarray  # float32 (len(rows), D), unit length


@dataclass(frozen=True)
class Bench:
    """Everything that measures a run's checkpoints, loaded once."""

    request: MeasureRequest
    run: Run
    prompts: Prompts
    metrics: list[str]
    detector: Detector
    split: str  # the reference's name
    reference: Features
    judge: TextJudge | None  # for text metrics
    device: str


def usual_tables(run: str, reference: str) -> str | None:
    """Returns the finished tables of a reference by the run's encoder in the usual place, or None.

    Raises UserError if the run or the reference is missing."""
    shards, encoder = ShardSet(reference), find(run).metadata["encoder"] or {}
    digests = (shards.digest, encoder.get("digest"))
    for place in places.all_tables(str(shards.manifest["identity"].get("dataset", ""))):
        tables = CaptionSet(place)
        if (tables.manifest["shards"]["digest"], tables.identity["weights"]) == digests:
            return place
    return None


def pictures(request: MeasureRequest, *, checkpoints: bool = False) -> int:
    """Returns the number of pictures to process: the reference's, and those that the checkpoints draw.

    Raises UserError if the reference or the run is missing."""
    reference = len(ShardSet(request.reference))
    count = len(find(request.run).checkpoints()) if checkpoints else 1
    return reference + count * min(request.n, reference)


def prepare(request: MeasureRequest) -> Generator[Progress, None, Bench]:
    """Loads everything that measures a run's checkpoints, and extracts the reference's features.

    Yields the number of processed pictures. Raises UserError if the request does not fit together."""
    # Options.
    device, names = encoders.choose_device(request.device), parse(request.metrics)
    text_names = set(names) & set(TEXT_METRICS)
    if request.clip is not None and not text_names:
        users = " and ".join(TEXT_METRICS)
        raise UserError(f"--clip belongs to the metrics {users}; add one, or leave it out")
    if request.resamples and "fid" not in names:
        raise UserError("--resamples belongs to the metric fid; add it, or leave it out")
    if request.captions and request.encoder:
        raise UserError("--captions holds the vectors of the prompts, so --encoder has no use; leave one out")
    if request.n < 2:
        raise UserError(f"--n is {request.n}; it must be at least 2")

    # Run and reference.
    run, shards = find(request.run), ShardSet(request.reference)
    module = require_drawing(run.model, request.run)
    results.require_place(run.path)
    run.checkpoint(request.images_seen)
    prompted = _prompts(request, run, shards, device)
    opened_by(module, options_of(run.model, request.drawing), run)
    if NAMED in names and prompted.vectors is None:
        problem = f"the metric {NAMED} needs vectors of captions, and {request.run} names no encoder of them"
        raise UserError(f"{problem}; leave it out")
    if NAMED in names and not prompted.paired:
        problem = f"the metric {NAMED} needs one caption by a person for each picture of {request.reference}"
        raise UserError(f"{problem}; leave it out, or give tables with captions by --captions")
    yield from prompts.noted(run, prompted.texts, request.drawing)
    judge = _text_judge(request.clip or CLIP, prompted, device) if text_names else None
    if judge and "rprecision" in names:
        scores.require_different(judge.texts, CANDIDATES)

    # Features of the reference.
    if len(shards) < request.n != MeasureRequest.n:
        problem = f"{request.reference} holds {len(shards):,} pictures"
        yield Progress(0, note=f"note: {problem}, so {len(shards):,} are drawn, not {request.n:,}")
    detector = detectors.load(request.detector, weights=request.weights, device=device)
    split = sources.of_shards(request.reference)
    require_measurable(names, detector.name, len(prompted.texts), split.count)
    [reference] = yield from extract([detector], split)
    return Bench(request, run, prompted, names, detector, split.name, reference, judge, device)


def figures(bench: Bench, folder: Path) -> Generator[Progress, None, list[Figure]]:
    """Measures a checkpoint. Draws each picture once. Returns the figures.

    Yields the number of processed pictures. Raises UserError if the checkpoint cannot be measured."""
    # Features of the drawn pictures.
    request, reference, judge = bench.request, bench.reference, bench.judge
    names = [name for name in bench.metrics if name in METRICS]
    naming = NAMED in bench.metrics
    nets = [*([bench.detector] if names or naming else []), *([judge.detector] if judge else [])]
    images = prompts.draw(
        bench.run, folder, bench.prompts, seed=request.seed, device=bench.device, options=request.drawing
    )
    generated = yield from extract(nets, images)

    # Metrics on a detector's features.
    captions = bench.prompts.policy
    of = partial(conditions, reference=reference, split=bench.split, seed=request.seed, captions=captions)
    rows: list[Figure] = []
    if names:
        rows += measure(generated[0], reference, names, of(generated[0]), resamples=request.resamples)

    if naming:
        assert bench.prompts.vectors is not None
        rows.append(measure_naming(generated[0], reference, bench.prompts.vectors, of(generated[0])))

    # Metrics of pictures and texts.
    if judge:
        embeddings = generated[-1].matrix()[judge.rows]
        shared = replace(of(generated[-1]), n=len(embeddings))
        text_names = [name for name in bench.metrics if name in TEXT_METRICS]
        rows += measure_texts(embeddings, judge.texts, text_names, shared)

    # Figures by the encoder that made the run's captions.
    return [replace(f, notes=(*f.notes, *prompts.notes_of(bench.run, f.conditions.weights))) for f in rows]


def metrics(request: MeasureRequest) -> Events:
    """Measures a run. Appends its figures to its metrics.jsonl. Raises UserError if it cannot be measured."""
    bench = yield from prepare(request)
    yield (yield from _written(bench, bench.run.checkpoint(request.images_seen)))


def curve(request: MeasureRequest) -> Events:
    """Measures every checkpoint of a run, oldest first. Raises UserError if one cannot be measured."""
    bench = yield from prepare(request)
    rows: list[Json] = []
    for folder in bench.run.checkpoints():
        rows += yield from _written(bench, folder)
    yield rows


def compare(
    a: str, b: str, *, detector: str, weights: str | None, names: str, n: int | None, device: str
) -> Events:
    """Measures a set of pictures against another. Raises UserError if they do not compare."""
    # Metrics.
    chosen = parse(names)
    if text_names := [name for name in chosen if name in (*TEXT_METRICS, NAMED)]:
        raise UserError(f"{', '.join(text_names)} need texts; compare knows {', '.join(METRICS)}")

    # Features of both sets.
    net = detectors.load(detector, weights=weights, device=encoders.choose_device(device))
    first, second = (sources.find(place, limit=n) for place in (a, b))
    require_measurable(chosen, net.name, first.count, second.count)
    [generated] = yield from extract([net], first)
    [reference] = yield from extract([net], second)
    shared = conditions(generated, reference, split=second.name, seed=0, captions="none")
    yield [figure.row() for figure in measure(generated, reference, chosen, shared)]


def _prompts(request: MeasureRequest, run: Run, shards: ShardSet, device: str) -> Prompts:
    """Returns the prompts of a run: the first captions of the reference.

    They have vectors if the run names an encoder. Raises UserError if the run has learned no such texts."""
    n, forms = min(request.n, len(shards)), prompts.forms_of(run, request.drawing)
    if run.metadata["encoder"] or "vectors" in forms:
        if request.captions:
            return prompts.of_tables(shards, CaptionSet(request.captions), run, n)
        return prompts.of_texts(shards, run.encoder(request.encoder, device), n)
    for option, value in (("--captions", request.captions), ("--encoder", request.encoder)):
        if value:
            problem = f"{request.run} has learned words alone, so {option} has no use"
            raise UserError(f"{problem}; leave it out")
    return prompts.of_texts(shards, None, n)


def _text_judge(name: str, prompted: Prompts, device: str) -> TextJudge:
    """Returns the encoder of that name with the embeddings of the prompts' texts.

    Raises UserError if there are none."""
    rows = [i for i, text in enumerate(prompted.texts) if text]
    if not rows:
        raise UserError("the reference has no texts; clip and rprecision need some, so leave them out")
    encoder = encoders.load(encoders.find(name), device)
    texts = encoder.texts([encoder.cut(prompted.texts[i]) for i in rows])
    return TextJudge(detectors.of_encoder(encoder), rows, texts)


def _written(bench: Bench, folder: Path) -> Generator[Progress, None, list[Json]]:
    """Measures a checkpoint. Appends its figures to the run's, and returns them as rows.

    Yields the number of processed pictures."""
    shared: Json = {"images_seen": bench.run.images_seen(folder)}
    if bench.request.drawing:
        shared["drawing"] = dict(bench.request.drawing)
    rows = [{**shared, **figure.row()} for figure in (yield from figures(bench, folder))]
    results.append(bench.run.path, *rows)
    return rows


def best_and_last(rows: Sequence[Json], name: str) -> tuple[Json, Json]:
    """Returns the best and the last of a metric's rows by images seen. Raises UserError if it has no rows.

    Large values are best for scores and shares, small ones for distances."""
    metric_rows = sorted((r for r in rows if r["metric"] == name), key=lambda r: r["images_seen"])
    if not metric_rows:
        raise UserError(f"there is no {name} among the figures; run metrics or curve first")
    sign = -1 if name.split(" (")[0] in _LARGE_IS_GOOD else 1
    return min(metric_rows, key=lambda r: sign * r["value"]), metric_rows[-1]
