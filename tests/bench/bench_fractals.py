"""Fractals against the clock: CPU time of one core, and the plain twins of the chaos game, run beside it.

python -m tests.bench.bench_fractals            figures, and the stages of a picture
python -m tests.bench.bench_fractals targets    the kernels compiled for narrower vector units
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from llvmlite import binding as llvm
from numba import njit

from synth import families, seeds, settings
from synth.allocator import keep_memory
from synth.families import fractaldb
from synth.images.codecs import encode_png
from synth.kernels import ifs
from synth.pipeline import RenderRequest, make_shards, recipe_of
from synth.sets import completion
from synth.sets.shards import ShardWriter, sample_key

POINTS, SIZE = 100_000, 256

# Processors to compile for: LLVM's name, and True if AVX-512 is allowed. skylake-avx512 prefers 256 bits.
TARGETS = {
    "AVX-512 in 256 bits (skylake-avx512)": ("skylake-avx512", True),
    "AVX2 (x86-64-v3)": ("x86-64-v3", False),
    "AVX2 (znver3)": ("znver3", False),
}


class Ratio(NamedTuple):
    """One measured figure."""

    name: str
    value: float
    target: str


@njit
def naive(system: np.ndarray, count: int, scale: np.ndarray, shift: np.ndarray, size: int) -> np.ndarray:
    """Plays the chaos game from its equations: one orbit in float64, a linear search for the map, straight
    into the histogram."""
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
    """Plays the same game in its own box: stored points, their least and greatest, then the histogram."""
    # Points.
    points, passed = np.empty((count, 2)), np.cumsum(system[:, 6])
    x = y = 0.0
    for i in range(count):
        u, k = np.random.random() * passed[-1], 0  # noqa: NPY002 (numba's own)
        while u > passed[k]:
            k += 1
        a, b, c, d, e, f = system[k, :6]
        x, y = a * x + b * y + e, c * x + d * y + f
        points[i] = x, y

    # Their box and histogram.
    counts = np.zeros((size, size), np.uint32)
    low_x, high_x = points[:, 0].min(), points[:, 0].max()
    low_y, high_y = points[:, 1].min(), points[:, 1].max()
    for i in range(count):
        row = int((points[i, 0] - low_x) * (size - 1) / (high_x - low_x))
        column = int((points[i, 1] - low_y) * (size - 1) / (high_y - low_y))
        counts[row, column] += 1
    return counts


def seconds(call: Callable[[], object], *, repeats: int = 40) -> float:
    """Returns the least CPU time of a call."""
    # Warm-up.
    call()
    times = []
    for _ in range(repeats):
        begun = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - begun)
    return min(times) / 1e9


def chaos_games(maps: int) -> tuple[float, float, float]:
    """Returns the ratios of the twins' times to the chaos game's, in a given window and in its own box, and
    its points a second in a given window. All are means over eight systems."""
    key, strides = 7, ifs.strides(0, SIZE)
    times = np.zeros(4)
    for system in [ifs.sample(np.uint64(i), maps, (5 + maps) / 2, (6 + maps) / 2) for i in range(8)]:
        # The window of the system's own box.
        points = ifs.points(system, start=(0, 0), key=key, count=POINTS)
        low, high = ifs.bounds(points).T
        window = np.stack([low, high - low], axis=1)
        scale = (SIZE - 1) / window[:, 1]

        def boxed(system: np.ndarray = system) -> np.ndarray:
            points = ifs.points(system, start=(0, 0), key=key, count=POINTS)
            low, high = ifs.bounds(points).T
            return ifs.histogram(points, np.stack([low, high - low], axis=1), SIZE, strides)

        def windowed(system: np.ndarray = system, window: np.ndarray = window) -> np.ndarray:
            points = ifs.points(system, start=(0, 0), key=key, count=POINTS)
            return ifs.histogram(points, window, SIZE, strides)

        times += [
            seconds(functools.partial(naive, system, POINTS, scale, -low * scale, SIZE), repeats=10),
            seconds(functools.partial(naive_boxed, system, POINTS, SIZE), repeats=10),
            seconds(windowed),
            seconds(boxed),
        ]
    return times[0] / times[2], times[1] / times[3], 8 * POINTS / times[2]


def picture(name: str) -> float:
    """Returns the milliseconds of a picture with its parameters, without encoding."""
    recipe = recipe_of(RenderRequest(name, 1, "", size=SIZE))

    def draw() -> None:
        for index in range(200):
            recipe.render(index)

    return 1e3 / 200 * seconds(draw, repeats=5)


def pipeline(name: str, samples: int, size: int = SIZE) -> float:
    """Returns the pictures a CPU-second, from the first draw to the committed shard."""
    rates = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as out:
            summary = completion.finish(make_shards(RenderRequest(name, samples, out, size=size, workers=0)))
        rates.append(summary.pictures / summary.cpu_seconds)
    return max(rates)


def stages(name: str) -> Iterator[Ratio]:
    """Yields the milliseconds of each stage of a picture on its way into a shard."""
    # The input of each stage.
    recipe, numbers = recipe_of(RenderRequest(name, 1, "", size=SIZE)), range(100)
    drawn = [recipe.render(i) for i in numbers]
    pngs = [encode_png(picture.pixels) for _, picture in drawn]
    samples = [recipe.describe(i, *parts) for i, parts in zip(numbers, drawn, strict=True)]
    texts = [settings.canonical(sample) for sample in samples]

    def write(path: str) -> None:
        with ShardWriter(path) as writer:
            for i in numbers:
                writer.add(sample_key(i), {"png": pngs[i], "json": texts[i]})

    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Callable[[], object]] = {
            "drawing": lambda: [recipe.render(i) for i in numbers],
            "measuring": lambda: [families.measure(picture) for _, picture in drawn],
            "PNG": lambda: [encode_png(picture.pixels) for _, picture in drawn],
            "JSON": lambda: [settings.canonical(sample) for sample in samples],
            "tar and sha256": lambda: write("/dev/null"),
            "tar, sha256 and file": lambda: write(f"{folder}/shard.tar"),
        }
        for stage, call in calls.items():
            yield Ratio(f"{name}, stage: {stage}, ms", 1e3 / len(numbers) * seconds(call, repeats=10), "")


def machine() -> str:
    """Returns one line: the processor, its vectors as LLVM sees them, and the load."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    widest = "AVX-512" if llvm.get_host_cpu_features().get("avx512f") else "no AVX-512"
    return f"{(models or ['?'])[0]} ({llvm.get_host_cpu_name()}, {widest}), load {os.getloadavg()[0]:.1f}"


def targets() -> Iterator[str]:
    """Yields a line for each target: the ratio of the chaos game to its plain twin, and the time of drawing.
    A process of its own compiles for each target. Pixels are the same for all."""
    yield f"{'compiled for':<40}{'chaos game, 3 maps':>20}{'6 maps':>10}{'fractals, ms':>14}"

    # Features of this processor, with and without AVX-512.
    host = llvm.get_host_cpu_features()
    narrow = {name: on and not name.startswith(("avx512", "avx10", "evex512")) for name, on in host.items()}
    names = {"this processor": (llvm.get_host_cpu_name(), True), **TARGETS}
    for label, (name, wide) in names.items():
        features = host if wide else narrow
        flags = ",".join(("+" if on else "-") + feature for feature, on in features.items())
        target = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": flags}
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, **target, "NUMBA_CACHE_DIR": cache}
            command = [sys.executable, "-m", "tests.bench.bench_fractals", "target"]
            run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        three, six, drawing = run.stdout.split()
        yield f"{label:<40}{three:>18} x{six:>8} x{drawing:>14}"


def ratios() -> list[Ratio]:
    """Returns every figure with its target."""
    # The chaos game.
    keep_memory()
    rows = []
    for maps in (3, 6):
        windowed, boxed, rate = chaos_games(maps)
        rows += [
            Ratio(f"chaos game, {maps} maps, given window: times the plain twin", windowed, ">= 18"),
            Ratio(f"chaos game, {maps} maps, own box: times the plain twin", boxed, ">= 18"),
            Ratio(f"chaos game, {maps} maps, given window: million points/s", rate / 1e6, ">= 900"),
        ]

    # Classes. The search is called without its cache.
    key = np.uint64(seeds.stream(0, "fractals", 1).key())
    sampling = seconds(lambda: ifs.rows(ifs.sample(key, 3, 4.0, 4.5)))
    search = fractaldb._search.__wrapped__
    searching = seconds(lambda: [search(key, 2, 7, 0.2) for key in range(20)], repeats=1) / 20
    rows += [
        Ratio("sampling a class, us", sampling * 1e6, "<= 30"),
        Ratio("searching a FractalDB class, ms", searching * 1e3, "3,200 as published"),
    ]

    # Pictures and shards.
    drawn = {"fractals": "<= 0.45", "fractals_without_background": "<= 0.30", "fractals_multi": ""}
    for name, target in drawn.items():
        rows.append(Ratio(f"{name} without encoding, ms", picture(name), target))
    stored = {"fractals": ">= 900", "fractals_without_background": ">= 1,700", "fractaldb": ">= 60"}
    for name, target in stored.items():
        rows.append(Ratio(f"{name} to committed shards, pictures/CPU-s", pipeline(name, 2000), target))
    for name in ("scenes", "scenes_flat", "noise"):
        rows.append(
            Ratio(f"{name}, 64 px, to committed shards, pictures/CPU-s", pipeline(name, 4000, 64), ">= 1,500")
        )
    return [*rows, *stages("fractals"), *stages("fractals_without_background")]


def report() -> None:
    """Prints every figure beside its target, after the machine."""
    print(machine())
    for row in ratios():
        print(f"{row.name:<66}{row.value:>10,.2f}   {row.target}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["targets"]:
        for line in targets():
            print(line, flush=True)
    elif sys.argv[1:] == ["target"]:
        keep_memory()
        print(f"{chaos_games(3)[0]:.1f} {chaos_games(6)[0]:.1f} {picture('fractals'):.2f}")
    else:
        report()
