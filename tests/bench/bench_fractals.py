"""Fractals against the clock: CPU time of one core, and the plain twins of the chaos game, run beside it.

python -m tests.bench.bench_fractals
"""

import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

from synth import seeds
from synth.allocator import keep_memory
from synth.families import fractaldb
from synth.kernels import ifs
from synth.pipeline import Request, make_shards, recipe_of
from synth.sets import completion

POINTS, SIZE = 100_000, 256


class Ratio(NamedTuple):
    """One measured figure."""

    name: str
    value: float
    target: str


@njit
def naive(system: np.ndarray, count: int, scale: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """The chaos game from its equations: one orbit in float64, a linear search for the map, straight into the histogram."""
    counts = np.zeros((size, size), np.uint32)
    passed = np.cumsum(system[:, 6])
    x = y = 0.0
    for _ in range(count):
        u, k = np.random.random() * passed[-1], 0  # noqa: NPY002 (numba's own)
        while u > passed[k]:
            k += 1
        a, b, c, d, e, f = system[k, :6]
        x, y = a * x + b * y + e, c * x + d * y + f
        row, column = int(x * scale[0] + shift[0]), int(y * scale[1] + shift[1])
        if 0 <= row < size and 0 <= column < size:
            counts[row, column] += 1
    return counts


@njit
def naive_boxed(system: np.ndarray, count: int, size: int) -> np.ndarray:
    """The same with its box found first: points stored, least and greatest, then the histogram."""
    points, passed = np.empty((count, 2)), np.cumsum(system[:, 6])
    x = y = 0.0
    for i in range(count):
        u, k = np.random.random() * passed[-1], 0  # noqa: NPY002 (numba's own)
        while u > passed[k]:
            k += 1
        a, b, c, d, e, f = system[k, :6]
        x, y = a * x + b * y + e, c * x + d * y + f
        points[i] = x, y
    counts = np.zeros((size, size), np.uint32)
    low_x, high_x, low_y, high_y = points[:, 0].min(), points[:, 0].max(), points[:, 1].min(), points[:, 1].max()
    for i in range(count):
        row = int((points[i, 0] - low_x) * (size - 1) / (high_x - low_x))
        column = int((points[i, 1] - low_y) * (size - 1) / (high_y - low_y))
        counts[row, column] += 1
    return counts


def seconds(call: Callable[[], object], *, repeats: int = 40) -> float:
    """The least CPU time of a call."""
    call()
    times = []
    for _ in range(repeats):
        begun = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - begun)
    return min(times) / 1e9


def chaos_games(maps: int) -> tuple[float, float, float]:
    """How many times quicker than the twins the chaos game with histogram is, in a given window and in its own box, and its points a
    second in a given window, as means over eight systems."""
    key, strides = 7, ifs.strides(0, SIZE)
    times = np.zeros(4)
    for system in [ifs.sample(np.uint64(i), maps, (5 + maps) / 2, (6 + maps) / 2) for i in range(8)]:
        points = ifs.points(system, start=(0, 0), key=key, count=POINTS)
        low, high = ifs.bounds(points).T
        window = np.stack([low, high - low], axis=1)
        scale = (SIZE - 1) / window[:, 1]

        def boxed(system: np.ndarray = system) -> np.ndarray:
            points = ifs.points(system, start=(0, 0), key=key, count=POINTS)
            low, high = ifs.bounds(points).T
            return ifs.histogram(points, np.stack([low, high - low], axis=1), SIZE, strides)

        def windowed(system: np.ndarray = system, window: np.ndarray = window) -> np.ndarray:
            return ifs.histogram(ifs.points(system, start=(0, 0), key=key, count=POINTS), window, SIZE, strides)

        times += [
            seconds(lambda system=system, scale=scale, low=low: naive(system, POINTS, scale, -low * scale, SIZE), repeats=10),  # type: ignore[misc]
            seconds(lambda system=system: naive_boxed(system, POINTS, SIZE), repeats=10),  # type: ignore[misc]
            seconds(windowed),
            seconds(boxed),
        ]
    return times[0] / times[2], times[1] / times[3], 8 * POINTS / times[2]


def picture(name: str) -> float:
    """Milliseconds of a picture without encoding, parameters drawn included."""
    recipe = recipe_of(Request(name, 1, "", size=SIZE))

    def draw() -> None:
        for index in range(200):
            recipe.render(index)

    return 1e3 / 200 * seconds(draw, repeats=5)


def pipeline(name: str, samples: int) -> float:
    """Pictures a CPU-second from the first draw to the committed shard."""
    rates = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as out:
            summary = completion.finish(make_shards(Request(name, samples, out, workers=0)))
        rates.append(summary.pictures / summary.cpu_seconds)
    return max(rates)


def ratios() -> list[Ratio]:
    """Every figure beside its target."""
    keep_memory()
    rows = []
    for maps in (3, 6):
        windowed, boxed, rate = chaos_games(maps)
        rows += [
            Ratio(f"chaos game, {maps} maps, given window: times the plain twin", windowed, ">= 18"),
            Ratio(f"chaos game, {maps} maps, own box: times the plain twin", boxed, ">= 18"),
            Ratio(f"chaos game, {maps} maps, given window: million points/s", rate / 1e6, ">= 900"),
        ]
    sampling = seconds(lambda: ifs.rows(ifs.sample(np.uint64(seeds.stream(0, "fractals", 1).key()), 3, 4.0, 4.5)))
    searching = seconds(lambda: [fractaldb._search.__wrapped__(key, 2, 7, 0.2) for key in range(20)], repeats=1) / 20
    rows += [
        Ratio("sampling a class, us", sampling * 1e6, "<= 30"),
        Ratio("searching a FractalDB class, ms", searching * 1e3, "3,200 as published"),
        Ratio("fractals without encoding, ms", picture("fractals"), "<= 0.45"),
        Ratio("fractals_without_background without encoding, ms", picture("fractals_without_background"), "<= 0.30"),
        Ratio("fractals_multi without encoding, ms", picture("fractals_multi"), ""),
    ]
    for name, target in (("fractals", ">= 900"), ("fractals_without_background", ">= 1,700"), ("fractaldb", ">= 60")):
        rows.append(Ratio(f"{name} to committed shards, pictures/CPU-s", pipeline(name, 2000), target))
    return rows


if __name__ == "__main__":
    for row in ratios():
        print(f"{row.name:<62}{row.value:>10,.2f}   {row.target}")
