"""Scenes of several fractals: the multi-instance pictures of Improved FractalDB (Anderson & Farrell, WACV
2022, their best task).

One to five fractals of any classes cover clouds of two colours. Each is drawn at half the picture's side and
coloured. It is then resized bilinearly to 0.15 to 0.6 of the side. Its middle is anywhere inside the picture.
The picture's class is that of the first fractal. The parameters list all fractals, with the boxes of their
squares. In the paper, many pictures share 512 rendered fractals and backgrounds. Here each picture draws its
own, so that a picture is a function of its index.

Figures are resized against black. A resized pixel that is not black covers the canvas, so figures get dark
outlines (edges=dark, as published). edges=clean weights by coverage instead.

Axes: S side of the picture, H side of a figure before it is resized, K side after.
"""

from dataclasses import dataclass

import numpy as np

from synth import settings
from synth.class_tables import Table
from synth.compilation import cached_jit
from synth.families import fractals
from synth.families.fractals import FractalView
from synth.images.pictures import Picture, UnfitError
from synth.kernels import colour, ifs
from synth.seeds import Stream

LAW = 1  # raised when the golden pixels change

_EDGES = ("dark", "clean")


@dataclass(frozen=True)
class Config:
    """The law's ranges, both ends included for integers."""

    classes: int = 1000
    table: Table | None = None  # classes from CSV files instead of random ones
    maps: tuple[int, int] = (2, 4)  # N
    points: int = 100_000
    figures: tuple[int, int] = (1, 5)  # in a picture
    side: tuple[float, float] = (0.15, 0.6)  # of a figure's square, in sides of the picture
    edges: str = "dark"  # or clean
    jitter: tuple[float, float] = (1.0, 1.0)  # factor of all six numbers of one map
    shift: tuple[float, float] = (-0.2, 0.2)  # of a figure's window
    zoom: tuple[float, float] = (0.5, 2.0)
    hue_mode: str = "byte-wrap"  # or uniform
    saturation: tuple[float, float] = (0.3, 1.0)
    value: tuple[float, float] = (0.5, 1.0)
    blur: float = 0.5  # share of pictures
    sigma: tuple[float, float] = (0.5, 1.0)  # of the blur, in pixels

    def __post_init__(self) -> None:
        fractals.check(self)
        if self.edges not in _EDGES:
            raise ValueError(f"edges is {self.edges}; it must be {' or '.join(_EDGES)}")
        settings.require_within(self, 0.001, 10, "side")

    @property
    def channels(self) -> int:
        """The channels of the pictures: RGB."""
        return 3


@dataclass(frozen=True)
class Placed(FractalView):
    """A fractal with its square in the picture. The square may reach beyond the picture."""

    number: int  # of its class
    box: tuple[float, float, float, float]  # left, top, right, bottom, in sides of the picture


@dataclass(frozen=True)
class Params:
    """Everything that a picture is drawn from."""

    figures: tuple[Placed, ...]  # later ones cover earlier ones
    edges: str
    clouds: tuple[float, ...]
    cloud_key: int
    hue_mode: str
    sigma: float  # 0: no blur
    redraws: int = 0


def sample_class(config: Config, stream: Stream) -> tuple[ifs.Row, ...]:
    """Returns the system of a class, the same as for `fractals`."""
    return fractals.sample_class(config, stream)


def sample_instance(config: Config, system: tuple[ifs.Row, ...], stream: Stream) -> Params:
    """Returns the Params of a picture of a class. The first figure has its system, the others have systems of
    random classes."""
    # Figures. Another class's system comes from its own stream, so that it is the same in every picture.
    count = stream.integer(*config.figures)
    figures = [_placed(config, stream.path[0], system, stream)]
    for _ in range(1, count):
        number = stream.integer(0, config.classes - 1)
        figures.append(_placed(config, number, fractals.sample_class(config, stream.at(number)), stream))

    # Background and blur.
    clouds, cloud_key = fractals.sample_clouds(stream)
    sigma = fractals.sample_sigma(config, stream)
    return Params(tuple(figures), config.edges, clouds, cloud_key, config.hue_mode, sigma)


def _placed(config: Config, number: int, system: tuple[ifs.Row, ...], stream: Stream) -> Placed:
    figure = fractals.sample_figure(config, system, stream)
    side = stream.uniform(*config.side)
    left, top = stream.uniform(-side / 2, 1 - side / 2), stream.uniform(-side / 2, 1 - side / 2)
    return Placed(**vars(figure), number=number, box=(left, top, left + side, top + side))


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 3). The foreground is the area that figures cover. Raises
    UnfitError if no figure is inside."""
    canvas = fractals.backdrop(params.clouds, params.cloud_key, params.hue_mode, size)
    foreground = np.zeros((size, size), np.bool_)
    for figure in params.figures:
        # The figure at half the picture's side.
        half = max(1, size // 2)
        drawn = np.zeros((half, half), np.uint32)
        lit = fractals.paint(figure, fractals.density(figure, half), drawn)

        # Its place, in whole pixels.
        left, top, right, _ = figure.box
        side = max(1, round((right - left) * size))
        place = np.array([round(left * size), round(top * size), side])
        put = put_dark if params.edges == "dark" else put_clean
        put(drawn, lit, place, canvas, foreground)

    # Finish. The foreground keeps sharp edges.
    if not foreground.any():
        raise UnfitError("its figures lie outside the picture")
    if params.sigma:
        canvas = colour.blur(canvas, params.sigma)
    return Picture(colour.rgb(canvas), foreground)


@cached_jit()
def put_dark(
    drawn: np.ndarray, lit: np.ndarray, place: np.ndarray, canvas: np.ndarray, foreground: np.ndarray
) -> None:
    """Puts a figure, uint32 (H, H), on a canvas (S, S) at place (left, top, K). Pixels that are not black
    after resizing cover the canvas."""
    left, top, side = place
    for row in range(max(0, top), min(canvas.shape[0], top + side)):
        for column in range(max(0, left), min(canvas.shape[1], left + side)):
            resized, _ = _mix(drawn, lit, (row - top + 0.5) / side, (column - left + 0.5) / side)
            if resized & np.uint32(0xFFFFFF):
                canvas[row, column], foreground[row, column] = resized, True


@cached_jit()
def put_clean(
    drawn: np.ndarray, lit: np.ndarray, place: np.ndarray, canvas: np.ndarray, foreground: np.ndarray
) -> None:
    """Puts a figure on a canvas as put_dark does, but mixes it with the canvas by its coverage."""
    left, top, side = place
    for row in range(max(0, top), min(canvas.shape[0], top + side)):
        for column in range(max(0, left), min(canvas.shape[1], left + side)):
            resized, cover = _mix(drawn, lit, (row - top + 0.5) / side, (column - left + 0.5) / side)
            if cover > 0:
                # The resized colour is already multiplied by its coverage, as it is mixed with black.
                behind, mixed = canvas[row, column], np.uint32(0)
                for shift in (np.uint32(0), np.uint32(8), np.uint32(16)):
                    back = ((behind >> shift) & np.uint32(255)) * (1.0 - cover)
                    level = ((resized >> shift) & np.uint32(255)) + back
                    mixed |= np.uint32(np.int32(min(255.0, level + 0.5))) << shift
                canvas[row, column] = mixed
                foreground[row, column] |= cover >= 0.5


@cached_jit()
def _mix(drawn: np.ndarray, lit: np.ndarray, down: float, across: float) -> tuple[np.uint32, float]:
    """Returns the bilinear colour of a figure (H, H) against black at a point given in sides, and the share
    of it that is lit."""
    # The place among pixel centres, clamped to the outermost.
    last = drawn.shape[0] - 1
    y = min(max(down * (last + 1) - 0.5, 0.0), float(last))
    x = min(max(across * (last + 1) - 0.5, 0.0), float(last))
    top, left = int(y), int(x)

    # Weighted sums over the four pixels round it.
    red = green = blue = cover = 0.0
    for i in range(2):
        for j in range(2):
            row, column = min(top + i, last), min(left + j, last)
            weight = (y - top if i else 1.0 - (y - top)) * (x - left if j else 1.0 - (x - left))
            packed = drawn[row, column]
            red += weight * (packed & np.uint32(255))
            green += weight * ((packed >> np.uint32(8)) & np.uint32(255))
            blue += weight * ((packed >> np.uint32(16)) & np.uint32(255))
            cover += weight if lit[row, column] else 0.0
    mixed = np.int32(red + 0.5) | np.int32(green + 0.5) << np.int32(8) | np.int32(blue + 0.5) << np.int32(16)
    return np.uint32(mixed), cover
