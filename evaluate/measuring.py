"""The figures of one command: a run against a reference, a set against another, a run's curve."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from caption import encoders
from caption.table import CaptionSet
from evaluate import detectors, prompts, results, sources
from evaluate.detectors import Detector
from evaluate.features import Features, extract
from evaluate.figures import Figure
from evaluate.metrics import METRICS, TEXT_METRICS, measure, measure_texts, parse, terms
from evaluate.prompts import Prompts
from synth.errors import UserError
from synth.sets import places
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from train.runs import Run, find
from train.sampling.draw import require_drawing

Json = dict[str, Any]
CLIP = "ViT-L-14/openai"  # the usual encoder of text metrics

Events = Generator[Progress | list[Json], None, None]  # pictures that are done, and last the rows


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


@dataclass(frozen=True)
class TextJudge:
    """An encoder that compares pictures with their texts."""

    detector: Detector
    rows: list[int]  # of the pictures that have a text
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
    shards, encoder = ShardSet(reference), find(run).about["encoder"] or {}
    wanted = (shards.digest, encoder.get("digest"))
    for place in places.all_tables(str(shards.manifest["identity"].get("dataset", ""))):
        tables = CaptionSet(place)
        if (tables.manifest["shards"]["digest"], tables.identity["weights"]) == wanted:
            return place
    return None


def pictures(request: MeasureRequest, *, checkpoints: bool = False) -> int:
    """Returns the number of pictures to process: the reference's, and those drawn of the checkpoints.

    Raises UserError."""
    reference = len(ShardSet(request.reference))
    times = len(find(request.run).checkpoints()) if checkpoints else 1
    return reference + times * min(request.n, reference)


def prepare(request: MeasureRequest) -> Generator[Progress, None, Bench]:
    """Yields the reference's pictures that are done.

    Returns everything that figures need. Raises UserError."""
    device, names = encoders.choose_device(request.device), parse(request.metrics)
    if request.clip is not None and not set(names) & set(TEXT_METRICS):
        raise UserError(
            f"--clip belongs to the metrics {' and '.join(TEXT_METRICS)}; add one, or leave it out"
        )
    if request.captions and request.encoder:
        raise UserError("--captions holds the vectors of the prompts, so --encoder has no use; leave one out")
    run, shards = find(request.run), ShardSet(request.reference)
    require_drawing(run.model, request.run)
    run.checkpoint(request.images_seen)
    n = min(request.n, len(shards))
    if request.n < 2:
        raise UserError(f"--n is {request.n}; it must be at least 2")
    if request.captions:
        prompted = prompts.of_tables(shards, CaptionSet(request.captions), run, n)
    else:
        prompted = prompts.of_texts(shards, run.encoder(request.encoder, device), n)
    judge = _text_judge(request.clip or CLIP, prompted, device) if set(names) & set(TEXT_METRICS) else None
    detector = detectors.load(request.detector, weights=request.weights, device=device)
    split = sources.of_shards(request.reference)
    [reference] = yield from extract([detector], split)
    return Bench(request, run, prompted, names, detector, split.name, reference, judge, device)


def figures(bench: Bench, folder: Path) -> Generator[Progress, None, list[Figure]]:
    """Yields the pictures of a checkpoint that are done. Returns its figures. Draws each picture once.

    Raises UserError."""
    request, reference, judge = bench.request, bench.reference, bench.judge
    of_features, of_texts = (
        [name for name in bench.metrics if name in group] for group in (METRICS, TEXT_METRICS)
    )
    nets = [*([bench.detector] if of_features else []), *([judge.detector] if judge else [])]
    seen = yield from extract(
        nets, prompts.drawn(bench.run, folder, bench.prompts, seed=request.seed, device=bench.device)
    )
    agreed = [
        terms(s, reference, split=bench.split, seed=request.seed, captions=bench.prompts.policy) for s in seen
    ]
    rows: list[Figure] = []
    if of_features:
        rows += measure(seen[0], reference, of_features, agreed[0], resamples=request.resamples)
    if judge:
        images = seen[-1].matrix()[judge.rows]
        rows += measure_texts(images, judge.texts, of_texts, replace(agreed[-1], n=len(images)))
    own = bench.run.about["encoder"]["digest"]
    return [
        replace(f, notes=(*f.notes, prompts.JUDGED_BY_ITS_OWN)) if f.terms.weights == own else f for f in rows
    ]


def metrics(request: MeasureRequest) -> Events:
    """Measures a run. Appends its figures to its metrics.jsonl. Raises UserError."""
    bench = yield from prepare(request)
    yield (yield from _written(bench, bench.run.checkpoint(request.images_seen)))


def curve(request: MeasureRequest) -> Events:
    """Measures every checkpoint of a run, oldest first. Raises UserError."""
    bench = yield from prepare(request)
    rows: list[Json] = []
    for folder in bench.run.checkpoints():
        rows += yield from _written(bench, folder)
    yield rows


def compare(
    a: str, b: str, *, detector: str, weights: str | None, names: str, n: int | None, device: str
) -> Events:
    """Measures a set of pictures against another. Raises UserError."""
    chosen = parse(names)
    if of_texts := [name for name in chosen if name in TEXT_METRICS]:
        raise UserError(f"{', '.join(of_texts)} need texts; compare knows {', '.join(METRICS)}")
    net = detectors.load(detector, weights=weights, device=encoders.choose_device(device))
    first, second = (sources.find(place, limit=n) for place in (a, b))
    [generated] = yield from extract([net], first)
    [reference] = yield from extract([net], second)
    agreed = terms(generated, reference, split=second.name, seed=0, captions="none")
    yield [figure.row() for figure in measure(generated, reference, chosen, agreed)]


def _text_judge(name: str, prompted: Prompts, device: str) -> TextJudge:
    """Returns the encoder of that name with the embeddings of the prompts' texts.

    Raises UserError if there are none."""
    rows = [i for i, text in enumerate(prompted.texts) if text]
    if not rows:
        raise UserError("the reference has no texts; clip and rprecision need some")
    encoder = encoders.load(encoders.find(name), device)
    texts = encoder.texts([encoder.cut(prompted.texts[i]) for i in rows])
    return TextJudge(detectors.of_encoder(encoder), rows, texts)


def _written(bench: Bench, folder: Path) -> Generator[Progress, None, list[Json]]:
    """Yields the pictures of a checkpoint that are done.

    Returns its figures as rows, each appended to the run's."""
    rows = [
        {"images_seen": bench.run.images_seen(folder), **figure.row()}
        for figure in (yield from figures(bench, folder))
    ]
    for row in rows:
        results.append(bench.run.path, row)
    return rows


def best_and_last(rows: Sequence[Json], name: str) -> tuple[Json, Json]:
    """Returns the best and the last of a metric's rows by images seen. Raises UserError if it has no rows.

    More is better for scores, precision and the like, less for distances."""
    own = sorted((r for r in rows if r["metric"] == name), key=lambda r: r["images_seen"])
    if not own:
        raise UserError(f"there is no {name} among the figures; run metrics or curve first")
    sign = (
        -1
        if name.split(" (")[0]
        in ("IS", "precision", "recall", "density", "coverage", "CLIP score", "R-precision")
        else 1
    )
    return min(own, key=lambda r: sign * r["value"]), own[-1]
