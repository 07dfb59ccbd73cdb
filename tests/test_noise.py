import hashlib
import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caption.sentences.attributes import facts, parse, sentences
from caption.sentences.colour_words import COLOURS, colour_numbers
from synth import datasets, settings
from synth.errors import UserError
from synth.families import draw, noise
from synth.families.noise import Config, Params
from synth.kernels.trigonometry import circle
from synth.seeds import Stream
from tests.kit import ROOT

# Hashes of pictures 0, 1001 and 123456 at 64, 96 and 65 pixels. Raise LAW with these.
GOLDEN = ["400f3ef4cf678f6e", "357ede6ce2cc5cf7", "be1eb39d0c17a46e"]
PLACES = ((0, 64), (1001, 96), (123456, 65))


def params(index: int, *changes: str) -> Params:
    config = settings.with_settings(Config(), list(changes))
    result = datasets.sample_params(datasets.get("noise"), config, seed=0, index=index)
    assert isinstance(result, Params)
    return result


def pixel_hashes() -> list[str]:
    pictures = [pixels for index, size in PLACES for pixels, _ in draw("noise", None, 0, [index], size=size)]
    return [hashlib.sha256(pixels.tobytes()).hexdigest()[:16] for pixels in pictures]


def test_pixels_are_the_golden_ones() -> None:
    assert pixel_hashes() == GOLDEN


@pytest.mark.soak
def test_pixels_are_the_same_on_the_plainest_x86_64(tmp_path: Path) -> None:
    script = "from tests.test_noise import pixel_hashes; print(*pixel_hashes())"
    plainest = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "", "NPY_DISABLE_CPU_FEATURES": "AVX2"}
    environment = {**os.environ, **plainest, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == GOLDEN


def words(key: int, counters: np.ndarray) -> np.ndarray:
    """Returns words of a stream by their counters."""
    stream = Stream(key)
    values = []
    for counter in counters.ravel().tolist():
        stream._counter = counter
        values.append(stream.word())
    return np.array(values, np.uint64).reshape(counters.shape)


@pytest.mark.parametrize(("size", "slope"), [(16, 1.0), (30, 0.5), (7, 4.0), (1, 1.0)])
def test_fields_are_those_of_numpys_transform(size: int, slope: float) -> None:
    # The plain twin.
    waves = np.round(np.fft.fftfreq(size, 1 / size)).astype(int)
    squared = (waves[:, None] ** 2 + waves**2).astype(float)
    amplitudes = np.where(squared > 0, np.maximum(squared, 1) ** (-slope / 4), 0)
    phases = (words(99, waves[:, None] % 65536 * 65536 + waves % 65536) >> np.uint64(52)) / 4096
    twin = np.fft.ifft2(amplitudes * np.exp(2j * math.pi * phases)) * size**2

    # The kernels.
    real, imaginary = noise.spectrum(np.uint64(99), size, slope, *circle(4096))
    for _ in range(2):
        real, imaginary = noise.transform(real, imaginary, *circle(size))
        real, imaginary = np.ascontiguousarray(real.T), np.ascontiguousarray(imaginary.T)
    assert np.allclose(real + 1j * imaginary, twin, rtol=0, atol=1e-9)
    assert math.isclose(noise.power(size, -slope / 4), size ** (-slope / 4), rel_tol=1e-12)


@pytest.mark.parametrize("colours", [((0, 0, 0), (255, 200, 90)), ((250, 0, 9), (0, 255, 9), (7, 8, 255))])
def test_pixels_are_mixed_as_by_their_twin(colours: Any) -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 20, 20))
    law = noise.lines(colours)
    fields = [np.ones((20, 20)), first / np.sqrt((first**2).mean()), second / np.sqrt((second**2).mean())]
    levels = sum(field[..., None] * line for field, line in zip(fields, law, strict=True))
    pixels, beyond = noise.mix(first, second, law)
    assert np.array_equal(pixels, np.floor(np.clip(levels, 0, 255) + 0.5))
    assert np.array_equal(beyond, first > 0)


def test_fields_reach_their_colours_at_two_standard_deviations() -> None:
    black, red, blue = (0, 0, 0), (200, 0, 0), (0, 0, 100)
    middle, line, other = noise.lines((black, red))
    assert (middle - 2 * line).tolist() == list(black) and (middle + 2 * line).tolist() == list(red)
    assert not other.any()
    middle, line, other = noise.lines((black, red, blue))
    assert (middle + 2 * other).tolist() == list(blue)
    assert (middle - 2 * other).tolist() == [100, 0, 0] and np.allclose(line, [50, 0, 0])


def slope(pixels: np.ndarray) -> float:
    """Returns a of 1 / f^a by least squares over rings of frequencies, weighed by their size."""
    size = pixels.shape[0]
    waves = np.fft.fftfreq(size, 1 / size)
    rings = np.round(np.hypot(waves[:, None], waves)).astype(int)
    spectra = np.abs(np.fft.fft2(pixels - pixels.mean(axis=(0, 1)), axes=(0, 1))) ** 2
    inside = (rings > 0) & (rings < size // 2)
    sizes = np.bincount(rings[inside])[1:]
    power = np.bincount(rings[inside], spectra.sum(axis=2)[inside])[1:] / sizes
    return -float(np.polyfit(np.log(np.arange(1, size // 2)), np.log(power), 1, w=np.sqrt(sizes))[0])


def test_the_spectrum_has_the_slope_of_its_parameters() -> None:
    scenes = [params(index) for index in range(40)]
    large = [slope(noise.render(scene, 256).pixels) - scene.slope for scene in scenes[:12]]
    small = [slope(noise.render(scene, 64).pixels) - scene.slope for scene in scenes]
    assert np.abs(large).max() < 0.1 and abs(np.mean(small)) < 0.02
    assert min(s.slope for s in scenes) < 0.6 and max(s.slope for s in scenes) > 1.4


def test_a_small_picture_has_the_low_frequencies_of_a_large_one() -> None:
    scene = params(3, "slope=3,3")
    small, large = (noise.render(scene, size).pixels.astype(float) for size in (32, 128))
    averaged = large.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), averaged.ravel())[0, 1] > 0.95


def test_colours_are_two_or_three_that_differ() -> None:
    classes = [params(index).colours for index in range(500)]
    assert {len(colours) for colours in classes} == {2, 3}
    for colours, (i, j) in product(classes, ((0, 1), (0, 2), (1, 2))):
        if j < len(colours):
            assert np.abs(np.subtract(colours[i], colours[j])).max() >= 64
    shared = [params(7), params(1007)]
    assert shared[0].colours == shared[1].colours and shared[0].key != shared[1].key


@pytest.mark.parametrize("change", ["slope=-1,1", "slope=2,1", "slope=1,5", "colours=1,3", "levels=100,200"])
def test_settings_beyond_the_law_are_refused(change: str) -> None:
    with pytest.raises(UserError, match=f"setting {change.split('=')[0]} cannot be"):
        settings.with_settings(Config(), [change])


@pytest.mark.parametrize("size", [32, 96])
def test_sentences_name_colours_alone_and_each_fills_the_stated_share(size: int) -> None:
    stated: dict[str, int] = {}
    for pixels, sample in draw("noise", None, 0, range(200), size=size):
        known = facts(sample)
        shares = np.bincount(colour_numbers(pixels).ravel() + 1, minlength=12)[1:] / size**2
        for fact, least in (("colour", 0.5), ("tones", 0.15), ("partly", 0.15)):
            named = str(known[fact]).split(" and ") if fact in known else []
            assert all(shares[COLOURS.index(word)] > least for word in named), (known, shares)
            stated[fact] = stated.get(fact, 0) + bool(named)
        assert all(parse(sentence) == known for sentence in sentences(sample))
        assert known.keys() <= {"family", "colour", "tones", "partly"}
    assert min(stated.values()) > 20 and sum(stated.values()) > 160


def test_a_steep_spectrum_has_no_sure_colours() -> None:
    [(_, sample)] = draw("noise", Config(slope=(3.0, 3.0)), 0, [0], size=32)
    assert facts(sample) == {"family": "noise"}
