import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from synth import datasets
from synth.families import visual_atoms
from synth.families.visual_atoms import Config, Params
from synth.images.pictures import box_average
from synth.seeds import stream
from synth.settings import from_json
from tests.bench.plain import stream_words, visual_atom

ATOMS = datasets.get("visual_atoms")
RNG = np.random.default_rng(0)
# Hashes of pictures 0, 1001 and 123456. Raise LAW with these.
GOLDEN = ["0685f8c4eaf85961", "63b32ee13de5122e", "d3cab160c5b5db1a"]
TOY = Params(60, 12, 2.0, 0.05, 35, (5, 9), (1.5, 1.2), (250.0, 260.5), noise_key=99, canvas=512)


def draw(index: int, *, seed: int = 0, config: Config | None = None) -> Params:
    return datasets.sample_params(ATOMS, config or Config(), seed=seed, index=index)


def classes(count: int) -> list[visual_atoms.Class]:
    return [visual_atoms.sample_class(Config(), stream(5, "law", i)) for i in range(count)]


def test_noise_has_the_published_marginal() -> None:
    noise = visual_atoms.perlin_quantiles()
    published = {0.01: -0.823, 0.05: -0.576, 0.25: -0.154, 0.5: -0.002, 0.75: 0.143, 0.95: 0.615, 0.99: 0.850}
    for share, value in published.items():
        assert abs(np.quantile(noise, share) - value) < 0.004
    assert abs(noise.mean()) < 1e-3 and abs(noise.std() - 0.3286) < 1e-3
    assert 0.93 < noise.max() <= 0.9521 and -0.9521 <= noise.min() < -0.93


def test_class_parameters_fill_their_ranges_evenly() -> None:
    sample = classes(4000)
    ranges: list[tuple[list[float], float, float]] = [
        ([c.vertices for c in sample], 200, 1000),
        ([c.orbits for c in sample], 1, 200),
        ([c.noise for c in sample], 0, 4),
        ([c.spacing for c in sample], 0, 0.1),
        ([c.radius for c in sample], 10, 60),
        ([c.stretch[0] for c in sample], 1, 2),
        ([c.stretch[1] for c in sample], 1, 2),
    ]
    for values, low, high in ranges:
        assert low <= min(values) and max(values) <= high
        assert abs(np.mean(values) - (low + high) / 2) < 4 * (high - low) / 12**0.5 / 4000**0.5


def test_frequencies_are_never_equal_unless_zero() -> None:
    pairs = [c.frequencies for c in classes(6000)]
    assert all(a != b or a == 0 for a, b in pairs)
    assert {n for pair in pairs for n in pair} == set(range(21))
    assert 2 <= sum(pair == (0, 0) for pair in pairs) <= 35  # 14 are expected


def test_centres_are_uniform_over_the_canvas() -> None:
    x = [draw(i).centre[0] for i in range(3000)]
    assert min(x) >= 0 and max(x) <= 512 and all(v * 2 == int(v * 2) for v in x)
    counts = np.histogram(x, bins=8, range=(0, 512))[0]
    assert ((counts - 375) ** 2 / 375).sum() < 26  # chi squared with 7 degrees of freedom: 0.05 %


@pytest.mark.slow
def test_fill_has_the_published_quantiles() -> None:
    fill = np.array([visual_atoms.render(draw(i, seed=3), 512).foreground.mean() for i in range(1500)]) * 100
    for share, published in {0.05: 1.2, 0.25: 9.1, 0.5: 24.9, 0.75: 50.4, 0.95: 72.6}.items():
        below = (fill < published).mean()
        assert abs(below - share) < 0.045, (share, np.quantile(fill, share))
    assert abs((fill < 1).mean() - 0.042) < 0.02
    assert abs((fill < 5).mean() - 0.157) < 0.035


@pytest.mark.parametrize("canvas", [512, 256])
@pytest.mark.parametrize("centre", [(256.0, 256.0), (0.0, 512.0), (-40.0, 300.5)])
def test_kernel_draws_the_pixels_of_its_plain_twin(canvas: int, centre: tuple[float, float]) -> None:
    for key in range(3):
        params = dataclasses.replace(TOY, centre=centre, noise_key=key, orbits=12, vertices=60 + key)
        noise = np.float32(params.noise) * visual_atoms.perlin_quantiles()
        ring = visual_atoms.ring(params)
        drawn = visual_atoms.draw_orbits(ring, noise, params.orbits, np.uint64(key), canvas)
        assert np.array_equal(drawn, visual_atom(params, canvas, stream_words(key)))


def test_polygons_are_pillows_even_across_the_frame() -> None:
    for _ in range(300):
        side, count = int(RNG.integers(3, 200)), int(RNG.integers(3, 40))
        corners = RNG.integers(-side, 2 * side, (count, 2)).astype(np.int32)
        drawn = np.zeros((side, side), np.uint8)
        visual_atoms.draw_polygon(drawn, corners[:, 0].copy(), corners[:, 1].copy(), np.uint8(77))
        picture = Image.new("L", (side, side))
        ImageDraw.Draw(picture).line([tuple(map(int, c)) for c in (corners[-1], *corners)], fill=77)
        assert np.array_equal(drawn, np.asarray(picture))


def test_black_orbits_erase() -> None:
    pixels = np.full((20, 20), 200, np.uint8)
    columns, rows = np.array([2, 17, 9], np.int32), np.array([3, 3, 15], np.int32)
    visual_atoms.draw_polygon(pixels, columns, rows, np.uint8(0))
    assert (pixels[3, 2:18] == 0).all() and pixels[0, 0] == 200


def test_without_noise_and_waves_orbits_are_one_ellipse() -> None:
    params = dataclasses.replace(
        TOY, vertices=400, noise=0.0, spacing=0.0, frequencies=(0, 0), radius=60, centre=(256.0, 256.0)
    )
    rows, columns = np.nonzero(visual_atoms.render(params, 512).foreground)
    distance = np.hypot((columns - 256) / (60 * 1.5), (rows - 256) / (60 * 1.2))
    assert len(rows) > 300 and np.abs(distance - 1).max() < 0.03


def test_rings_grow_by_noise_and_spacing_an_orbit() -> None:
    params = dataclasses.replace(TOY, vertices=1000, orbits=1, spacing=0.1, frequencies=(3, 4))
    ring = visual_atoms.ring(params)
    before = ring[:2].copy()
    noise = np.float32(params.noise) * visual_atoms.perlin_quantiles()
    scratch = np.empty((2, 1000), np.int32)
    for orbit in range(50):
        visual_atoms.push(ring, noise, np.uint64(1), orbit * 1000, np.float32(1), scratch[0], scratch[1])
    grown = ((ring[:2] - before) * ring[2:4]).sum(axis=0)  # along the radius
    assert abs(grown.mean() / 50 - (params.noise + params.spacing)) < 0.01


def test_a_picture_is_drawn_again_from_its_json() -> None:
    for index in (0, 1234, 98765):
        params = draw(index)
        again = from_json(Params, json.loads(json.dumps(vars(params))))
        assert again == params
        assert np.array_equal(visual_atoms.render(again, 128).pixels, visual_atoms.render(params, 128).pixels)


def test_pictures_are_averaged_from_the_canvas() -> None:
    params = draw(7)
    large = visual_atoms.render(params, 512).pixels[..., 0]
    assert np.array_equal(visual_atoms.render(params, 256).pixels[..., 0], box_average(large, 256))
    assert visual_atoms.render(params, 100).pixels.shape == (100, 100, 1)  # drawn on 600
    direct = visual_atoms.render(dataclasses.replace(params, canvas=256), 256).pixels
    assert direct.shape == (256, 256, 1) and not np.array_equal(direct[..., 0], box_average(large, 256))


def pixel_hashes() -> list[str]:
    pictures = [visual_atoms.render(draw(i), 256).pixels.tobytes() for i in (0, 1001, 123456)]
    return [hashlib.sha256(pixels).hexdigest()[:16] for pixels in pictures]


def test_pixels_never_change() -> None:
    assert pixel_hashes() == GOLDEN


@pytest.mark.slow
def test_pixels_are_the_same_on_the_plainest_x86_64(tmp_path: Path) -> None:
    script = "import importlib.util as u, sys; s = u.spec_from_file_location('t', sys.argv[1])"
    script += "; m = u.module_from_spec(s); s.loader.exec_module(m); print(*m.pixel_hashes())"
    plainest = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NPY_DISABLE_CPU_FEATURES": "AVX2"}
    environment = {**os.environ, **plainest, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script, __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.split() == GOLDEN


IMPOSSIBLE = [
    *({"canvas": 0}, {"canvas": 5000}, {"classes": 0}),
    *({"vertices": (2, 9)}, {"radius": (-1, 3)}, {"noise": (0, 1e308)}),
]


@pytest.mark.parametrize("setting", IMPOSSIBLE, ids=str)
def test_impossible_laws_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must"):
        Config(**setting)  # type: ignore[arg-type]


def test_laws_that_reach_too_far_are_refused() -> None:
    Config(orbits=(1, 500))
    with pytest.raises(ValueError, match="these ranges reach 9,000 pixels"):
        Config(orbits=(1, 800), noise=(0.0, 5.0))
