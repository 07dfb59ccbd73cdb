"""Pictures as scenes: backdrop, objects with their words and places, and which object hides or holds which.

Pictures of any side are brought to 32 or to 64 pixels. Sides below 48 become 32, the others 64.

Axes: N pictures, S side in pixels, G cells, B objects, P ordered pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from evaluate.judge import plain
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
)
from evaluate.judge.reading import read
from evaluate.judge.refining import refined
from evaluate.judge.sight import Seen, SeenObject
from synth.errors import UserError
from synth.sets.storage import reading

WEIGHTS = "judge.safetensors"
SHIPPED = Path(__file__).resolve().parents[2] / "data" / "judge"

FLAT = "scenes_flat"  # the data set that needs no network
BETWEEN = 48  # pixels; shorter sides become 32, the others 64

_AT_ONCE = 64
_LEAST_HEAT = 0.27  # of a cell that is a centroid
# Squared cells between two sights of one object, in one heat map and in both.
_SAME_HEAT, _SAME_CELL = 5, 2
_PATTERNED = ("stripes", "dots")


def see(pictures: np.ndarray, name: str, judge: Judge | None = None) -> list[Seen]:
    """Returns the scenes of pictures uint8 (N, S, S, 3) of a data set, by the shipped network by default.

    Flat scenes are seen without a network. Raises UserError if pictures are not square or not RGB."""
    if pictures.ndim != 4 or pictures.shape[1] != pictures.shape[2] or pictures.shape[3] != 3:
        problem = f"pictures of {' x '.join(map(str, pictures.shape[1:]))} cannot be judged"
        raise UserError(f"{problem}; give square RGB pictures")
    seen: list[Seen] = []
    for start in range(0, len(pictures), _AT_ONCE):
        levels = resized(pictures[start : start + _AT_ONCE])
        seen += plain.see(levels) if name == FLAT else _see(judge or shipped(), levels)
    return seen


@cache
def shipped(folder: Path = SHIPPED) -> Judge:
    """Returns the judge of a folder, that of data/judge by default. Raises UserError if it does not load."""
    net = Judge()
    try:
        with reading(str(folder / WEIGHTS)):
            tensors = load_file(folder / WEIGHTS)
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (RuntimeError, SafetensorError):
        problem = f"{folder / WEIGHTS} does not hold the weights of the judge"
        raise UserError(f"{problem}; `python -m evaluate fit-judge --out {folder}` writes them") from None
    return net.eval()


def resized(pictures: np.ndarray) -> Tensor:
    """Returns pictures at a side of the network's: uint8 -> float32 (N, S, S, 3)."""
    side = SIDES[0] if pictures.shape[1] < BETWEEN else SIDES[1]
    levels = torch.from_numpy(pictures).float()
    if pictures.shape[1] == side:
        return levels
    levels = levels.permute(0, 3, 1, 2)
    if pictures.shape[1] % side == 0:
        levels = functional.avg_pool2d(levels, pictures.shape[1] // side)
    else:
        levels = functional.interpolate(levels, (side, side), mode="bilinear", antialias=True)
    return levels.permute(0, 2, 3, 1)


@torch.no_grad()
def _see(net: Judge, levels: Tensor) -> list[Seen]:
    # Peaks of the heat, from the hottest.
    views = [net(*net.stem(view)) for view in _views(levels)]
    heat = _mean([torch.sigmoid(view.heat) for view in views])  # (N, 2, G, G)
    peaks = (heat == functional.max_pool2d(heat, 3, 1, 1)) & (heat >= _LEAST_HEAT)
    cells = peaks.nonzero()  # (B, 4)
    presence = heat[peaks]
    order = torch.argsort(presence, descending=True, stable=True)
    cells, presence = cells[order], presence[order]

    # Words and places, means over the views.
    features = [net.masks(view, cells)[1] for view in views]
    things = [net.things(values) for values in features]
    places = _mean([values for _, values in things])
    probabilities = {word: _mean([torch.softmax(logits[word], 1) for logits, _ in things]) for word in WORDS}
    shares, kinds = {word: rows.max(1) for word, rows in probabilities.items()}, probabilities["kind"].numpy()
    numbers = {word: best.indices.tolist() for word, best in shares.items()}
    backdrops = _mean([torch.softmax(view.backdrop, 1) for view in views]).argmax(1).tolist()
    textures = _mean([torch.softmax(view.texture, 1) for view in views]).argmax(1).tolist()
    sure = torch.stack([presence, shares["kind"].values, shares["colour"].values]).amin(0).tolist()
    corner = cells[:, [3, 2]] + 0.5
    centres = ((corner + places[:, :2]) / GRID).tolist()
    reach = (places[:, 2:] / 4).tolist()

    # Objects of each picture, each once.
    members = _once(cells, numbers, len(levels))
    pairs = [(a, b) for group in members for a in group for b in group if a != b]
    depths = _depths(net, features, cells, pairs)

    scenes = []
    for n, group in enumerate(members):
        backdrop = COLOUR_WORDS[backdrops[n]]
        objects = [
            _object({word: of[b] for word, of in numbers.items()}, centres[b], reach[b], sure[b])
            for b in group
        ]
        objects = [
            replace(thing, text=read(levels[n].numpy(), thing, backdrop)) if thing.kind == "text" else thing
            for thing in objects
        ]
        near = {(i, j): depths[a, b] for i, a in enumerate(group) for j, b in enumerate(group) if i != j}
        seen = Seen(
            backdrop,
            TEXTURES[textures[n]],
            tuple(objects),
            {pair: depth for pair, depth in near.items() if depth and depth != "contains"},
        )
        fine = levels.shape[1] == SIDES[1]
        scenes.append(refined(levels[n].numpy(), seen, [kinds[b] for b in group]) if fine else seen)
    return scenes


def _once(cells: Tensor, numbers: Mapping[str, Sequence[int]], pictures: int) -> list[list[int]]:
    """Returns the peaks of each picture without those of an object that a hotter peak has shown.

    `cells` (B, 4) are in the order of their heat: picture, level, row, column."""
    members: list[list[int]] = [[] for _ in range(pictures)]
    levels, places = cells[:, 1].tolist(), cells[:, 2:].tolist()

    def same(a: int, b: int) -> bool:
        near = _apart(places[a], places[b])
        if levels[a] == levels[b]:
            return near <= _SAME_HEAT
        return near <= _SAME_CELL and all(numbers[word][a] == numbers[word][b] for word in ("kind", "colour"))

    for b, picture in enumerate(cells[:, 0].tolist()):
        if not any(same(a, b) for a in members[picture]):
            members[picture].append(b)
    return members


def _object(
    numbers: Mapping[str, int], centre: Sequence[float], reach: Sequence[float], sure: float
) -> SeenObject:
    """Returns an object from the numbers of its words, its centre, and its reach to all four sides."""
    kind, filling = KIND_WORDS[numbers["kind"]], FILLING_WORDS[numbers["filling"]]
    (x, y), (left, top, right, bottom) = centre, reach
    return SeenObject(
        kind,
        COLOUR_WORDS[numbers["colour"]],
        SIZE_WORDS[numbers["size"]],
        (x, y),
        (x - left, y - top, x + right, y + bottom),
        filling,
        COLOUR_WORDS[numbers["second"]] if filling in _PATTERNED else "",
        POINTS[numbers["points"]] if kind == "star" else 0,
        "",
        sure,
    )


def _views(levels: Tensor) -> list[Tensor]:
    """Returns pictures as they are, and those of 64 pixels also at 32."""
    if levels.shape[1] == SIDES[0]:
        return [levels]
    return [levels, functional.avg_pool2d(levels.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)]


def _apart(one: list[int], other: list[int]) -> int:
    """Returns the squared distance of two cells."""
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(0)


def _depths(
    net: Judge, features: list[Tensor], cells: Tensor, pairs: list[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    """Returns the depth of the first object of each pair to the second, judged in both directions."""
    if not pairs:
        return {}
    numbers = torch.tensor(pairs)
    logits = _mean([torch.log_softmax(net.depths(values, cells, numbers), 1) for values in features])
    place = {pair: i for i, pair in enumerate(pairs)}
    # DEPTHS seen from the other object.
    mirrored = logits[[place[b, a] for a, b in pairs]][:, [0, 2, 1, 4, 3]]
    best = (logits + mirrored).argmax(1).tolist()
    return {pair: DEPTHS[k] for pair, k in zip(pairs, best, strict=True)}
