"""FractalDB (Kataoka et al., Pre-training without Natural Images, ACCV 2020): the original grey fractals, by
the published law.

A class is a random system of 2 to 7 maps with coefficients uniform on [-1, 1]. A search ends with the first
system that fills enough: 100,000 points of it, in single pixels, fill a fifth of a 512 x 512 picture. A
picture of the class scales one of the six coefficients of all maps by one of four factors, or by none (25
geometries). It keeps the probabilities of the class. It stretches the points to the frame inside a margin.
Each point pastes a random 3 x 3 patch, in which empty cells erase. The picture may be turned upside down and
mirrored.

In the published program, a class's 1,000 pictures are all combinations of 25 factors, 10 patch draws and 4
flips. Here each picture draws its own, so that it is a function of its index. There, all classes share one
sequence of choices. Here each class has its own, so that its 25 geometries stay 25. Candidates with diverging
points are rejected (there, the last finite points are dropped). The transient of the start, the origin, is
not drawn. The search gives up a candidate early if a quarter of its points fill less than 0.9 quarters of the
required cells. Newer points fall ever more often on old ones.

Axes: P points, S side of a picture. Cells count from the upper left of a frame of two pixels round the
picture.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from synth import settings
from synth.class_tables import Table, limit
from synth.compilation import cached_jit
from synth.images.pictures import Picture, UnfitError
from synth.kernels import ifs
from synth.seeds import Stream, word

LAW = 1  # raised when the golden pixels change

_SIDE = 362  # side of the picture that points and margin refer to
_SEARCH_SIDE, _SEARCH_POINTS, _PILOT = 512, 100_000, 0.9
_LEAST_FILL = 0.005  # of a picture; slowly diverging points fill less, and more points make it clearer
_GREY = 127


@dataclass(frozen=True)
class Config:
    """The law's ranges, both ends included for integers."""

    classes: int = 1000
    table: Table | None = None  # classes from CSV files instead of searched ones
    maps: tuple[int, int] = (2, 7)  # N
    fill: float = 0.2  # that a class must reach
    points: int = 200_000  # on 362 x 362 pixels; as many a pixel at other sizes
    margin: float = 6.0  # pixels of 362
    weight: float = 0.4  # factors are 1 - 2 w, 1 - w, 1 + w, 1 + 2 w

    def __post_init__(self) -> None:
        settings.require_within(self, 1, 10**9, "classes")
        settings.require_within(self, 1, 16, "maps")
        settings.require_within(self, 1, 10**7, "points")
        if not 0 <= self.fill <= 0.3:
            raise ValueError(f"fill is {self.fill}; it must lie in 0..0.3, as hardly any system fills more")
        if not 0 <= self.margin < _SIDE / 2:
            raise ValueError(f"margin is {self.margin}; it must lie in 0..{_SIDE // 2 - 1}")
        limit(self)

    @property
    def channels(self) -> int:
        """The channels of the pictures: grey."""
        return 1


@dataclass(frozen=True)
class Params:
    """Everything that a picture is drawn from."""

    maps: tuple[ifs.Row, ...]  # with the factor in them
    coefficient: str  # that was scaled in all maps: one of a..f, or none
    factor: float
    point_key: int
    patch_key: int
    points: int
    margin: float
    flip: int  # 2 upside down, 4 mirrored, 6 both
    redraws: int = 0


def sample_class(config: Config, stream: Stream) -> tuple[ifs.Row, ...]:
    """Returns the system of a class, from the table or by the search."""
    if config.table:
        return config.table.systems[stream.path[0]]
    return _search(stream.key(), *config.maps, config.fill)


def sample_instance(config: Config, system: tuple[ifs.Row, ...], stream: Stream) -> Params:
    """Returns the Params of a picture of a class."""
    # One of 25 geometries: six coefficients times four factors, and the unchanged system.
    scaled, times = stream.integer(0, 24), (-2, -1, 1, 2)
    column, factor = (None, 1.0) if scaled == 24 else (scaled // 4, 1 + times[scaled % 4] * config.weight)
    rows = tuple(tuple(x * factor if i == column else x for i, x in enumerate(row)) for row in system)

    # The points follow the class's stream, so that its pictures share the sequence of choices.
    point_key = stream.at(stream.path[0]).key()
    flip = 2 * stream.integer(0, 3)
    name = "none" if column is None else "abcdef"[column]
    return Params(rows, name, factor, point_key, stream.key(), config.points, config.margin, flip)


def render(params: Params, size: int) -> Picture:
    """Draws a picture: pixels uint8 (size, size, 1), 0 or 127. Raises UnfitError if the points diverge or
    fill too little."""
    # As many points a pixel at every size.
    count = max(1, round(params.points * (size / _SIDE) ** 2))
    points = ifs.points(ifs.array(params.maps), start=(0.0, 0.0), key=params.point_key, count=count)
    cells = place(points, _spans(points), size, params.margin * size / _SIDE)

    # Patches. The frame of two pixels takes those beyond the edge.
    framed = paste(cells, np.uint64(params.patch_key), size)
    pixels = np.ascontiguousarray(ifs.turned(framed[2:-2, 2:-2], params.flip))
    foreground = pixels > 0
    if foreground.mean() < _LEAST_FILL:
        raise UnfitError("its points are scattered too far to be seen")
    return Picture(pixels[..., None], foreground)


@lru_cache(maxsize=1 << 14)
def _search(key: int, fewest: int, most: int, fill: float) -> tuple[ifs.Row, ...]:
    """Returns the first system of a stream that fills enough."""
    stream = Stream(key)
    while True:
        system = candidate(np.uint64(stream.key()), stream.integer(fewest, most))
        if accepts(system, stream.key(), fill):
            return ifs.rows(system)


@cached_jit()
def candidate(key: np.uint64, count: int) -> np.ndarray:
    """Draws a system of `count` maps with coefficients uniform on [-1, 1): float64 (N, 7)."""
    system = np.empty((count, 7))
    for k in range(count):
        for i in range(6):
            system[k, i] = np.float64(word(key, np.uint64(6 * k + i)) >> np.uint64(11)) * 2.0**-52 - 1.0
    ifs.weigh(system)
    return system


def accepts(system: np.ndarray, key: int, fill: float) -> bool:
    """Returns True if the points of a system fill the share `fill` of the search's picture."""
    target = fill * _SEARCH_SIDE**2  # cells
    # A pilot with a quarter of the points gives up most candidates early.
    for part, share in ((4, _PILOT / 4), (1, 1.0)):
        points = ifs.points(system, start=(0.0, 0.0), key=key, count=_SEARCH_POINTS // part)
        try:
            cells = place(points, _spans(points), _SEARCH_SIDE, 6.0)
        except UnfitError:
            return False
        if filled(cells, _SEARCH_SIDE) < share * target:
            return False
    return True


def _spans(points: ifs.Points) -> np.ndarray:
    """Returns the least coordinate and the extent by axis, (2, 2). An extent of 0 counts as 1. Raises
    UnfitError if points diverge."""
    spans = [(low, high - low or 1.0) for low, high in ifs.bounds(points).tolist()]
    if not all(map(math.isfinite, (number for span in spans for number in span))):
        raise UnfitError("its points diverge")
    return np.array(spans)


@cached_jit()
def place(points: ifs.Points, spans: np.ndarray, size: int, margin: float) -> np.ndarray:
    """Returns the cell of each point, x to the right and y down, stretched to the frame inside the margin:
    int32 (P,)."""
    # Scale and offset of each axis. The 2 is the frame's.
    cells = np.empty(points[0].size, np.int32)
    room = size - 2.0 * margin
    right, down = np.float32(room / spans[0, 1]), np.float32(room / spans[1, 1])
    left = np.float32(margin + 2.0 - spans[0, 0] * room / spans[0, 1])
    top = np.float32(margin + 2.0 - spans[1, 0] * room / spans[1, 1])

    # Cells, clamped to the picture: rounding may put a point of the edge beyond it.
    least, most = np.float32(2.0), np.float32(size + 1.5)
    for i in range(cells.size):
        column = min(max(points[0][i] * right + left, least), most)
        row = min(max(points[1][i] * down + top, least), most)
        cells[i] = np.int32(row) * np.int32(size + 4) + np.int32(column)
    return cells


@cached_jit()
def filled(cells: np.ndarray, size: int) -> int:
    """Counts the different cells."""
    lit = np.zeros((size + 4) * (size + 4), np.uint8)
    for i in range(cells.size):
        lit[np.uint32(cells[i])] = 1
    total = 0
    for i in range(lit.size):
        total += lit[i]
    return total


@cached_jit()
def paste(cells: np.ndarray, key: np.uint64, size: int) -> np.ndarray:
    """Pastes a patch of nine bits, uniform on 1..511, round each cell in turn: uint8 (S + 4, S + 4)."""
    side = size + 4
    pixels = np.zeros(side * side, np.uint8)
    for i in range(cells.size):
        # A word gives the patches of four points, 16 bits each.
        bits = (word(key, np.uint64(i >> 2)) >> np.uint64(16 * (i & 3))) & np.uint64(0xFFFF)
        patch = np.uint64(1) + ((bits * np.uint64(511)) >> np.uint64(16))
        # A cell of the patch lights its pixel or erases it.
        for k in range(9):
            place = cells[i] + (k // 3 - 1) * side + k % 3 - 1
            pixels[place] = _GREY if (patch >> np.uint64(k)) & np.uint64(1) else 0
    return pixels.reshape(side, side)
