"""Improved FractalDB (Anderson & Farrell, Improving Fractal Pre-training, WACV 2022): coloured IFS fractals
on coloured clouds. The settings are the published defaults, and the ablations of the seed paper.

A picture is a class's system with one map jittered. A random window shows 100,000 points of its chaos game.
One random 3 x 3 stencil, turned and mirrored, spreads every point. The colour runs round the wheel with the
density of points. Clouds of two colours are the background. Half of the pictures are blurred. The ablations
draw the same numbers as `fractals`, so they form a chain over the index:

    without_color       colour=grey       the finished picture's luma, one channel
    without_background  backdrop=black    the same foreground on black, then the same blur
    corrupted_contour   lines=100         the picture without background, then black lines after the blur

This law also defines the cases that the published program leaves open. Random numbers come from the index
(there the kernel's generator is not seeded). The hue byte wraps by a modulo (there a float beyond 255 is
converted). A picture that shows no points is drawn again from the next numbers of its stream, and `redraws`
counts these draws. A stencil is never empty (there both give an empty picture). The chaos game is played by
parallel orbits, which leave the fixed point of the first map before their points count. The seed paper does
not state the law of its lines. Here middles, directions and lengths are uniform, and lines may leave the
frame.

Axes: N maps, S side of a picture. Lengths are shares of the picture's side, or, for the window, of the
fractal's extent.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np

from synth import settings
from synth.class_tables import Table, limit
from synth.compilation import cached_jit
from synth.images.pictures import Picture, UnfitError
from synth.kernels import clouds, colour, ifs
from synth.kernels.lines import draw_lines, scatter
from synth.seeds import Stream

LAW = 1  # raised when the golden pixels change

_LEAST_SEEN = 0.01  # share of points that the window must show
_BOUNDS: dict[str, tuple[float, float]] = {
    "classes": (1, 10**9),
    "maps": (1, 16),
    "points": (1, 10**7),
    "zoom": (0.001, 1000),
    "saturation": (0, 1),
    "value": (0, 1),
    "blur": (0, 1),  # a share of pictures
    "sigma": (0.001, 1000),
    "lines": (0, 10**6),
    "line_width": (0, 1),
    "line_length": (0, 100),
    "figures": (1, 1000),  # of fractal_scenes
}
_KINDS = {"colour": ("rgb", "grey"), "backdrop": ("clouds", "black"), "hue_mode": tuple(colour.HUE_MODES)}


@dataclass(frozen=True)
class Config:
    """The law's ranges, both ends included for integers."""

    classes: int = 1000
    table: Table | None = None  # classes from CSV files instead of random ones
    maps: tuple[int, int] = (2, 4)  # N
    points: int = 100_000
    jitter: tuple[float, float] = (0.8, 1.1)  # factor of all six numbers of one map
    shift: tuple[float, float] = (-0.2, 0.2)  # of the window's middle, each axis
    zoom: tuple[float, float] = (0.5, 2.0)  # the window's width, each axis
    colour: str = "rgb"  # or grey
    hue_mode: str = "byte-wrap"  # or uniform
    saturation: tuple[float, float] = (0.3, 1.0)
    value: tuple[float, float] = (0.5, 1.0)
    backdrop: str = "clouds"  # or black
    blur: float = 0.5  # share of pictures
    sigma: tuple[float, float] = (0.5, 1.0)  # of the blur, in pixels
    lines: int = 0
    line_width: float = 1 / 256
    line_length: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        check(self)

    @property
    def channels(self) -> int:
        """The channels of the pictures: 1 grey or 3 RGB."""
        return 1 if self.colour == "grey" else 3


@dataclass(frozen=True)
class FractalView:
    """One fractal as it is seen, without its place."""

    maps: tuple[ifs.Row, ...]
    points: int
    point_key: int
    shift: tuple[float, float]  # rows, columns
    zoom: tuple[float, float]
    orientation: int  # bit 0 transposed, then bit 1 upside down, bit 2 mirrored
    stencil: int  # nine bits, row by row
    hue: float  # of the rarest points, in bytes
    saturation: float
    value: float
    hue_mode: str


@dataclass(frozen=True)
class Params(FractalView):
    """Everything that a picture is drawn from."""

    clouds: tuple[float, ...]  # decay, then gain and offset of hue, saturation, value; empty on black
    cloud_key: int
    sigma: float  # 0: no blur
    colour: str
    lines: int
    line_width: float
    line_length: tuple[float, float]
    line_key: int
    redraws: int = 0


def check(config: Any) -> None:
    """Raises ValueError if a setting of this family, or of its scenes, is not allowed. Limits the classes to
    those of the table."""
    # Names.
    for name, allowed in _KINDS.items():
        if getattr(config, name, allowed[0]) not in allowed:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be {' or '.join(allowed)}")

    # Ranges.
    for name, bounds in _BOUNDS.items():
        if hasattr(config, name):
            settings.require_within(config, *bounds, name)

    limit(config)


def sample_class(config: Any, stream: Stream) -> tuple[ifs.Row, ...]:
    """Returns the system of a class, from the table or at random."""
    if config.table:
        return config.table.systems[stream.path[0]]
    return random_system(stream.integer(*config.maps), stream.key())


@lru_cache(maxsize=1 << 14)
def random_system(count: int, key: int) -> tuple[ifs.Row, ...]:
    """Draws a system of `count` maps with alpha in the published interval."""
    return ifs.rows(ifs.sample(np.uint64(key), count, (5 + count) / 2, (6 + count) / 2))


def sample_instance(config: Config, system: tuple[ifs.Row, ...], stream: Stream) -> Params:
    """Returns the Params of a picture of a class. All data sets of the chain draw the same numbers."""
    # All numbers are drawn in any case, whether or not the picture uses them.
    figure = sample_figure(config, system, stream)
    cloud_law, cloud_key = sample_clouds(stream)
    sigma = sample_sigma(config, stream)
    return Params(
        **vars(figure),
        clouds=cloud_law if config.backdrop == "clouds" else (),
        cloud_key=cloud_key,
        sigma=sigma,
        colour=config.colour,
        lines=config.lines,
        line_width=config.line_width,
        line_length=config.line_length,
        line_key=stream.key(),
    )


def sample_figure(config: Any, system: tuple[ifs.Row, ...], stream: Stream) -> FractalView:
    """Draws a fractal of a class: its jitter, window, turn and colours."""
    # Python evaluates arguments in their order, which is the order of the stream's numbers.
    return FractalView(
        maps=jittered(system, config.jitter, stream),
        points=config.points,
        point_key=stream.key(),
        shift=(stream.uniform(*config.shift), stream.uniform(*config.shift)),
        zoom=(stream.uniform(*config.zoom), stream.uniform(*config.zoom)),
        orientation=stream.integer(0, 7),
        stencil=stream.integer(1, 511),
        hue=stream.uniform(0, 255),
        saturation=255 * stream.uniform(*config.saturation),
        value=255 * stream.uniform(*config.value),
        hue_mode=config.hue_mode,
    )


def jittered(
    system: tuple[ifs.Row, ...], factors: tuple[float, float], stream: Stream
) -> tuple[ifs.Row, ...]:
    """Returns a system with all six numbers of one map scaled, and its probability scaled with its
    determinant. Returns the system unchanged if four tries give a map that stretches beyond 1."""
    for _ in range(4):
        k, factor = stream.integer(0, len(system) - 1), stream.uniform(*factors)
        *numbers, p = system[k]
        # The determinant has two factors, and p is proportional to it.
        scaled = (*(factor * number for number in numbers), factor * factor * p)
        if ifs.largest_stretch(*scaled[:4]) <= 1:
            return (*system[:k], scaled, *system[k + 1 :])
    return system


def sample_clouds(stream: Stream) -> tuple[tuple[float, ...], int]:
    """Draws the law of a background (decay, then gain and offset of hue, saturation and value, in bytes) and
    its key."""
    # The published ranges.
    decay = stream.uniform(0.4, 0.8)
    hue = (255 * stream.uniform(0.25, 1), 255 * stream.uniform(0, 1))
    saturation = (255 * stream.uniform(0.1, 0.3), 255 * stream.uniform(0.4, 0.6))
    value = (255 * stream.uniform(0.3, 0.6), 255 * stream.uniform(0.4, 0.6))
    return (decay, *hue, *saturation, *value), stream.key()


def sample_sigma(config: Any, stream: Stream) -> float:
    """Draws the blur of a picture, 0 for none."""
    # Both numbers are drawn in any case, so that the stream goes on at the same word.
    sigma = stream.uniform(*config.sigma)
    return sigma if stream.uniform(0, 1) < config.blur else 0.0


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 1 or 3). Raises UnfitError if the picture shows too few
    points of the fractal."""
    # Fractal on its background. The density comes first, as it may refuse the picture.
    counts = density(params, size)
    canvas = backdrop(params.clouds, params.cloud_key, params.hue_mode, size)
    foreground = paint(params, counts, canvas)

    # Blur and lines.
    if params.sigma:
        canvas = colour.blur(canvas, params.sigma)
    if params.lines:
        lines = scatter(np.uint64(params.line_key), params.lines, *params.line_length)
        draw_lines(lines * size, max(1, round(params.line_width * size)), canvas, foreground)

    return Picture(colour.grey(canvas) if params.colour == "grey" else colour.rgb(canvas), foreground)


def density(figure: FractalView, size: int) -> np.ndarray:
    """Counts the points at each pixel, spread by the stencil: uint32 (S, S). Raises UnfitError if there are
    too few."""
    # The chaos game.
    system = ifs.array(figure.maps)
    points = ifs.points(system, start=ifs.fixed_point(system[0]), key=figure.point_key, count=figure.points)

    # The points in the window, and their stencil.
    window = view(ifs.bounds(points), figure.shift, figure.zoom)
    counts = ifs.histogram(points, window, size, ifs.strides(figure.orientation, size))
    lit, seen = spread(counts, stencil(figure.stencil, figure.orientation))
    if seen < _LEAST_SEEN * figure.points:
        raise UnfitError("its window shows no part of the fractal")
    return lit


@cache
def stencil(bits: int, orientation: int) -> np.ndarray:
    """Returns the stencil of nine bits, turned with its picture: uint8 (3, 3), read-only by convention."""
    cells = np.array([bits >> k & 1 for k in range(9)], np.uint8).reshape(3, 3)
    return np.ascontiguousarray(ifs.turned(cells, orientation))


def view(bounds: np.ndarray, shift: tuple[float, float], zoom: tuple[float, float]) -> np.ndarray:
    """Returns the window of a picture: (2, 2), least coordinate and width by axis. An extent of 0 counts as
    1. Raises UnfitError if the points diverge."""
    # The middle is shifted by a share of the extent, and the extent scaled by the zoom.
    window = np.empty((2, 2))
    for axis, (low, high) in enumerate(bounds.tolist()):
        if not math.isfinite(high - low):
            raise UnfitError("its points diverge")
        span = high - low or 1.0
        width = span * zoom[axis]
        window[axis] = (low + high) / 2 + span * shift[axis] - width / 2, width
    return window


@cached_jit()
def spread(counts: np.ndarray, stencil: np.ndarray) -> tuple[np.ndarray, int]:
    """Adds one to the cells of the stencil round every point: counts (S + 4, S + 4) -> uint32 (S, S). Also
    returns the number of points within the picture."""
    size, seen = counts.shape[0] - 4, np.uint32(0)
    out = np.zeros((size, size), np.uint32)
    for i in range(size):
        # Points within this row of the picture.
        row, within = out[i], counts[i + 2, 2:-2]
        for j in range(size):
            seen = np.uint32(seen + within[j])

        # A convolution with the mirrored stencil: each cell adds a shifted row.
        for down in range(3):
            for across in range(3):
                if stencil[down, across]:
                    source = counts[i + 3 - down]
                    for j in range(size):
                        row[j] += source[j + 3 - across]
    return out, int(seen)


def backdrop(law: tuple[float, ...], key: int, hue_mode: str, size: int) -> np.ndarray:
    """Draws the background of fractals: uint32 (S, S), black if the law is empty."""
    if not law:
        return np.zeros((size, size), np.uint32)
    heights = clouds.heights(np.uint64(key), size, law[0])
    return colour.paint_heights(heights, size, np.array(law[1:]).reshape(3, 2), colour.HUE_MODES[hue_mode])


def paint(figure: FractalView, counts: np.ndarray, canvas: np.ndarray) -> np.ndarray:
    """Paints the lit pixels of counts (S, S) over a canvas (S, S) in the figure's colours. Returns the mask
    of lit pixels."""
    palette = colour.hues(int(figure.saturation), int(figure.value), colour.HUE_MODES[figure.hue_mode])
    return colour.paint_counts(counts, figure.hue, palette, canvas)
