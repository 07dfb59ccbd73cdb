"""Pictures of flat scenes, seen without a network: colour words, connected components, rendered templates.

The backdrop is the commonest colour word. What differs from it falls into connected components, one for each
object. A pixel of an object lies between the backdrop and the object's colour, also at a soft edge. So each
colour word gives the component a coverage, and the word that explains the pixels best is its colour. The
coverage is compared with templates of each kind at many sizes, turns and places between pixels, sharp and
blurred.

Axes: N pictures, S side in pixels, C colour words, M objects, T templates, V pixels of a template.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evaluate.judge.network import COLOUR_WORDS
from evaluate.judge.sight import Seen, SeenObject
from synth import datasets
from synth.families import scene_world, scenes
from synth.families.scenes import Params, SceneObject

_FAR = 40.0  # levels between an object's pixel and the backdrop
_LEAST_AREA = 0.007  # of the picture; the smallest star covers .024
_LEAST_LIKE = 0.5  # confidence of one of several parts of a component
_WINDOW = 0.72  # sides of the picture, of a template
_RADII = (0.125, 0.14, 0.153, 0.166, 0.18, 0.197, 0.215, 0.235, 0.25, 0.267, 0.284, 0.30, 0.32)
_TURNS = (-0.02, 0.0, 0.02)
_SHIFTS = (-0.25, 0.25)  # pixels
_BETWEEN_SIZES = 0.2075  # radius
_PALETTE = np.array(list(scene_world.PALETTE.values()), np.float32)  # (C, 3)


class Templates(NamedTuple):
    """Coverages of objects about the middle of a window, each sharp and blurred."""

    kinds: list[str]  # T
    radii: np.ndarray  # (T,)
    centres: np.ndarray  # (T, 2) pixels, from the middle of the window to the centroid parameter
    coverage: Tensor  # (T, V)
    energy: Tensor  # (T,) sums of squares


@cache
def templates(size: int) -> Templates:
    """Returns the templates for pictures of a side."""
    known = datasets.get("scenes_flat").config["kinds"]
    window = round(_WINDOW * size / 2)  # pixels on either side of the middle
    kinds, radii, centres, coverage = [], [], [], []
    for kind in known:
        for radius in _RADII:
            for turn in _TURNS if kind not in ("disc", "ring") else (0.0,):
                for across in _SHIFTS:
                    for down in _SHIFTS:
                        alpha = _rendered(kind, radius, turn, (across, down), size)
                        for picture in (alpha, _blurred(alpha)):
                            middle = size // 2
                            part = slice(middle - window, middle + window)
                            kinds.append(kind)
                            radii.append(radius)
                            centres.append((across, down))
                            coverage.append(picture[part, part].ravel())
    stack = torch.from_numpy(np.stack(coverage))
    return Templates(kinds, np.array(radii), np.array(centres), stack, stack.square().sum(1))


def see(levels: Tensor) -> list[Seen]:
    """Returns the scenes of pictures of one side: float32 (N, S, S, 3)."""
    # Backdrops, by the commonest word, and what differs from them.
    pixels = levels.numpy()
    size = pixels.shape[1]
    words = _words(pixels).reshape(len(pixels), -1)
    backdrops = np.array([np.bincount(row, minlength=len(_PALETTE)).argmax() for row in words])
    behind = _PALETTE[backdrops][:, None, None]  # (N, 1, 1, 3)
    far = ((pixels - behind) ** 2).sum(-1) > _FAR**2  # (N, S, S)
    labels = components(far)

    # Components as coverages.
    parts: list[tuple[int, int, np.ndarray, bool]] = []
    for n in range(len(pixels)):
        for label in np.unique(labels[n][labels[n] > 0]):
            region = labels[n] == label
            if region.sum() < _LEAST_AREA * size * size:
                continue
            shares = list(_explained(pixels[n], region, int(backdrops[n])))
            parts += [(n, colour, alpha, len(shares) > 1) for colour, alpha in shares]
    parts = [part for part in parts if part[2].sum() >= _LEAST_AREA * size * size]
    objects = _fitted([part[2] for part in parts], [COLOUR_WORDS[part[1]] for part in parts], size)
    groups: list[list[SeenObject]] = [[] for _ in pixels]
    for (n, _, _, shared), thing in zip(parts, objects, strict=True):
        # Parts of a component are objects only if they look like one.
        if not shared or thing.confidence >= _LEAST_LIKE:
            groups[n].append(thing)
    return [
        Seen(COLOUR_WORDS[backdrop], "flat", tuple(group))
        for backdrop, group in zip(backdrops, groups, strict=True)
    ]


def components(mask: np.ndarray) -> np.ndarray:
    """Returns the connected components, corners included, of masks bool (N, S, S): positive numbers, or 0."""
    inside = torch.from_numpy(mask)[:, None]
    numbers = torch.arange(1, mask[0].size + 1, dtype=torch.float32).view(1, 1, *mask.shape[1:])
    labels = numbers * inside
    while True:
        # Four steps at a time, each to the greatest number nearby.
        before = labels
        for _ in range(4):
            labels = functional.max_pool2d(labels, 3, 1, 1) * inside
        if torch.equal(before, labels):
            return labels[:, 0].numpy().astype(np.int64)


def _words(pixels: np.ndarray) -> np.ndarray:
    """Returns the nearest colour word of each pixel (..., 3)."""
    return np.asarray((pixels @ _PALETTE.T - (_PALETTE**2).sum(1) / 2).argmax(-1))


def _explained(picture: np.ndarray, region: np.ndarray, backdrop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the colour words of a region, each with its coverage (S, S). Objects that touch have several."""
    least, colour = _LEAST_AREA * region.size / 2, _colour(picture[region], backdrop)
    rest = region & (_apart(picture, backdrop, colour) > _FAR**2)
    if rest.sum() >= least:
        # Several objects. The commonest word is one of them.
        counts = np.bincount(_words(picture[region]), minlength=len(_PALETTE))
        counts[backdrop] = 0
        common = int(counts.argmax())
        others = region & (_apart(picture, backdrop, common) > _FAR**2)
        if counts[common] and least <= others.sum() < region.sum():
            yield from _explained(picture, others, backdrop)
            colour, rest, region = common, others, region & ~others

    # The coverage reaches one pixel beyond the region.
    near = functional.max_pool2d(torch.from_numpy(region)[None].float(), 3, 1, 1)[0].numpy() > 0
    way = _PALETTE[colour] - _PALETTE[backdrop]
    shares = (picture[near] - _PALETTE[backdrop]) @ way / (way @ way)
    coverage = np.zeros(region.shape, np.float32)
    coverage[near] = np.clip(shares, 0.0, 1.0)
    coverage[rest] = 0.0
    yield colour, coverage


def _colour(pixels: np.ndarray, backdrop: int) -> int:
    """Returns the colour word that explains pixels (P, 3) best, as mixtures with the backdrop."""
    difference = pixels - _PALETTE[backdrop]  # (P, 3)
    ways = _PALETTE - _PALETTE[backdrop]  # (C, 3)
    lengths = np.maximum((ways**2).sum(1), 1.0)
    alpha = np.clip(difference @ ways.T / lengths, 0.0, 1.0)  # (P, C)
    rest = ((difference[:, None] - alpha[:, :, None] * ways) ** 2).sum(-1).mean(0)

    # The pixels that differ most have the colour itself.
    reach = (difference**2).sum(1)
    top = pixels[reach >= np.quantile(reach, 0.7)]
    rest = rest + ((top[:, None] - _PALETTE) ** 2).sum(-1).mean(0)
    rest[backdrop] = np.inf
    return int(rest.argmin())


def _apart(picture: np.ndarray, backdrop: int, colour: int) -> np.ndarray:
    """Returns the squared distance of each pixel from the mixtures of backdrop and colour: (S, S)."""
    way = _PALETTE[colour] - _PALETTE[backdrop]
    difference = picture - _PALETTE[backdrop]
    alpha = np.clip(difference @ way / max(1.0, float(way @ way)), 0.0, 1.0)
    return np.asarray(((difference - alpha[:, :, None] * way) ** 2).sum(-1))


def _fitted(coverages: list[np.ndarray], colours: list[str], size: int) -> list[SeenObject]:
    """Returns the objects of coverages (S, S): kind, size and place of the template that is nearest."""
    if not coverages:
        return []
    bank, window = templates(size), round(_WINDOW * size / 2)
    places = (np.arange(size) + 0.5).astype(np.float32)
    stack, corners = [], []
    for alpha in coverages:
        # The pixel corner nearest to the centroid becomes the middle of the window.
        mass = alpha.sum()
        x, y = round(float(alpha.sum(0) @ places / mass)), round(float(alpha.sum(1) @ places / mass))
        padded = np.pad(alpha, window)
        stack.append(padded[y : y + 2 * window, x : x + 2 * window].ravel())
        corners.append((x, y))
    parts = torch.from_numpy(np.stack(stack))  # (M, V)
    energy = parts.square().sum(1)
    errors = energy[:, None] - 2 * parts @ bank.coverage.T + bank.energy  # (M, T)
    best = errors.min(1)
    objects = []
    for i, (alpha, colour, (x, y)) in enumerate(zip(coverages, colours, corners, strict=True)):
        t = int(best.indices[i])
        rows, columns = (np.flatnonzero((alpha >= 0.5).any(axis)) for axis in (1, 0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) if len(rows) else (x, y, x, y)
        left, top, right, bottom = (float(side) / size for side in box)
        kind = bank.kinds[t]
        objects.append(
            SeenObject(
                kind=kind,
                colour=colour,
                size="small" if bank.radii[t] < _BETWEEN_SIZES else "large",
                centre=((x + float(bank.centres[t, 0])) / size, (y + float(bank.centres[t, 1])) / size),
                box=(left, top, right, bottom),
                filling="flat",
                second="",
                points=5 if kind == "star" else 0,
                text="",
                confidence=max(0.0, 1.0 - float(best.values[i] / energy[i])),
            )
        )
    return objects


def _rendered(kind: str, radius: float, turn: float, shift: tuple[float, float], size: int) -> np.ndarray:
    """Returns the coverage of an object near the middle of a picture: float32 (S, S)."""
    centre = (0.5 + shift[0] / size, 0.5 + shift[1] / size)
    black, white = (0, 0, 0), (255, 255, 255)
    detail = 5 if kind == "star" else 0
    thing = SceneObject(kind, "white", white, "", radius, centre, turn, "flat", "", black, 0, detail, "")
    picture = scenes.render(Params((thing,), 0, "black", black, "flat", 0), size)
    return picture.pixels[:, :, 0].astype(np.float32) / 255


def _blurred(alpha: np.ndarray) -> np.ndarray:
    """Returns a coverage blurred by 1, 2, 1 along both axes."""
    for axis in (0, 1):
        alpha = (np.roll(alpha, 1, axis) + 2 * alpha + np.roll(alpha, -1, axis)) / 4
    return alpha
