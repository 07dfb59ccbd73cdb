"""One command's worth of figures: a run against a reference, two sets against each other, a run's curve."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from caption import encoders
from caption.table import CaptionSet
from evaluate import detectors, runs, scores, sources
from evaluate.detectors import Detector
from evaluate.features import Features, extract
from evaluate.figures import Figure, Terms
from evaluate.metrics import METRICS, measure
from evaluate.runs import Prompts
from synth.errors import UserError
from synth.sets.shards import ShardSet
from train.runs import Run, find
from train.sampling.draw import require_drawing

TEXT_METRICS = ("clip", "rprecision")

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What `metrics` and `curve` ask for."""

    run: str
    reference: str
    captions: str | None = None
    n: int = 30_000
    detector: str = detectors.INCEPTION
    weights: str | None = None  # a file, for inception
    metrics: str = "fid,kid,is,pr,dc"
    clip: str = "ViT-L-14/openai"  # encoder of the text metrics
    seed: int = 0
    resamples: int = 0
    images_seen: int | None = None
    encoder: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Bench:
    """What a run's checkpoints are measured with, loaded once."""

    request: Request
    run: Run
    prompts: Prompts
    detector: Detector
    split: str  # the reference's name
    reference: Features
    clip: encoders.Encoder | None
    device: str
    advance: Callable[[int], None]

    @property
    def names(self) -> list[str]:
        """The metrics that are asked for."""
        return _names(self.request.metrics)


def pictures(request: Request, *, checkpoints: bool = False) -> int:
    """How many pictures are looked at: the reference's, and those drawn, of one checkpoint or of all. Raises UserError."""
    there = len(ShardSet(request.reference))
    times = len(find(request.run).checkpoints()) if checkpoints else 1
    return there + times * min(request.n, there)


def prepare(request: Request, advance: Callable[[int], None]) -> Bench:
    """Everything that figures need, the reference's features among it. Raises UserError."""
    device, names = encoders.choose_device(request.device), _names(request.metrics)
    run, shards = find(request.run), ShardSet(request.reference)
    require_drawing(run.model, request.run)
    run.checkpoint(request.images_seen)
    n = min(request.n, len(shards))
    if request.n < 2:
        raise UserError(f"--n is {request.n}; it must be at least 2")
    if request.captions:
        prompts = runs.prompts_of_tables(shards, CaptionSet(request.captions), run, n)
    else:
        prompts = runs.prompts_of_texts(shards, run.encoder(request.encoder, device), n)
    clip = encoders.load(encoders.find(request.clip), device, "fp32") if set(names) & set(TEXT_METRICS) else None
    detector = detectors.load(request.detector, weights=request.weights, device=device)
    there = sources.of_shards(request.reference)
    reference = extract(detector, there, advance=advance)
    return Bench(request, run, prompts, detector, there.name, reference, clip, device, advance)


def figures(bench: Bench, found: Path) -> list[Figure]:
    """The figures of a checkpoint, in the order in which they were asked for. Raises UserError."""
    request, reference = bench.request, bench.reference
    drawn = runs.drawn(bench.run, found, bench.prompts, seed=request.seed, device=bench.device)
    terms = Terms(
        n=drawn.count,
        reference=bench.split,
        reference_n=reference.count,
        reference_digest=reference.digest,
        detector=bench.detector.name,
        weights=bench.detector.weights,
        resize=bench.detector.resize,
        seed=request.seed,
        captions=bench.prompts.policy,
    )
    on_features = [n for n in bench.names if n in METRICS]
    made = []
    if on_features:
        made = measure(extract(bench.detector, drawn, advance=bench.advance), reference, on_features, terms, resamples=request.resamples)
    if bench.clip:
        made += _of_texts(bench, bench.clip, drawn, terms)
    own = bench.run.about["encoder"]["digest"]
    return [replace(f, notes=(*f.notes, runs.JUDGED_BY_ITS_OWN)) if f.terms.weights == own else f for f in made]


def metrics(request: Request, advance: Callable[[int], None]) -> Iterator[Json]:
    """The figures of a run, each appended to its metrics.jsonl. Raises UserError."""
    bench = prepare(request, advance)
    yield from _written(bench, bench.run.checkpoint(request.images_seen))


def curve(request: Request, advance: Callable[[int], None]) -> Iterator[Json]:
    """The figures of every checkpoint of a run, oldest first. Raises UserError."""
    bench = prepare(request, advance)
    for found in bench.run.checkpoints():
        yield from _written(bench, found)


def compare(
    a: str, b: str, *, detector: str, weights: str | None, names: str, n: int | None, device: str, advance: Callable[[int], None]
) -> list[Json]:
    """The figures of a set of pictures against another. Raises UserError."""
    chosen = _names(names)
    if set(chosen) - set(METRICS):
        raise UserError(f"{', '.join(set(chosen) - set(METRICS))} need texts; compare knows {', '.join(METRICS)}")
    net = detectors.load(detector, weights=weights, device=encoders.choose_device(device))
    both = [sources.find(place, limit=n) for place in (a, b)]
    made, reference = (extract(net, p, advance=advance) for p in both)
    terms = Terms(made.count, both[1].name, reference.count, reference.digest, net.name, net.weights, net.resize, 0, "none")
    return [figure.row() for figure in measure(made, reference, chosen, terms)]


def _written(bench: Bench, found: Path) -> Iterator[Json]:
    for figure in figures(bench, found):
        row = {"images_seen": bench.run.images_seen(found), **figure.row()}
        append(bench.run.path, row)
        yield row


def append(run: Path, row: Json) -> None:
    """Adds a line to a run's metrics.jsonl."""
    import json

    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _of_texts(bench: Bench, clip: encoders.Encoder, drawn: sources.Pictures, terms: Terms) -> list[Figure]:
    """CLIP score and R-precision of pictures that have a text."""
    images = np.concatenate([clip.images(batch) for batch in drawn.batches(0)])
    told = [i for i, text in enumerate(bench.prompts.texts) if text]
    if not told:
        raise UserError("the reference has no texts; clip and rprecision need some")
    texts = clip.texts([clip.cut(bench.prompts.texts[i]) for i in told])
    source = clip.source
    terms = replace(terms, n=len(told), detector=source.name, weights=source.sha256, resize=f"bicubic, antialiased, to {clip.size}")
    made = []
    if "clip" in bench.names:
        score = scores.clip_score(images[told], texts)
        made.append(Figure(f"CLIP score ({source.name})", score.value, terms, score.deviation, details=(("formula", scores.CLIP_SCORE),)))
    if "rprecision" in bench.names:
        score = scores.r_precision(images[told], texts)
        made.append(Figure(f"R-precision ({source.name})", score.value, terms, score.deviation, details=(("candidates", 100),)))
    return made


def _names(asked: str) -> list[str]:
    """Metrics by name. Raises UserError for an unknown one, listing the known."""
    names, known = [n.strip() for n in asked.split(",") if n.strip()], (*METRICS, *TEXT_METRICS)
    unknown = [n for n in names if n not in known]
    if unknown or not names:
        raise UserError(f"unknown metric {', '.join(unknown) or asked!r}; known are {', '.join(known)}")
    return names


def best_and_last(rows: Sequence[Json], name: str) -> tuple[Json, Json]:
    """Of a metric's rows, the best and the last by images seen; less is better, but for scores, precision and the like."""
    own = sorted((r for r in rows if r["metric"] == name), key=lambda r: r["images_seen"])
    if not own:
        raise UserError(f"there is no {name} among the figures; run metrics or curve first")
    sign = -1 if name.split(" (")[0] in ("IS", "precision", "recall", "density", "coverage", "CLIP score", "R-precision") else 1
    return min(own, key=lambda r: sign * r["value"]), own[-1]
