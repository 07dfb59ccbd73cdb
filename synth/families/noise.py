"""Coloured noise with the power spectrum 1 / f^a: the control, pictures with colours and no shapes.

After the spectrum model of Baradad et al. (Learning to See by Looking at Noise, NeurIPS 2021). A field is the
inverse Fourier transform of amplitudes f^(-a/2) with random phases. f counts waves across the picture. The
real and the imaginary part are two fields. They mix two or three colours, each field along one line of RGB:

    pixel = middle + field_1 line_1 + field_2 line_2

The phase of a frequency follows from its numbers, so a small picture has the low frequencies of a large one.
Fields have the standard deviation 1 at every size. The transform uses additions and multiplications in a
fixed order, without fused operations, so pixels are the same everywhere.

Axes: S side of the picture, N rows to transform, W columns.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from synth import settings
from synth.compilation import cached_jit
from synth.images.pictures import Picture
from synth.kernels.trigonometry import circle, exponential
from synth.seeds import Stream, word

LAW = 1  # raised when the golden pixels change

_PHASES = 4096  # of a frequency
_REACH = 2.0  # standard deviations of a field from the middle of its colours to either end
_LEAST = 64  # difference of two colours in some channel

_roots = cache(circle)  # cosines and sines


@dataclass(frozen=True)
class Config:
    """The law's ranges, both ends included for integers."""

    classes: int = 1000
    slope: tuple[float, float] = (0.5, 1.5)  # a
    colours: tuple[int, int] = (2, 3)  # mixed in a picture
    levels: tuple[int, int] = (0, 255)  # of a colour's channels

    def __post_init__(self) -> None:
        settings.require_within(self, 1, 10**9, "classes")
        settings.require_within(self, 0, 4, "slope")
        if not 2 <= self.colours[0] <= self.colours[1] <= 3:
            raise ValueError(f"colours is {self.colours}; two or three can be mixed")
        if self.levels[0] < 0 or self.levels[1] > 255 or self.levels[1] - self.levels[0] < 2 * _LEAST:
            raise ValueError(f"levels is {self.levels}; it must span at least {2 * _LEAST} levels of 0..255")

    @property
    def channels(self) -> int:
        """The channels of the pictures: RGB."""
        return 3


@dataclass(frozen=True)
class Class:
    """The parameters that all pictures of a class share."""

    slope: float
    colours: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Params(Class):
    """Everything that a picture is drawn from."""

    key: int
    redraws: int = 0


def sample_class(config: Config, stream: Stream) -> Class:
    """Draws a class of the law. A colour is drawn again while it is near an earlier one."""
    slope, count = stream.uniform(*config.slope), stream.integer(*config.colours)
    colours: list[tuple[int, int, int]] = []
    while len(colours) < count:
        red, green, blue = (stream.integer(*config.levels) for _ in range(3))
        if all(max(abs(red - r), abs(green - g), abs(blue - b)) >= _LEAST for r, g, b in colours):
            colours.append((red, green, blue))
    return Class(slope, tuple(colours))


def sample_instance(config: Config, shared: Class, stream: Stream) -> Params:
    """Returns the Params of a picture of a class. They add the key of its phases."""
    return Params(**vars(shared), key=stream.key())


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (S, S, 3). The foreground is the half beyond the middle of the first
    line."""
    real, imaginary = spectrum(np.uint64(params.key), size, params.slope, *_roots(_PHASES))
    for _ in range(2):
        # Rows, then columns as rows.
        real, imaginary = transform(real, imaginary, *_roots(size))
        real, imaginary = np.ascontiguousarray(real.T), np.ascontiguousarray(imaginary.T)
    return Picture(*mix(real, imaginary, lines(params.colours)))


def lines(colours: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    """Returns the middle of two or three colours and the two lines that fields move along: float64 (3, 3)."""
    first, second = (np.array(colour, np.float64) for colour in colours[:2])
    law = np.zeros((3, 3))
    law[0], law[1] = (first + second) / 2, (second - first) / (2 * _REACH)
    if len(colours) == 3:
        # The middle moves towards the third colour by half of the way.
        law[2] = (np.array(colours[2]) - law[0]) / (2 * _REACH)
        law[0] += (np.array(colours[2]) - law[0]) / 2
    return law


@cached_jit()
def power(whole: int, exponent: float) -> float:
    """Returns whole^exponent, for whole numbers from 1 and exponents within -1..1."""
    # The logarithm: ln (m 2^e) = e ln 2 + 2 artanh t, with t = (m - 1) / (m + 1), for m in 1..2.
    m, e = float(whole), 0
    while m >= 2.0:
        m, e = m / 2.0, e + 1
    t = (m - 1.0) / (m + 1.0)
    total = 0.0
    for k in range(14, -1, -1):
        total = total * t * t + 1.0 / (2 * k + 1)
    return exponential(exponent * (e * 0.6931471805599453 + 2.0 * t * total))


@cached_jit()
def spectrum(
    key: np.uint64, size: int, slope: float, cosines: np.ndarray, sines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the amplitudes f^(-a/2) with random phases: real and imaginary parts, float64 (S, S).

    Frequency 0 has the amplitude 0. Word 65,536 y + x of the stream `key` gives the phase of the frequency
    (x, y), with negative numbers modulo 65,536."""
    real, imaginary = np.zeros((size, size)), np.zeros((size, size))
    half = size // 2
    for across in range(half + 1):
        for down in range(across + 1):
            if across == 0:
                continue
            amplitude = power(across * across + down * down, -slope / 4.0)
            # The same amplitude at up to eight places.
            for flip in range(8):
                x, y = (across, down) if flip < 4 else (down, across)
                x, y = (-x if flip & 1 else x), (-y if flip & 2 else y)
                # The highest frequency of an even side stands once, as a negative number.
                if 2 * max(x, y) >= size:
                    continue
                counter = np.uint64((y & 65535) << 16 | x & 65535)
                phase = np.int64(word(key, counter) >> np.uint64(52))
                real[y, x] = amplitude * cosines[phase]
                imaginary[y, x] = amplitude * sines[phase]
    return real, imaginary


@cached_jit()
def transform(
    real: np.ndarray, imaginary: np.ndarray, cosines: np.ndarray, sines: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inverse discrete Fourier transform of every column, without the factor 1 / N: two float64
    (N, W). Changes its input.

    Stockham's algorithm, by the prime factors r of N. Each pass joins r rows; `stride` is the product of
    earlier factors. Cosines and sines are those of N angles."""
    count = real.shape[0]
    to_real, to_imaginary = np.empty_like(real), np.empty_like(imaginary)
    length, stride = count, 1
    while length > 1:
        # The least prime factor.
        r = 2
        while length % r:
            r += 1
        m = length // r
        for p in range(m):
            for q in range(stride):
                for k in range(r):
                    row = q + stride * (r * p + k)
                    out_real, out_imaginary = to_real[row], to_imaginary[row]
                    out_real[:] = 0.0
                    out_imaginary[:] = 0.0
                    for j in range(r):
                        root = (p + m * j) * k * stride % count
                        c, s = cosines[root], sines[root]
                        in_real = real[q + stride * (p + m * j)]
                        in_imaginary = imaginary[q + stride * (p + m * j)]
                        for w in range(out_real.size):
                            out_real[w] += in_real[w] * c - in_imaginary[w] * s
                            out_imaginary[w] += in_real[w] * s + in_imaginary[w] * c
        length, stride = m, stride * r
        real, to_real = to_real, real
        imaginary, to_imaginary = to_imaginary, imaginary
    return real, imaginary


@cached_jit()
def mix(first: np.ndarray, second: np.ndarray, law: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixels that two fields (S, S) mix, uint8 (S, S, 3), and where the first is positive: bool
    (S, S). `law` has the rows middle, line 1, line 2. Levels are cut at 0 and 255."""
    # Standard deviations. A field of one pixel has none.
    size = first.shape[0]
    squares = other_squares = 0.0
    for row in range(size):
        for column in range(size):
            squares += first[row, column] * first[row, column]
            other_squares += second[row, column] * second[row, column]
    scale = size / np.sqrt(squares) if squares > 0 else 0.0
    other_scale = size / np.sqrt(other_squares) if other_squares > 0 else 0.0

    # Pixels.
    pixels, beyond = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.bool_)
    for row in range(size):
        for column in range(size):
            u, v = first[row, column] * scale, second[row, column] * other_scale
            beyond[row, column] = u > 0
            for channel in range(3):
                level = law[0, channel] + u * law[1, channel] + v * law[2, channel]
                pixels[row, column, channel] = np.uint8(min(max(level, 0.0), 255.0) + 0.5)
    return pixels, beyond
