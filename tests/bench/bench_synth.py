"""Speed of synth: `make bench`.

CPU time on one core, best of a few rounds. Every ratio comes from one run.
"""

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from PIL import Image

from synth import datasets, families
from synth.families import visual_atoms
from synth.families.visual_atoms import Params
from synth.images.codecs import CODECS, Codec, encode_png
from synth.pipeline import RenderRequest, make_shards, recipe_of
from synth.recipe import Recipe
from synth.sets import completion, parallel
from tests.bench.plain import numpy_words, plain_atom, visual_atom

ATOM = Params(500, 100, 2.0, 0.05, 35, (5, 9), (1.5, 1.5), (256.0, 256.0), noise_key=1, canvas=512)
LARGE = Params(1000, 200, 2.0, 0.05, 35, (5, 9), (1.5, 1.5), (256.0, 256.0), noise_key=1, canvas=512)

SCRATCH = tempfile.TemporaryDirectory()


class Row(NamedTuple):
    """A line of the report."""

    what: str
    value: float
    unit: str
    target: str


def cpu_ms(action: Callable[[], object], *, repeats: int = 1, rounds: int = 5) -> float:
    """Returns the CPU milliseconds of one call, from the best round."""
    # Warm-up.
    action()
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(repeats):
            action()
        best = min(best, time.process_time() - begun)
    return best / repeats * 1000


def kernels() -> Iterator[Row]:
    """Yields the kernel's time for two atoms, and for a sheet of the law."""
    for params, target in ((ATOM, 40), (LARGE, 45)):
        name = f"kernel V={params.vertices} L={params.orbits} 512 px"
        yield from against_twins(name, [params], f">= {target}")
    recipe = recipe_of(RenderRequest("visual_atoms", 64, "-"))
    sample = [datasets.sample_params(recipe.dataset, recipe.config, seed=0, index=i) for i in range(0, 64, 2)]
    yield from against_twins("sheet of the law 512 px", sample, "")


def against_twins(name: str, sheet: list[Params], target: str) -> Iterator[Row]:
    """Yields the kernel's time for a sheet, and its ratios to the twins."""
    # Twins are slow, so a whole sheet is measured once.
    count, rounds = len(sheet), 1 + 2 // len(sheet)
    repeats = max(1, 20 // count)
    fast = cpu_ms(lambda: [visual_atoms.render(p, 512) for p in sheet], repeats=repeats) / count
    plain = cpu_ms(lambda: [plain_atom(p, 512) for p in sheet], rounds=rounds) / count
    numpy = cpu_ms(lambda: [visual_atom(p, 512, numpy_words(1)) for p in sheet], rounds=rounds) / count

    yield Row(name, fast, "ms a picture", "")
    yield Row(f"{name}: plain twin / kernel", plain / fast, "x", target)
    yield Row(f"{name}: NumPy twin / kernel", numpy / fast, "x", "")


def codec() -> Iterator[Row]:
    """Yields the time of a PNG, and its ratio to Pillow's."""
    recipe = recipe_of(RenderRequest("visual_atoms", 64, "-"))
    sheet = [recipe.render(i)[1].pixels for i in range(64)]
    ours = cpu_ms(lambda: [encode_png(p) for p in sheet]) / 64
    pillow = cpu_ms(lambda: [pillow_png(p) for p in sheet]) / 64
    yield Row("PNG of a 256 px picture", ours, "ms", "")
    yield Row("PNG: Pillow / ours", pillow / ours, "x", ">= 7")


def pillow_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


def whole() -> Iterator[Row]:
    """Yields the rate of whole runs, and the share of their time outside rendering and encoding."""
    for setting, target, most in ((), 450, "<= 10"), (("canvas=256",), 650, ""):
        rates, shares = zip(*(pipeline_round(4096, setting) for _ in range(3)), strict=True)
        name = f"pipeline {' '.join(setting) or 'defaults'} 256 px"
        yield Row(name, max(rates), "pictures a CPU-second", f">= {target}")
        yield Row(f"{name}: neither rendering nor encoding", min(shares) * 100, "%", most)


def pipeline_round(samples: int, settings: tuple[str, ...]) -> tuple[float, float]:
    """Returns the pictures a CPU-second of a whole run, and the share of its time outside rendering (with its
    measuring) and encoding."""
    inside = 0.0

    def timed(action: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            nonlocal inside
            begun = time.process_time()
            result = action(*args)
            inside += time.process_time() - begun
            return result

        return wrapped

    # The pipeline's own functions, each with a clock round it.
    measuring = patch.multiple("synth.families", measure=timed(families.measure))
    rendering = patch.object(Recipe, "render", timed(Recipe.render))
    encoding = patch.dict(CODECS, png=Codec("png", timed(CODECS["png"].encode)))
    with measuring, rendering, encoding:
        begun = time.process_time()
        shards(samples, settings=settings, workers=0)
        total = time.process_time() - begun
    return samples / total, 1 - inside / total


def workers() -> Iterator[Row]:
    """Yields the ratio of two workers to one by the wall clock, which needs two free cores, and a worker's
    memory."""
    # The session keeps standard output to itself, so rows come after it.
    with parallel.ray_session(2, None, ["synth"]) as ray:
        # Warm-up: workers start and load their kernels.
        shards(2000, shard_size=1000, workers=2)

        # The same set by one worker and by two.
        begun = time.perf_counter()
        shards(12000, shard_size=1000, workers=1)
        middle = time.perf_counter()
        shards(12000, shard_size=1000, workers=2)
        ratio = (middle - begun) / (time.perf_counter() - middle)

        @ray.remote(num_cpus=1)
        def peak() -> float:
            shards(4096, workers=0)
            return peak_memory()

        memory = ray.get(peak.remote())
    yield Row("two workers / one, wall clock", ratio, "x", ">= 1.8")
    yield Row("peak memory of a worker after a shard of 4,096", memory, "MB", "< 400")


def start_up() -> Iterator[Row]:
    """Yields the time of the smallest command."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--n", "1", "--workers", "0", "--out", f"{folder}/set"]
        begun = time.perf_counter()
        command = [sys.executable, "-m", "synth", "shards", "visual_atoms", *options]
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - begun
    yield Row("a set of one picture, in one process, wall clock", seconds, "s", "< 2")


def shards(samples: int, **options: object) -> None:
    """Makes a set in the scratch folder, which goes away with the process."""
    out = tempfile.mkdtemp(dir=SCRATCH.name) + "/set"
    request = RenderRequest("visual_atoms", samples, out, **options)  # type: ignore[arg-type]
    completion.finish(make_shards(request))


def peak_memory() -> float:
    """Returns the high-water mark of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def report(*parts: Callable[[], Iterator[Row]]) -> None:
    for part in parts:
        for row in part():
            print(f"{row.what:<62} {row.value:10.2f} {row.unit:<22} {row.target}", flush=True)


if __name__ == "__main__":
    np.seterr(all="raise")
    report(kernels, codec, whole, start_up, workers)
