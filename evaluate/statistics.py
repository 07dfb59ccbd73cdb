"""Cheap statistics of a set of pictures, which may foresee how well a model pre-trained on it transfers.

    spectral slope          of the logarithm of power over that of frequency: near -2 for photographs (van der
                            Schaaf and van Hateren, Vision Research 1996), 0 for white noise
    PNG bits per pixel      size of the lossless file
    edge density            share of pixels where luma changes by .05 or more a pixel
    colour entropy          of the pixels of a picture over 512 cells of RGB, in bits

Axes: N pictures, S pixels of a side.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from evaluate import sources
from synth.errors import UserError
from synth.images.codecs import encode_png
from synth.sets.completion import Progress

SLOPE = "spectral slope"

_LUMA = np.array([0.299, 0.587, 0.114]) / 255
_EDGE = 0.05  # of luma in 0..1
_SILENT = 1e-20  # power that is rounding
_BITS = 3  # of each channel of a cell

Json = dict[str, Any]
Events = Generator[Progress | list[Json], None, None]  # numbers of processed pictures, and last the rows


@dataclass(frozen=True)
class StatisticsRequest:
    """The options of `statistics`."""

    place: str  # of the set, or of a folder of pictures
    n: int | None = None  # pictures; None: all


def statistics(request: StatisticsRequest) -> Events:
    """Yields the number of processed pictures, and at the end one row for each statistic.

    The slope is that of the mean spectrum. All others are means over pictures, with their standard error.
    Raises UserError if the pictures are not square, or have fewer than 8 pixels a side."""
    pictures = sources.find(request.place, limit=request.n)
    power: list[np.ndarray] = []
    values: dict[str, list[float]] = {name: [] for name in _EACH}
    for batch in pictures.batches(0):
        if batch.shape[1] != batch.shape[2] or batch.shape[1] < 8:
            size = f"{batch.shape[2]} x {batch.shape[1]}"
            raise UserError(
                f"pictures of {request.place} have {size} pixels; a spectrum needs squares from 8"
            )
        power.append(spectrum(batch).sum(0))
        for name, measure in _EACH.items():
            values[name] += [float(value) for value in measure(batch)]
        yield Progress(len(batch))

    # Rows.
    common = {"set": pictures.name, "n": pictures.count}
    rows: list[Json] = [{"metric": SLOPE, "value": slope(np.sum(power, axis=0)), **common}]
    for name, of_pictures in values.items():
        error = stdev(of_pictures) / len(of_pictures) ** 0.5 if len(of_pictures) > 1 else None
        rows.append({"metric": name, "value": fmean(of_pictures), "error": error, **common})
    yield rows


def spectrum(pixels: np.ndarray) -> np.ndarray:
    """Returns the power of luma at every whole number of cycles a picture, from 1 to S / 2: (N, S / 2).

    `pixels` is uint8 (N, S, S, 3). A Hann window keeps borders from acting as edges."""
    side = pixels.shape[1]
    luma = pixels @ _LUMA
    window = np.hanning(side + 2)[1:-1]
    power = np.abs(np.fft.fft2((luma - luma.mean((1, 2), keepdims=True)) * window * window[:, None])) ** 2
    cycles = np.fft.fftfreq(side, 1 / side)
    radius = np.hypot(cycles, cycles[:, None]).round().astype(int)
    rings = [power[:, radius == r].mean(1) for r in range(1, side // 2 + 1)]
    return np.stack(rings, axis=1)


def slope(power: np.ndarray) -> float:
    """Returns the slope of the line through log power (S / 2,) over log frequency.

    It is 0 if a frequency has no power."""
    if power.min() < _SILENT:
        return 0.0
    return float(np.polyfit(np.log(np.arange(1, len(power) + 1)), np.log(power), 1)[0])


def png_bits(pixels: np.ndarray) -> np.ndarray:
    """Returns the bits per pixel of the PNG files of pixels uint8 (N, S, S, 3): (N,)."""
    return np.array([8 * len(encode_png(each)) / (each.shape[0] * each.shape[1]) for each in pixels])


def edge_density(pixels: np.ndarray) -> np.ndarray:
    """Returns the share of pixels on edges of pixels uint8 (N, S, S, 3): (N,)."""
    down, across = np.gradient(pixels @ _LUMA, axis=(1, 2))
    return np.asarray((np.hypot(down, across) >= _EDGE).mean((1, 2)))


def colour_entropy(pixels: np.ndarray) -> np.ndarray:
    """Returns the entropy of the colours of pixels uint8 (N, S, S, 3), in bits: (N,)."""
    cells = (pixels >> (8 - _BITS)).astype(np.int64) @ (1 << _BITS * np.arange(3))
    entropies = []
    for each in cells:
        share = np.bincount(each.ravel()) / each.size
        share = share[share > 0]
        entropies.append(-(share * np.log2(share)).sum())
    return np.array(entropies)


_EACH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "PNG bits per pixel": png_bits,
    "edge density": edge_density,
    "colour entropy": colour_entropy,
}
NAMES = (SLOPE, *_EACH)
