"""Visual Atoms: contours of superposed sine waves (Takashima et al., Visual Atoms: Pre-training Vision
Transformers with Sinusoidal Waves, CVPR 2023), by the published law of VisualAtom-1k.

An atom is a ring of V vertices at the angles theta_v = 2 pi v / V, started on an ellipse and pushed outwards
L times:

    x_v = r ox cos theta_v + cx
    x_v += cos theta_v (c (1 - P) + w + sin(n1 theta_v)/2 + sin(n2 theta_v)/2)    for every orbit

and the same for y with sin theta_v and oy. After each push the closed polygon is drawn with 1-pixel lines in
one grey level, 0 (which erases) included. P is the paper's 1-D Perlin noise at a fresh random position for
every orbit, vertex and axis. So only its marginal distribution matters, and this code draws from that, by
4,096 quantiles.

Lengths are pixels of a 512 canvas. A picture is drawn on the smallest multiple of its size that has at least
`canvas` pixels a side, then box-averaged. Floats are single precision, in a fixed order. There are no library
sines and no fused operations, so pixels are the same everywhere.

Axes: V vertices, S side of the canvas. L counts orbits.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from synth import settings
from synth.compilation import cached_jit
from synth.images.pictures import Picture, box_average
from synth.kernels.trigonometry import circle
from synth.seeds import Stream, word

LAW = 1  # raised when the golden pixels change
UNIT = 512  # side of the canvas for the paper's lengths, in pixels

# Gradient index (low four bits) of the 256 lattice points of Perlin's reference permutation (Improving Noise,
# SIGGRAPH 2002), one hex digit each.
_LATTICE = (
    "709baf3d9f052971c47e5e83505a7e6478ab0a5eecbb53b09118d587e4d8b84f"
    "a576b0b6d2e73f5ac356c9c97e5846f619f118091c4b092984724cf644d6da30"
    "492acb5a636ef254feb3f0a16dcaf7a57882ca36d95b7bc9167d32cef1082908"
    "a614b221e20cf321131b9efb106f57ad84c0392df46eacdde23d883d03e27dc4"
)

_REACH = 5000  # pixels of the 512 canvas, from the centre
_BOUNDS: dict[str, tuple[float, float]] = {
    "classes": (1, 10**9),
    "canvas": (1, 4096),
    "vertices": (3, 100_000),
    "orbits": (0, _REACH),
    "noise": (0, 100),
    "spacing": (0, 100),
    "radius": (0, _REACH),
    "frequency": (0, 100_000),
    "stretch": (0, 100),
}


@dataclass(frozen=True)
class Config:
    """The law's ranges, both ends included for integers."""

    classes: int = 1000
    canvas: int = 512  # pixels a side that lines are drawn on, before averaging down
    vertices: tuple[int, int] = (200, 1000)  # V
    orbits: tuple[int, int] = (1, 200)  # L
    noise: tuple[float, float] = (0.0, 4.0)  # c
    spacing: tuple[float, float] = (0.0, 0.1)  # w
    radius: tuple[int, int] = (10, 60)  # r
    frequency: tuple[int, int] = (0, 20)  # n1, n2
    stretch: tuple[float, float] = (1.0, 2.0)  # ox, oy

    def __post_init__(self) -> None:
        # Each setting by itself.
        for name, bounds in _BOUNDS.items():
            settings.require_within(self, *bounds, name)

        # All together: the ellipse, and the longest push of every orbit, as P is at least -1.
        reach = self.radius[1] * self.stretch[1] + self.orbits[1] * (2 * self.noise[1] + self.spacing[1] + 1)
        if reach > _REACH:
            limit = f"at most {_REACH:,} can be drawn"
            raise ValueError(f"these ranges reach {reach:,.0f} pixels from the centre; {limit}")

    @property
    def channels(self) -> int:
        """The channels of the pictures: grey."""
        return 1


@dataclass(frozen=True)
class Class:
    """The parameters that all pictures of a class share."""

    vertices: int
    orbits: int
    noise: float
    spacing: float
    radius: int
    frequencies: tuple[int, int]
    stretch: tuple[float, float]


@dataclass(frozen=True)
class Params(Class):
    """Everything that a picture is drawn from."""

    centre: tuple[float, float]
    noise_key: int
    canvas: int


def sample_class(config: Config, stream: Stream) -> Class:
    """Draws a class of the law. Both frequencies are drawn again while they are equal and not zero."""
    vertices, orbits = stream.integer(*config.vertices), stream.integer(*config.orbits)
    noise, spacing = stream.uniform(*config.noise), stream.uniform(*config.spacing)
    radius = stream.integer(*config.radius)

    # Frequencies.
    first, second = stream.integer(*config.frequency), stream.integer(*config.frequency)
    while first == second != 0 and config.frequency[0] != config.frequency[1]:
        first, second = stream.integer(*config.frequency), stream.integer(*config.frequency)

    stretch = (stream.uniform(*config.stretch), stream.uniform(*config.stretch))
    return Class(vertices, orbits, noise, spacing, radius, (first, second), stretch)


def sample_instance(config: Config, atom: Class, stream: Stream) -> Params:
    """Returns the Params of a picture of a class. They add the centre, uniform over the canvas in half
    pixels, and the key of noise and grey levels."""
    centre = (stream.integer(0, 2 * UNIT) / 2, stream.integer(0, 2 * UNIT) / 2)
    return Params(**vars(atom), centre=centre, noise_key=stream.key(), canvas=config.canvas)


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 1). The foreground is the lit pixels."""
    canvas = size * -(-params.canvas // size)
    noise = np.float32(params.noise) * perlin_quantiles()
    drawn = draw_orbits(ring(params), noise, params.orbits, np.uint64(params.noise_key), canvas)
    pixels = box_average(drawn, size)
    return Picture(pixels[..., None], pixels > 0)


def ring(params: Params) -> np.ndarray:
    """Returns the starting ellipse and its pushes: float32 (5, V), in pixels of the 512 canvas. The rows are
    x, y, cos theta, sin theta and the push without noise."""
    # The angles' sines. sin(n theta_v) is again a sine of the ring: that of vertex n v mod V.
    count = params.vertices
    cosines, sines = circle(count)
    turns = np.arange(count)
    first, second = (sines[turns * n % count] for n in params.frequencies)

    # The ellipse, and the push without its noise -c P.
    x = params.radius * params.stretch[0] * cosines + params.centre[0]
    y = params.radius * params.stretch[1] * sines + params.centre[1]
    push = params.noise + params.spacing + 0.5 * first + 0.5 * second
    return np.stack([x, y, cosines, sines, push]).astype(np.float32)


@cache
def perlin_quantiles() -> np.ndarray:
    """Returns 4,096 equally likely values of the published noise: float32 (4096,), ascending.

    P = 0.4 ((1 - u) g_i f + u g_{i+1} (f - 1)) at lattice point i and fraction f, with the fade u = f^3 (f (6
    f - 15) + 10). Gradients g are -1 for half of the indices and 1..8 for the rest. P is taken over 256
    fractions at each of the 256 points."""
    # Gradients of the lattice points.
    index = np.array([int(digit, 16) for digit in _LATTICE])
    gradient = np.where(index & 8, -1, (index & 7) + 1).astype(float)

    # The noise at 65,536 places, and the middle of every 16 in their order.
    fraction = (np.arange(256)[:, None] + 0.5) / 256
    fade = fraction * fraction * fraction * (fraction * (6 * fraction - 15) + 10)
    noise = 0.4 * ((1 - fade) * gradient * fraction + fade * np.roll(gradient, -1) * (fraction - 1))
    return np.sort(noise.ravel()).reshape(4096, 16)[:, 8].astype(np.float32)


@cached_jit()
def draw_orbits(ring: np.ndarray, noise: np.ndarray, orbits: int, key: np.uint64, canvas: int) -> np.ndarray:
    """Pushes the ring `orbits` times and draws it each time: uint8 (S, S). Words 0..L-1 of the stream `key`
    are the grey levels, the next L V the noise. `noise` (4096,) float32 holds its quantiles times c. Changes
    `ring`."""
    count = ring.shape[1]
    pixels = np.zeros((canvas, canvas), np.uint8)
    columns, rows = np.empty(count, np.int32), np.empty(count, np.int32)
    for orbit in range(orbits):
        push(ring, noise, key, orbits + orbit * count, np.float32(canvas / UNIT), columns, rows)
        draw_polygon(pixels, columns, rows, np.uint8(word(key, np.uint64(orbit)) >> np.uint64(56)))
    return pixels


@cached_jit()
def push(
    ring: np.ndarray,
    noise: np.ndarray,
    key: np.uint64,
    first: int,
    scale: np.float32,
    columns: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Moves the ring by one orbit. Writes its pixel coordinates, truncated towards zero, to columns and rows
    (V,) int32."""
    x, y, cosines, sines, steady = ring
    for v in range(columns.size):
        # A word gives both axes their quantiles of the noise, 12 bits each.
        bits = word(key, np.uint64(first) + np.uint64(v))
        x[v] += cosines[v] * (steady[v] - noise[np.int64(bits >> np.uint64(52))])
        y[v] += sines[v] * (steady[v] - noise[np.int64((bits >> np.uint64(40)) & np.uint64(4095))])
        columns[v] = np.int32(x[v] * scale)
        rows[v] = np.int32(y[v] * scale)


@cached_jit()
def draw_polygon(pixels: np.ndarray, columns: np.ndarray, rows: np.ndarray, grey: np.uint8) -> None:
    """Draws a closed polygon of 1-pixel lines, cut at the frame: pixels uint8 (S, S), columns and rows int32
    (V,).

    Every line is Bresenham's from its first end up to, not including, its second: the rule of Pillow's
    ImageDraw.line. The minor coordinate after i steps of n is floor(i m / n + 1/2). It is kept as a 32.32
    fixed-point sum with the slope rounded up, which is exact for lines shorter than 46,340 pixels."""
    side, flat = pixels.shape[0], pixels.reshape(-1)
    x0, y0 = columns[-1], rows[-1]
    for v in range(columns.size):
        # Longer and shorter extent of the line, and the steps along them in the flat picture.
        x1, y1 = columns[v], rows[v]
        wide, high = abs(x1 - x0), abs(y1 - y0)
        step_x, step_y = (1 if x1 >= x0 else -1), (side if y1 >= y0 else -side)
        steep = high >= wide
        length, rise = (high, wide) if steep else (wide, high)
        along, across = (step_y, step_x) if steep else (step_x, step_y)

        # A line that misses the frame on one side is skipped; one that may cross it is drawn pixel by pixel.
        missed = max(x0, x1) < 0 or max(y0, y1) < 0 or min(x0, x1) >= side or min(y0, y1) >= side
        inside = min(x0, x1) >= 0 and min(y0, y1) >= 0 and max(x0, x1) < side and max(y0, y1) < side
        if length > 0 and not missed:
            # Fixed point: 2^32 is one pixel, and the sum starts at a half for rounding.
            slope = np.int64(np.float64(rise) * 4294967296.0 / np.float64(length)) + 1
            climbed, place = np.int64(1) << 31, np.int64(y0) * side + x0

            # Within the frame the place moves by steps; otherwise every pixel is checked.
            if inside:
                for _ in range(length):
                    flat[place + (climbed >> 32) * across] = grey
                    place += along
                    climbed += slope
            else:
                for i in range(length):
                    minor = climbed >> 32
                    x = x0 + (minor if steep else i) * (1 if x1 >= x0 else -1)
                    y = y0 + (i if steep else minor) * (1 if y1 >= y0 else -1)
                    if 0 <= x < side and 0 <= y < side:
                        flat[y * side + x] = grey
                    climbed += slope
        x0, y0 = x1, y1
