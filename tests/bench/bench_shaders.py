"""Speed and memory of the shaders, `python -m tests.bench.bench_shaders`, and how diverse pictures are, with `diversity` behind it.

CPU time on one core. The bare draw is what moderngl does alone: uniforms, triangle, read-back into a buffer.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import numpy as np

from synth import datasets
from synth.families import shaders
from synth.glsl import composer, gl
from synth.pipeline import RenderRequest, recipe_of
from synth.recipe import Recipe
from tests.bench.bench_synth import Row

PICTURES = 512  # of the law, each structure twice
RENDERERS = 2000  # programs that memory is measured after


def params_of(recipe: Recipe, index: int) -> shaders.Params:
    params: shaders.Params = datasets.sample_params(
        recipe.dataset, recipe.config, seed=recipe.seed, index=index
    )
    return params


def steady_state(recipe: Recipe) -> Iterator[Row]:
    """The pictures of the law drawn by the pipeline's own function and barely, with all programs alive; by turns, best of five."""
    params = [params_of(recipe, i) for i in range(PICTURES)]
    ours, bare = np.full(PICTURES, np.inf), np.full(PICTURES, np.inf)
    for p in params:
        shaders.draw(p, 256)
    for _ in range(5):
        for i, p in enumerate(params):
            begun = time.process_time()
            shaders.draw(p, 256)
            middle = time.process_time()
            draw_barely(p)
            ours[i], bare[i] = min(ours[i], middle - begun), min(bare[i], time.process_time() - middle)
    yield Row("drawn and read back by the pipeline", 1000 * ours.mean(), "ms", "<= 8")
    yield Row("pipeline / bare draw and read-back", ours.sum() / bare.sum(), "x", "<= 1.15")
    slowest = int(ours.argmax())
    yield Row(
        f"slowest of {PICTURES} classes (structure {params[slowest].structure})",
        1000 * ours.max(),
        "ms",
        "<= 60",
    )
    begun = time.process_time()
    for i in range(PICTURES):
        recipe.encode(i)
    yield Row("with measuring, PNG and JSON", 1000 * (time.process_time() - begun) / PICTURES, "ms", "")


def draw_barely(params: shaders.Params) -> None:
    screen, program = gl._screen(), composer.compose(params.structure)
    values = {**program.bindings(params.values), "side": 256.0, "time": params.time, "view": params.view}
    compiled, triangle = screen._programs[program.text]
    frame, buffer = screen._frames[256]
    for name, value in values.items():
        if name in compiled:
            compiled[name].value = value
    frame.use()
    triangle.render(vertices=3)
    frame.read_into(buffer, components=4)


def worst_class(recipe: Recipe) -> Iterator[Row]:
    """Every seventh class of the law, drawn once: those above 30 ms again, best of five."""
    worst = (0.0, 0)
    for number in range(0, recipe.config.classes, 7):
        params = params_of(recipe, number)
        took = timed(params, 1)
        took = timed(params, 5) if took > 30 else took
        worst = max(worst, (took, number))
    yield Row(f"slowest of 3,000 classes (class {worst[1]})", worst[0], "ms", "<= 60")


def timed(params: shaders.Params, rounds: int) -> float:
    shaders.draw(params, 8)
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        shaders.draw(params, 256)
        best = min(best, 1000 * (time.process_time() - begun))
    return best


def compiling() -> Iterator[Row]:
    """All structures' first pictures, in a fresh process: without a shader cache, and with the one that the first left."""
    script = "import time\nfrom synth.datasets import sample_params\nfrom synth.families import shaders\nfrom synth.pipeline import *\n"
    script += "r = recipe_of(RenderRequest('shaders', 1, '-'))\n"
    script += "ps = [sample_params(r.dataset, r.config, seed=0, index=i) for i in range(256)]\n"
    script += "shaders.draw(ps[0], 8); t = time.process_time()\n"
    script += "for p in ps: shaders.draw(p, 8)\nprint(time.process_time() - t)"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MESA_SHADER_CACHE_DIR": folder}
        for name in ("without a cache", "with the node's cache"):
            run = subprocess.run(
                [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
            )
            yield Row(f"first pictures of 256 structures, {name}", float(run.stdout), "s", "")


def memory() -> Iterator[Row]:
    """The resident memory of a process that has drawn so many programs."""
    script = "from tests.bench.bench_shaders import draw_many; draw_many()"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    yield Row(f"memory after {RENDERERS:,} programs", float(run.stdout), "MB", "< 500")


def draw_many() -> None:
    for number in range(RENDERERS):
        shaders.draw(shaders.look(number, shaders.class_values(number, 0, 0), 1.0), 256)
        composer._compose.cache_clear()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def diversity() -> Iterator[str]:
    """Prints the diversity of the first 1,000 pictures of each data set.

    colour: spread of the pictures' mean colours in levels; hues: entropy of the hues of coloured pixels, of 24 bins (1: all alike often);
    spectrum: spread of the slope of log power over log frequency; edges: spread of the share of pixels on an edge; rank: effective rank
    (the exponential of the entropy of the covariance's eigenvalues) of 16 x 16 pictures and of 4 x 4 grids of edge directions."""
    yield f"{'data set':<28}{'distinct':>9}{'colour':>8}{'hues':>7}{'spectrum':>10}{'edges':>8}{'rank 16x16':>12}{'rank edges':>12}"
    for name in datasets.DATASETS:
        if name == "shaders21k":
            continue
        recipe = recipe_of(RenderRequest(name, 1, "-", size=128))
        sample = [
            np.broadcast_to(recipe.render(i)[1].pixels, (128, 128, 3)).astype(np.float32) for i in range(1000)
        ]
        kinds = (
            len({params_of(recipe, i).structure for i in range(1000)})
            if name == "shaders"
            else min(1000, recipe.config.classes)
        )
        looks = np.stack([p.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3)).ravel() for p in sample])
        edges = [gradients(p.mean(axis=2)) for p in sample]
        row = (
            f"{np.std([p.mean(axis=(0, 1)) for p in sample], axis=0).mean():>8.1f}{hue_entropy(sample):>7.2f}"
        )
        row += (
            f"{np.std([slope(p.mean(axis=2)) for p in sample]):>10.2f}{np.std([e[0] for e in edges]):>8.3f}"
        )
        yield f"{name:<28}{kinds:>9}{row}{rank(looks):>12.1f}{rank(np.stack([e[1] for e in edges])):>12.1f}"


def hue_entropy(sample: list[np.ndarray]) -> float:
    counts = np.zeros(24)
    for picture in sample:
        p = picture[::4, ::4].reshape(-1, 3)
        high, low = p.max(axis=1), p.min(axis=1)
        p, width, high = p[high - low > 32], (high - low)[high - low > 32], high[high - low > 32]
        r, g, b = p.T
        hue = np.where(
            high == r, (g - b) / width % 6, np.where(high == g, (b - r) / width + 2, (r - g) / width + 4)
        )
        counts += np.bincount((hue * 4).astype(int) % 24, minlength=24)
    share = counts / max(counts.sum(), 1)
    return abs(float((share[share > 0] * np.log(share[share > 0])).sum() / np.log(24)))


def slope(light: np.ndarray) -> float:
    power = np.abs(np.fft.rfft2(light - light.mean())) ** 2 + 1e-3
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    rings = np.digitize(frequency, np.geomspace(1 / 64, 0.5, 12))
    mean = [np.log(power[rings == k].mean()) for k in range(1, 12)]
    return float(np.polyfit(np.log(np.geomspace(1 / 64, 0.5, 11)), mean, 1)[0])


def gradients(light: np.ndarray) -> tuple[float, np.ndarray]:
    """Share of pixels on an edge, and how much edge there is in each of 4 x 4 places and 8 directions."""
    down, across = np.gradient(light)
    size, turn = np.hypot(down, across), ((np.arctan2(down, across) / np.pi + 1) * 4).astype(int) % 8
    place = (np.arange(128) // 32)[:, None] * 4 + np.arange(128) // 32
    grid = np.bincount((place * 8 + turn).ravel(), weights=size.ravel(), minlength=128)
    return float((size > 16).mean()), np.sqrt(grid / max(grid.sum(), 1e-9))


def rank(features: np.ndarray) -> float:
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False) ** 2
    share = values / values.sum()
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))


def main() -> None:
    if sys.argv[1:] == ["diversity"]:
        for line in diversity():
            print(line, flush=True)
        return
    gl.choose("software")
    print(gl.renderer())
    recipe = recipe_of(RenderRequest("shaders", 1, "-"))
    for rows in (steady_state(recipe), worst_class(recipe), compiling(), memory()):
        for row in rows:
            print(f"{row.what:<70}{row.value:>10.2f} {row.unit:<14}{row.target}", flush=True)


if __name__ == "__main__":
    main()
