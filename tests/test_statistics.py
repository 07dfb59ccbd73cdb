"""Cheap statistics of pictures, beside pictures whose statistics are known: evaluate/statistics.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluate import statistics
from evaluate.statistics import StatisticsRequest, colour_entropy, edge_density, png_bits, slope, spectrum
from synth.errors import UserError
from synth.images.codecs import encode_png

RNG = np.random.default_rng(0)


def grey(levels: np.ndarray) -> np.ndarray:
    """Returns pictures (N, S, S, 3) of levels (N, S, S)."""
    return np.repeat(levels.clip(0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("exponent", [0.0, -2.0, -3.0])
def test_the_slope_of_noise_is_the_exponent_of_its_spectrum(exponent: float) -> None:
    side, cycles = 64, np.fft.fftfreq(64, 1 / 64)
    radius = np.hypot(cycles, cycles[:, None])
    radius[0, 0] = np.inf
    white = np.fft.fft2(RNG.normal(size=(200, side, side)))
    noise = np.fft.ifft2(white * radius ** (exponent / 2)).real
    pictures = grey(128 + 40 * noise / noise.std())
    assert slope(spectrum(pictures).mean(0)) == pytest.approx(exponent, abs=0.15)


def test_a_wave_has_its_power_at_its_frequency() -> None:
    x = np.arange(32)
    wave = grey(np.tile(128 + 100 * np.sin(2 * np.pi * 5 * x / 32), (1, 32, 1)))
    power = spectrum(wave)[0]
    assert power.shape == (16,) and power.argmax() == 4
    assert slope(spectrum(grey(np.full((1, 32, 32), 90)))[0]) == 0


def test_edges_are_where_luma_changes() -> None:
    half = np.zeros((1, 16, 16))
    half[:, :, 8:] = 200
    assert edge_density(grey(half))[0] == 2 / 16  # of central differences
    ramp = np.tile(np.arange(16.0) * 10, (1, 16, 1))  # .039 of luma a pixel
    assert edge_density(grey(ramp))[0] == 0 and edge_density(grey(2 * ramp / 1.2))[0] == 1


def test_colour_entropy_is_that_of_the_shares_of_colours() -> None:
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    pictures[1, :, :4] = (255, 0, 0)
    pictures[1, :4, :2] = (0, 255, 0)
    assert colour_entropy(pictures) == pytest.approx([0, 0.5 * 1 + 0.375 * np.log2(8 / 3) + 0.125 * 3])


def test_bits_are_those_of_the_files() -> None:
    pictures = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    assert png_bits(pictures) == pytest.approx([len(encode_png(each)) / 32 for each in pictures])


def test_rows_are_those_of_the_pictures_of_a_folder(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (70, 16, 16, 3), dtype=np.uint8)
    for i, each in enumerate(pictures):
        (tmp_path / f"{i:02}.png").write_bytes(encode_png(each))
    events: list[Any] = list(statistics.statistics(StatisticsRequest(str(tmp_path))))
    *steps, rows = events
    assert sum(step.amount for step in steps) == 70
    values = {row["metric"]: row["value"] for row in rows}
    assert tuple(values) == statistics.NAMES and all(row["n"] == 70 for row in rows)
    assert values["colour entropy"] == pytest.approx(colour_entropy(pictures).mean())
    assert values[statistics.SLOPE] == pytest.approx(slope(spectrum(pictures).sum(0)))

    # Other shapes have no spectrum.
    (tmp_path / "00.png").unlink()
    for path in tmp_path.iterdir():
        path.write_bytes(encode_png(np.zeros((8, 16, 3), np.uint8)))
    with pytest.raises(UserError, match="have 16 x 8 pixels; a spectrum needs squares"):
        list(statistics.statistics(StatisticsRequest(str(tmp_path))))
