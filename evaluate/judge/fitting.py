"""Fits the judge's network to fresh renders of scenes, each at both sizes.

A tenth of the pictures has letters. A share of them is blurred and gets noise, as generated pictures have
soft edges. Objects that a sentence would not name count neither as objects nor as empty cells.

Axes: N pictures, G cells, B objects, P ordered pairs of objects of one picture.
"""

import json
import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from caption.sentences import scene_facts
from evaluate.judge import card, exam, fresh, scene_prompts, seeing
from evaluate.judge.fresh import Fresh
from evaluate.judge.network import (
    COLOUR_WORDS,
    DEPTHS,
    FILLING_WORDS,
    GRID,
    KIND_WORDS,
    POINTS,
    SIDES,
    SIZE_WORDS,
    TEXTURES,
    WORDS,
    Judge,
    Outputs,
)
from synth.families import scene_world
from synth.sets.completion import Progress
from synth.sets.storage import Folder, reading

Json = dict[str, Any]

# Data set, settings, and share of the pictures.
WORLDS = (("scenes", (), 0.9), ("scenes", ("letters=true",), 0.1))
_LAW_SEED = 77  # the seeds of training pictures are this one and later ones
_BATCH = 16  # pictures of each side
_BLURRED = 0.3
_SPREAD = 0.8  # cells, of a centroid's heat
_NEAR = 2.3  # squared cells about an object that is not named
_LEAST_DETAIL = 12  # pixels of the longer side of an object with a filling or points
_IGNORED = -100


@dataclass(frozen=True)
class FitRequest:
    """A fit and its exam."""

    out: str  # the folder to write
    seed: int = 0
    visits: int = 150_000  # scenes, each drawn at both sides
    pictures: int = 5_000  # of each set and side, judged by fact
    prompts: int = 500  # of each number of facts, set and side, judged as a whole
    rate: float = 2e-3

    @property
    def processed(self) -> int:
        """Pictures of the fit and of the exam, about."""
        whole = 2 * scene_prompts.MOST * self.prompts
        return len(SIDES) * (self.visits + len(fresh.SETS) * (self.pictures + whole))


class Targets(NamedTuple):
    """The truth of a batch."""

    heat: Tensor  # (N, 2, G, G), 1 at centroids
    empty: Tensor  # (N, 2, G, G), 0 at cells that do not count
    backdrop: Tensor  # (N,)
    texture: Tensor  # (N,)
    cells: Tensor  # (B, 4) picture, heat map, row, column
    words: dict[str, Tensor]  # (B,) each
    masks: Tensor  # (B, G, G) shares of the cells that show the object
    places: Tensor  # (B, 6)
    pairs: Tensor  # (P, 2) numbers of objects
    depths: Tensor  # (P,)


def fit(request: FitRequest) -> Generator[Progress | list[Json], None, None]:
    """Fits a judge, examines it and writes its folder.

    Yields the number of processed pictures, and at the end the figures."""
    target, begun = Folder(request.out), time.process_time()
    with target.exclusive() as note, _one_thread():
        if note:
            yield Progress(0, note=note)

        # Weights, as they are stored.
        net = Judge().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        losses = []
        for loss in train(net, request):
            losses.append(loss)
            yield Progress(_BATCH * len(SIDES))
        data = save({name: tensor.half().contiguous() for name, tensor in net.state_dict().items()})
        target.write(seeing.WEIGHTS, data)
        fitted = time.process_time() - begun

        # Exam of the stored weights, and card.
        accuracies = yield from _examined(target, request)
        target.write(card.NAME, card.text(request, accuracies, fitted / 60, losses).encode())
    yield [row for accuracy in accuracies for row in card.rows(accuracy)]


def examine(request: FitRequest) -> Generator[Progress | list[Json], None, None]:
    """Examines the judge of a folder again, and writes its figures.

    Yields the number of processed pictures, and at the end the figures. Raises UserError if the folder does
    not hold a judge."""
    target, place = Folder(request.out), Path(request.out)
    with target.exclusive() as note, _one_thread():
        if note:
            yield Progress(0, note=note)
        seeing.shipped(place)
        with reading(str(place / card.NAME)):
            before = (place / card.NAME).read_text(encoding="utf-8")
        accuracies = yield from _examined(target, request)
        target.write(card.NAME, card.examined(before, accuracies).encode())
    yield [row for accuracy in accuracies for row in card.rows(accuracy)]


def _examined(
    target: Folder, request: FitRequest
) -> Generator[Progress | list[Json], None, list[exam.Accuracy]]:
    """Yields the number of judged pictures, writes the figures of a folder's judge, and returns them."""
    seeing.shipped.cache_clear()
    accuracies: list[exam.Accuracy] = []
    judge = seeing.shipped(Path(request.out))
    for event in exam.examine(judge, pictures=request.pictures, prompts=request.prompts):
        if isinstance(event, Progress):
            yield event
        else:
            accuracies = event
    rows = [accuracy.row for accuracy in accuracies]
    target.write(exam.NAME, (json.dumps({"sets": rows}, indent=1) + "\n").encode())
    return accuracies


def train(net: Judge, request: FitRequest) -> Iterator[float]:
    """Yields the loss of each step. The same seed gives the same weights on machines of one type."""
    torch.manual_seed(request.seed)
    net.load_state_dict(Judge().state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=request.rate, weight_decay=0.02, betas=(0.9, 0.98))
    steps, stream = request.visits // _BATCH, np.random.default_rng([request.seed, 26])
    for step in range(steps):
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 200)
            group["lr"] = request.rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = _step(net, batch(request.seed, range(step * _BATCH, (step + 1) * _BATCH)), stream)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        yield float(loss.detach())
    net.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Runs torch on one thread, as the weights depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def batch(seed: int, indices: range) -> list[Fresh]:
    """Returns pictures of both sides, those of the first side first."""
    laws = []
    bounds = np.cumsum([share for _, _, share in WORLDS])
    for index in indices:
        # The golden ratio spreads the worlds evenly.
        world = int(np.searchsorted(bounds, (index * 0.6180339887) % 1.0))
        name, changes, _ = WORLDS[min(world, len(WORLDS) - 1)]
        laws.append(fresh.law(name, changes, _LAW_SEED + seed, index))
    return [fresh.rendered(params, size) for size in SIDES for params in laws]


def targets(pictures: list[Fresh]) -> Targets:
    """Returns the truth of pictures."""
    samples = [picture.sample for picture in pictures]
    heat = np.zeros((len(samples), 2, GRID, GRID), np.float32)
    empty = np.ones_like(heat)
    cells: list[tuple[int, int, int, int]] = []
    words: dict[str, list[int]] = {word: [] for word in WORDS}
    masks: list[np.ndarray] = []
    places: list[tuple[float, ...]] = []
    pairs: list[tuple[int, int]] = []
    depths: list[int] = []
    for n, sample in enumerate(samples):
        numbers, objects = scene_facts.named(sample), sample["params"]["objects"]
        things = [_Thing(thing) for thing in objects]
        first = len(cells)
        for i, thing in enumerate(things):
            # Around an object that is not named, nothing counts.
            x, y = (min(max(share * GRID, 0.0), GRID - 0.001) for share in thing.centre)
            if i not in numbers:
                empty[n, :, _squares(x, y) < _NEAR] = 0
                continue

            # Its cell, and heat around it.
            level = int(any(scene_world.fits(thing, other) for other in things if other is not thing))
            row, column = int(y), int(x)
            warmth = np.exp(-_squares(column + 0.5, row + 0.5) / (2 * _SPREAD**2))
            heat[n, level] = np.maximum(heat[n, level], warmth)
            cells.append((n, level, row, column))
            side = sample["size"] // GRID
            shown = (pictures[n].mask == i + 1).reshape(GRID, side, GRID, side)
            masks.append(shown.mean((1, 3), dtype=np.float32))
            places.append((x - column - 0.5, y - row - 0.5, *_reach(sample, i)))
            for word, number in _numbers(objects[i], sample["objects"][i]).items():
                words[word].append(number)
        for a, b, depth in _depths(sample, numbers):
            pairs.append((first + a, first + b))
            depths.append(depth)

    # The centroids themselves.
    for n, level, row, column in cells:
        heat[n, level, row, column] = empty[n, level, row, column] = 1
    return Targets(
        torch.from_numpy(heat),
        torch.from_numpy(empty),
        torch.tensor([COLOUR_WORDS.index(s["params"]["backdrop"]) for s in samples]),
        torch.tensor([TEXTURES.index(s["params"]["backdrop_filling"]) for s in samples]),
        torch.tensor(cells),
        {word: torch.tensor(numbers) for word, numbers in words.items()},
        torch.from_numpy(np.stack(masks)),
        torch.tensor(places, dtype=torch.float32),
        torch.tensor(pairs, dtype=torch.int64).view(-1, 2),
        torch.tensor(depths, dtype=torch.int64),
    )


def _squares(x: float, y: float) -> np.ndarray:
    """Returns the squared distances of the cells' centres from a point: (G, G)."""
    rows, columns = np.mgrid[:GRID, :GRID] + 0.5
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2)


def _reach(sample: Json, i: int) -> tuple[float, ...]:
    """Returns how far an object's box reaches from its centroid: left, up, right, down, in quarters."""
    (x, y), size = sample["params"]["objects"][i]["centre"], sample["size"]
    left, top, right, bottom = (side / size for side in sample["objects"][i]["box"])
    return 4 * (x - left), 4 * (y - top), 4 * (right - x), 4 * (bottom - y)


def _numbers(thing: Json, entry: Json) -> dict[str, int]:
    """Returns the number of each word of an object. Details of small objects do not count."""
    left, top, right, bottom = entry["box"]
    fine = max(right - left, bottom - top) >= _LEAST_DETAIL
    return {
        "kind": KIND_WORDS.index(thing["kind"]),
        "colour": COLOUR_WORDS.index(thing["colour"]),
        "size": SIZE_WORDS.index(thing["size"]),
        "filling": FILLING_WORDS.index(thing["filling"]) if fine else _IGNORED,
        "second": COLOUR_WORDS.index(thing["second"]) if fine and thing["second"] else _IGNORED,
        "points": POINTS.index(thing["detail"]) if fine and thing["kind"] == "star" else _IGNORED,
    }


def _depths(sample: Json, numbers: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yields the pairs of named objects by place in `numbers`, and the number in DEPTHS of the first's depth
    to the second. Unclear overlaps do not count."""
    stated = {}
    for fact in scene_facts.scene_facts(sample):
        if fact.relation in DEPTHS[1:]:
            stated[fact.subject, fact.object] = fact.relation
            if fact.relation == "inside":
                stated[fact.object, fact.subject] = "contains"
    hidden = [dict(entry["hidden_by"]) for entry in sample["objects"]]
    for a, i in enumerate(numbers):
        for b, j in enumerate(numbers):
            relation = stated.get((i, j), "")
            unclear = not relation and (hidden[i].get(j + 1) or hidden[j].get(i + 1))
            if i != j:
                yield a, b, _IGNORED if unclear else DEPTHS.index(relation)


class _Thing:
    """An object's parameters as attributes, for the rules of scene_world."""

    def __init__(self, entry: Json) -> None:
        self.kind, self.centre, self.radius = entry["kind"], entry["centre"], entry["radius"]


def _step(net: Judge, pictures: list[Fresh], stream: np.random.Generator) -> Tensor:
    """Returns the loss of a batch."""
    half = len(pictures) // len(SIDES)
    truth, parts = targets(pictures), []
    with torch.autocast("cpu", torch.bfloat16):
        for part in (pictures[:half], pictures[half:]):
            parts.append(net.stem(softened(np.stack([picture.pixels for picture in part]), stream)))
        cells, colours = (torch.cat(both) for both in zip(*parts, strict=True))
        outputs = net(cells.contiguous(memory_format=torch.channels_last), colours)
    return _loss(net, Outputs(*(output.float() for output in outputs)), truth)


def softened(pixels: np.ndarray, stream: np.random.Generator) -> Tensor:
    """Returns pictures, some of them blurred, with noise."""
    levels = torch.from_numpy(pixels).float()
    chosen = torch.from_numpy(stream.random(len(pixels)) < _BLURRED)
    soft = levels[chosen].permute(0, 3, 1, 2)
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    soft = functional.conv2d(functional.pad(soft, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    noise = stream.standard_normal(soft.shape, np.float32) * (
        stream.random((len(soft), 1, 1, 1), np.float32) * 10
    )
    levels[chosen] = (soft + torch.from_numpy(noise)).clamp(0, 255).permute(0, 2, 3, 1)
    return levels


def _loss(net: Judge, outputs: Outputs, truth: Targets) -> Tensor:
    # Focal loss of the heat (CenterNet, equation 1).
    p = torch.sigmoid(outputs.heat).clamp(1e-5, 1 - 1e-5)
    hits = truth.heat == 1
    positive = ((1 - p) ** 2 * torch.log(p))[hits].sum()
    negative = ((1 - truth.heat) ** 4 * p**2 * torch.log(1 - p) * truth.empty)[~hits].sum()
    loss = -(positive + negative) / max(1, int(hits.sum()))

    # Backdrop, words, places, depth.
    loss = loss + functional.cross_entropy(outputs.backdrop, truth.backdrop)
    loss = loss + functional.cross_entropy(outputs.texture, truth.texture)
    shares, features = net.masks(outputs, truth.cells)
    loss = loss + 3 * functional.binary_cross_entropy_with_logits(shares, truth.masks)
    logits, places = net.things(features)
    weights = {"kind": 2.0, "second": 0.5}
    for word, expected in truth.words.items():
        if bool((expected != _IGNORED).any()):
            loss = loss + weights.get(word, 1.0) * functional.cross_entropy(logits[word], expected)
    loss = loss + functional.smooth_l1_loss(places, truth.places)
    if bool((truth.depths != _IGNORED).any()):
        # Most pairs do not touch. Weights keep the others from being overlooked.
        depths = net.depths(features, truth.cells, truth.pairs)
        weights_of_depths = torch.tensor([0.2, 1.0, 1.0, 1.0, 1.0])
        loss = loss + functional.cross_entropy(depths, truth.depths, weights_of_depths)
    return loss
