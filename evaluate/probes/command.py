"""The command `probe`: accuracies of simple classifiers on a run's frozen features, beside baselines."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from caption import encoders, labels
from evaluate import detectors, results, sources
from evaluate.detectors import Detector
from evaluate.features import Features, extract
from evaluate.judge.rates import Counted, wilson
from evaluate.probes import classifiers, zero_shot
from evaluate.probes.classifiers import Accuracy, Split
from synth.errors import UserError
from synth.sets.completion import Progress
from synth.sets.shards import ShardSet
from train.runs import find

PROBES = ("ridge", "sgd", "few", "knn", "zero")
_TEST = 0.2  # of a set that is both: the last part

Json = dict[str, Any]
Events = Generator[Progress | list[Json], None, None]  # numbers of processed pictures, and last the rows


class Classes(NamedTuple):
    """The classes of the training pictures and then of the test pictures."""

    numbers: np.ndarray  # int64, in 0..C - 1
    counts: tuple[int, int]  # of training pictures and test pictures
    prompts: list[list[str]] | None  # of each class, for a zero-shot probe; None: they have no names


@dataclass(frozen=True)
class ProbeRequest:
    """The options of `probe`."""

    run: str
    train: str  # place of the set
    test: str | None = None  # None: the last fifth of the training set
    label: str = labels.CLASS
    probes: str = ",".join(PROBES)
    baselines: str = f"random,pixels,nano,{detectors.LITE}"  # or none
    n: int | None = None  # training pictures
    epochs: int = 10  # of sgd
    seed: int = 0
    device: str = "auto"


def probe(request: ProbeRequest) -> Events:
    """Measures the probes of a run and of baselines. Appends the rows to the run's figures.

    Yields the number of processed pictures, and at the end the rows. Raises UserError if the run learns no
    features, or the sets have no common labels."""
    # The request.
    names, chosen = _detectors(request), request.probes.split(",")
    if unknown := [name for name in chosen if name not in PROBES]:
        raise UserError(f"unknown probe {unknown[0]!r}; known are {', '.join(PROBES)}")
    run = find(request.run)
    results.require_place(run.path)
    device = encoders.choose_device(request.device)
    nets = [detectors.load(name, device=device) for name in names]

    # Features and classes.
    rows: list[Json] = []
    classes = _classes(request)
    counts = classes.counts
    first = yield from _features(request.train, nets, counts[0] + (0 if request.test else counts[1]))
    second: list[Features | None] = [None] * len(nets)
    if request.test:
        second = list((yield from _features(request.test, nets, counts[1])))
    for net, train, test in zip(nets, first, second, strict=True):
        split = _split(train, test, classes.numbers, counts)
        for accuracy in _accuracies(split, chosen, request, net, classes):
            rows.append(_row(accuracy, net, split, request))
    results.append(run.path, *rows)
    yield rows


def pictures(request: ProbeRequest) -> int:
    """Returns the number of pictures to process. Raises UserError if a set is missing."""
    train = min(request.n or len(ShardSet(request.train)), len(ShardSet(request.train)))
    return train + (len(ShardSet(request.test)) if request.test else 0)


def _detectors(request: ProbeRequest) -> list[str]:
    """Returns the run's features and the baselines, by the names of detectors.

    Raises UserError for baselines that do not exist."""
    side = find(request.run).config.groups.model.resolution
    named = {"random": f"random:{request.run}", "pixels": f"pixels:{side}"}
    baselines = [] if request.baselines == "none" else request.baselines.split(",")
    return [f"run:{request.run}", *(named.get(name, name) for name in baselines)]


def _classes(request: ProbeRequest) -> Classes:
    """Returns the classes of both sets.

    Raises UserError if there are fewer than two, or a class is in the test set alone."""
    # Labels of both sets.
    shard_sets = [ShardSet(place) for place in (request.train, request.test) if place]
    labelled = labels.named(shard_sets, request.label)
    named = np.concatenate(labelled.of_samples)
    size, test = len(shard_sets[0]), len(named) - len(shard_sets[0])
    if request.n is not None and request.n > size:
        raise UserError(f"{request.train} holds {size:,} pictures; give --n of at most that")
    train = request.n or size
    named = np.concatenate([named[:train], named[size:]])
    if not request.test:
        test = max(1, round(train * _TEST))
        train -= test

    # Classes by their number.
    known, numbers = np.unique(named[:train], return_inverse=True)
    if len(known) < 2:
        raise UserError(f"{request.train} has one {request.label}; give a set with several, or --label")
    if missing := set(named[train:].tolist()) - set(known.tolist()):
        problem = f"{len(missing)} of the labels of the test pictures are of no training picture"
        raise UserError(f"{problem}; give sets with the same {request.label}, or leave --test out")
    classes = np.concatenate([numbers, np.searchsorted(known, named[train:])]).astype(np.int64)

    # Prompts. A caption is one.
    words = [word for word in (labelled.words[number] for number in known.tolist()) if word]
    prompts = [[word] if request.label == labels.CAPTION else zero_shot.prompts(word) for word in words]
    return Classes(classes, (train, test), prompts if len(prompts) == len(known) else None)


def _features(
    place: str, nets: list[Detector], count: int
) -> Generator[Progress | list[Json], None, list[Features]]:
    """Yields progress. Returns the features of a set by each detector."""
    whole = sources.find(place)
    return (yield from extract(nets, whole if count >= whole.count else sources.find(place, limit=count)))


def _split(train: Features, test: Features | None, classes: np.ndarray, counts: tuple[int, int]) -> Split:
    """Returns the features with their classes. Without test features, the last training ones are tests."""
    features = train.matrix()
    others = features[counts[0] :] if test is None else test.matrix()
    return Split(features[: counts[0]], classes[: counts[0]], others[: counts[1]], classes[counts[0] :])


def _accuracies(
    split: Split, chosen: list[str], request: ProbeRequest, net: Detector, classes: Classes
) -> list[Accuracy]:
    """Returns the accuracies of the chosen probes. Nets without texts, and classes without names, have no
    zero-shot one."""
    accuracies: list[Accuracy] = []
    if "ridge" in chosen:
        accuracies.append(classifiers.linear(split))
    if "sgd" in chosen:
        accuracies.append(classifiers.by_sgd(split, request.epochs, request.seed))
    if "few" in chosen:
        accuracies += classifiers.few_shot(split, request.seed)
    if "knn" in chosen:
        accuracies.append(classifiers.neighbours(split))
    side = detectors.text_side(net)
    if "zero" in chosen and side and classes.prompts:
        accuracies.append(zero_shot.accuracy(side, split.test, split.test_classes, classes.prompts))
    return accuracies


def _row(accuracy: Accuracy, net: Detector, split: Split, request: ProbeRequest) -> Json:
    """Returns the row of a figure, with Wilson's interval over the test pictures."""
    tests = len(split.test)
    low, high = wilson(Counted(round(accuracy.value * tests), tests))
    return {
        "metric": f"probe accuracy, {accuracy.probe}",
        "value": round(accuracy.value, 4),
        "interval": [round(low, 4), round(high, 4)],
        "features": net.name,
        "dimensions": net.dimensions,
        "train": request.train,
        "test": request.test or "the last fifth of train",
        "label": request.label,
        "n": len(split.train),
        "tests": tests,
        "classes": split.classes,
        **accuracy.details,
    }
