"""Speed and memory of the shaders, and the diversity of all data sets' pictures.

python -m tests.bench.bench_shaders              CPU time on one core, and memory
python -m tests.bench.bench_shaders diversity    a line for each data set

The bare draw is moderngl's part alone: uniforms, triangle, read-back into a buffer.
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

# A process that draws the first picture of every structure and prints its seconds.
FIRST_PICTURES = """
import time
from synth.datasets import sample_params
from synth.families import shaders
from synth.pipeline import RenderRequest, recipe_of

recipe = recipe_of(RenderRequest("shaders", 1, "-"))
params = [sample_params(recipe.dataset, recipe.config, seed=0, index=i) for i in range(256)]
shaders.draw(params[0], 8)
begun = time.process_time()
for p in params:
    shaders.draw(p, 8)
print(time.process_time() - begun)
"""


def params_of(recipe: Recipe, index: int) -> shaders.Params:
    dataset, config = recipe.dataset, recipe.config
    params: shaders.Params = datasets.sample_params(dataset, config, seed=recipe.seed, index=index)
    return params


def steady_state(recipe: Recipe) -> Iterator[Row]:
    """Yields the time of pictures drawn by the pipeline's own function and by a bare draw, with all programs
    alive. Both take turns. Each time is the best of five."""
    # Warm-up: every program compiles.
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
    slowest = params[int(ours.argmax())].structure
    yield Row(f"slowest of {PICTURES} classes (structure {slowest})", 1000 * ours.max(), "ms", "<= 60")

    # The whole way to a sample.
    begun = time.process_time()
    for i in range(PICTURES):
        recipe.encode(i)
    yield Row("with measuring, PNG and JSON", 1000 * (time.process_time() - begun) / PICTURES, "ms", "")


def draw_barely(params: shaders.Params) -> None:
    """Draws with moderngl alone, without the pipeline's look-ups, deadline and turning."""
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
    """Yields the slowest of every seventh class of the law. Those above 30 ms count with the best of five."""
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
    """Yields the time of all structures' first pictures in a new process. The first process has an empty
    shader cache, and the second uses it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "MESA_SHADER_CACHE_DIR": folder}
        for name in ("without a cache", "with the node's cache"):
            command = [sys.executable, "-c", FIRST_PICTURES]
            run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            yield Row(f"first pictures of 256 structures, {name}", float(run.stdout), "s", "")


def memory() -> Iterator[Row]:
    """Yields the resident memory of a process that has drawn with RENDERERS programs."""
    script = "from tests.bench.bench_shaders import draw_many; draw_many()"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    yield Row(f"memory after {RENDERERS:,} programs", float(run.stdout), "MB", "< 500")


def draw_many() -> None:
    for number in range(RENDERERS):
        shaders.draw(shaders.look(number, shaders.class_values(number, 0, 0), 1.0), 256)
        composer.compose.cache_clear()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def diversity() -> Iterator[str]:
    """Yields the diversity of the first 1,000 pictures of each data set, a line each.

    colour      spread of the pictures' mean colours, in levels
    hues        entropy of the hues of coloured pixels, in 24 bins (1: all are equally frequent)
    spectrum    spread of the slope of log power over log frequency
    edges       spread of the share of pixels on an edge
    rank        effective rank (the exponential of the entropy of the covariance's eigenvalues) of 16 x 16
                pictures and of 4 x 4 grids of edge directions
    """
    heads = f"{'colour':>8}{'hues':>7}{'spectrum':>10}{'edges':>8}{'rank 16x16':>12}{'rank edges':>12}"
    yield f"{'data set':<28}{'distinct':>9}{heads}"
    for name in datasets.DATASETS:
        if name == "shaders21k":
            continue

        # Pictures as RGB, and the number of different programs or classes.
        recipe = recipe_of(RenderRequest(name, 1, "-", size=128))
        pixels = [recipe.render(i)[1].pixels for i in range(1000)]
        sample = [np.broadcast_to(p, (128, 128, 3)).astype(np.float32) for p in pixels]
        kinds = min(1000, recipe.config.classes)
        if name == "shaders":
            kinds = len({params_of(recipe, i).structure for i in range(1000)})

        # Features, and their spreads and ranks.
        colours = [p.mean(axis=(0, 1)) for p in sample]
        slopes = [slope(p.mean(axis=2)) for p in sample]
        looks = np.stack([p.reshape(16, 8, 16, 8, 3).mean(axis=(1, 3)).ravel() for p in sample])
        shares, grids = zip(*(gradients(p.mean(axis=2)) for p in sample), strict=True)
        row = f"{np.std(colours, axis=0).mean():>8.1f}{hue_entropy(sample):>7.2f}"
        row += f"{np.std(slopes):>10.2f}{np.std(shares):>8.3f}"
        yield f"{name:<28}{kinds:>9}{row}{rank(looks):>12.1f}{rank(np.stack(grids)):>12.1f}"


def hue_entropy(sample: list[np.ndarray]) -> float:
    """Returns the entropy of the hues of all coloured pixels, as a share of the largest possible."""
    counts = np.zeros(24)
    for picture in sample:
        # Every sixteenth pixel, if its channels differ by more than 32 levels.
        p = picture[::4, ::4].reshape(-1, 3)
        p = p[np.ptp(p, axis=1) > 32]
        high, width = p.max(axis=1), np.ptp(p, axis=1)

        # The sector of the wheel, 0 to 6, by the largest channel.
        r, g, b = p.T
        green, blue = (b - r) / width + 2, (r - g) / width + 4
        hue = np.where(high == r, (g - b) / width % 6, np.where(high == g, green, blue))
        counts += np.bincount((hue * 4).astype(int) % 24, minlength=24)
    share = counts / max(counts.sum(), 1)
    return abs(float((share[share > 0] * np.log(share[share > 0])).sum() / np.log(24)))


def slope(light: np.ndarray) -> float:
    """Returns the slope of log power over log frequency, from eleven rings of frequencies."""
    power = np.abs(np.fft.rfft2(light - light.mean())) ** 2 + 1e-3
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)[None])
    rings = np.digitize(frequency, np.geomspace(1 / 64, 0.5, 12))
    mean = [np.log(power[rings == k].mean()) for k in range(1, 12)]
    return float(np.polyfit(np.log(np.geomspace(1 / 64, 0.5, 11)), mean, 1)[0])


def gradients(light: np.ndarray) -> tuple[float, np.ndarray]:
    """Returns the share of pixels on an edge, and the strength of edges in each of 4 x 4 places and 8
    directions: (128,)."""
    down, across = np.gradient(light)
    size, turn = np.hypot(down, across), ((np.arctan2(down, across) / np.pi + 1) * 4).astype(int) % 8
    place = (np.arange(128) // 32)[:, None] * 4 + np.arange(128) // 32
    grid = np.bincount((place * 8 + turn).ravel(), weights=size.ravel(), minlength=128)
    return float((size > 16).mean()), np.sqrt(grid / max(grid.sum(), 1e-9))


def rank(features: np.ndarray) -> float:
    """Returns the effective rank of features (N, F)."""
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
