"""Iterated function systems: drawn at random, iterated by the chaos game, counted on a grid.

A system is float64 (N, 7), a row a map: a, b, c, d, e, f, p for x' = a x + b y + e, y' = c x + d y + f, taken
with probability p. Systems are sampled as by Anderson & Farrell (Improving Fractal Pre-training, WACV 2022).
Linear parts come from singular values. Their weighted sum alpha = sum of (s1 + 2 s2) is in a chosen interval,
which gives neither dust nor a smear.

The chaos game is played by 128 parallel orbits, so that a processor's vector units work on all of them. Every
orbit's point goes through all N maps, and the chosen result is kept. All orbits start at the same place.
Their first 32 steps, in which they part, are not counted. Arithmetic is single precision in a fixed order
without fused operations, so points are the same everywhere. Probabilities are rounded to 16 bits.

Axes: N maps, L orbits, P points, S side of a picture.
"""

from functools import cache, lru_cache

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.trigonometry import sine
from synth.seeds import word

Row = tuple[float, ...]  # a, b, c, d, e, f, p
Points = tuple[np.ndarray, np.ndarray]  # x and y, float32 (P,) each

_ORBITS = 128  # L; a word gives the choices of four
_SETTLING = 32  # steps of each that are not counted
_BLOCK = 512  # points in one pass over cells
_SIGN, _MAGNITUDE = np.int32(31), np.int32(0x7FFFFFFF)


def array(rows: tuple[Row, ...]) -> np.ndarray:
    """Returns rows as the array that kernels take: float64 (N, 7)."""
    return np.array(rows, np.float64)


def rows(system: np.ndarray) -> tuple[Row, ...]:
    """Returns the rows of a system (N, 7) as plain numbers."""
    return tuple(map(tuple, system.tolist()))


def points(system: np.ndarray, *, start: tuple[float, float], key: int, count: int) -> Points:
    """Returns `count` points of the chaos game. The next call reuses their memory."""
    x, y = _memory(-(-count // _ORBITS))
    _iterate(system, np.float32(start[0]), np.float32(start[1]), np.uint64(key), x, y)
    return x.reshape(-1)[:count], y.reshape(-1)[:count]


@lru_cache(maxsize=4)
def _memory(steps: int) -> Points:
    """Returns room for the points of all orbits. A new allocation for each game would cost as much as the
    game."""
    return np.empty((steps, _ORBITS), np.float32), np.empty((steps, _ORBITS), np.float32)


@cached_jit()
def sample(key: np.uint64, count: int, low: float, high: float) -> np.ndarray:
    """Draws a random system of `count` maps with alpha uniform on [low, high): float64 (N, 7). Draws words
    0.. of `key`.

    Linear parts are U diag(s1, s2) V. U and V are rotations by any angle, each with two random signs. b is
    uniform on [-1, 1]^2. p is proportional to |det|."""
    # Alpha and the singular values.
    system = np.empty((count, 7))
    alpha = low + (high - low) * _uniform(key, 0)
    values = singular_values(key, 1, count, alpha)

    # Maps: U diag(s1, s2) V and b.
    for k in range(count):
        first = 1 + 2 * count + 5 * k
        signs = word(key, np.uint64(first))
        left = rotation(_uniform(key, first + 1), signs)
        right = rotation(_uniform(key, first + 2), signs >> np.uint64(2))
        for i in range(2):
            for j in range(2):
                larger = left[i, 0] * values[k, 0] * right[0, j]
                smaller = left[i, 1] * values[k, 1] * right[1, j]
                system[k, 2 * i + j] = larger + smaller
            system[k, 4 + i] = 2.0 * _uniform(key, first + 3 + i) - 1.0
    weigh(system)
    return system


@cached_jit()
def singular_values(key: np.uint64, first: int, count: int, alpha: float) -> np.ndarray:
    """Draws singular values with sum of (s1 + 2 s2) = alpha and 1 >= s1 >= s2 >= 0: float64 (N, 2). Draws
    words `first`.. of the stream.

    The law is the published sequential one. p is the rest of alpha. q is the part of p beyond the capacity of
    the later maps."""
    # All maps except the last.
    values = np.empty((count, 2))
    p, q = alpha, alpha - 3.0 * count + 3.0
    for k in range(count - 1):
        low, high = max(0.0, q / 3.0), min(1.0, p)
        s1 = low + (high - low) * _uniform(key, first + 2 * k)
        p, q = p - s1, q - s1

        # The second value has the weight 2 in alpha, and is at most the first.
        low, high = max(0.0, q / 2.0), min(s1, p / 2.0)
        s2 = low + (high - low) * _uniform(key, first + 2 * k + 1)
        p, q = p - 2.0 * s2, q + 3.0 - 2.0 * s2
        values[k] = s1, s2

    # The last map takes the rest of alpha.
    low, high = max(0.0, (p - 1.0) / 2.0), p / 3.0
    s2 = low + (high - low) * _uniform(key, first + 2 * count - 2)
    values[count - 1] = p - 2.0 * s2, s2
    return values


@cached_jit()
def rotation(turns: float, signs: np.uint64) -> np.ndarray:
    """Returns a rotation by `turns` turns times diag(+-1, +-1): float64 (2, 2). The signs are the two lowest
    bits of `signs`."""
    # Bits 0 and 1 as +1 or -1.
    first = 1.0 - 2.0 * np.float64(signs & np.uint64(1))
    second = 1.0 - 2.0 * np.float64((signs >> np.uint64(1)) & np.uint64(1))
    cos, sin = sine(turns + 0.25), sine(turns)
    return np.array([[cos * first, -sin * second], [sin * first, cos * second]])


@cached_jit()
def weigh(system: np.ndarray) -> None:
    """Sets p of every map in proportion to |det|, or evenly if all determinants are zero."""
    total = 0.0
    for row in system:
        row[6] = abs(row[0] * row[3] - row[1] * row[2])
        total += row[6]
    for row in system:
        row[6] = row[6] / total if total > 0.0 else 1.0 / system.shape[0]


@cached_jit()
def fixed_point(row: np.ndarray) -> tuple[float, float]:
    """Returns the fixed point of a map (7,), or the origin if there is none or more than one."""
    # Cramer's rule for (I - A) x = b.
    a, b, c, d, e, f = row[0], row[1], row[2], row[3], row[4], row[5]
    det = (1.0 - a) * (1.0 - d) - b * c
    return ((e * (1.0 - d) + b * f) / det, (f * (1.0 - a) + c * e) / det) if det != 0.0 else (0.0, 0.0)


@cached_jit()
def largest_stretch(a: float, b: float, c: float, d: float) -> float:
    """Returns the larger singular value of the linear part of a map."""
    # s1^2 + s2^2 is the sum of squares, and s1 s2 is |det|.
    square = a * a + b * b + c * c + d * d
    det = a * d - b * c
    return np.sqrt(0.5 * (square + np.sqrt(max(0.0, square * square - 4.0 * det * det))))


@cached_jit()
def bounds(points: Points) -> np.ndarray:
    """Returns the box of points: float64 (2, 2), rows x and y, least and greatest. Entries are not finite if
    a point is not.

    Floats are compared as integers (negative ones with their magnitude turned over), which vector units do
    directly."""
    box = np.empty((2, 2))
    for axis in range(2):
        # The first bit is the sign. Turning over the others of negative floats gives the order of the floats.
        bits = points[axis].view(np.int32)
        low, high = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
        for i in range(bits.size):
            ordered = bits[i] ^ ((bits[i] >> _SIGN) & _MAGNITUDE)
            low, high = min(low, ordered), max(high, ordered)
        ends = np.array([low, high], np.int32)
        box[axis] = (ends ^ ((ends >> _SIGN) & _MAGNITUDE)).view(np.float32)
    return box


@cached_jit()
def histogram(points: Points, window: np.ndarray, size: int, strides: np.ndarray) -> np.ndarray:
    """Counts the points on each pixel: uint32 (S + 4, S + 4), the picture within an apron of one pixel within
    a ring.

    `window` (2, 2) holds, by axis, the least coordinate shown and the width. A point x is on row floor((x -
    least) (S - 1) / width). Columns follow from y in the same way. The apron holds points at most a pixel
    off, the ring all others. `strides` (3,) places row r and column c of the apron's frame at strides[0] + r
    strides[1] + c strides[2]. So turned and mirrored pictures cost nothing."""
    # Scale and offset of both axes. The 2 is the width of apron and ring.
    side, count = size + 4, points[0].size
    counts = np.zeros(side * side, np.uint32)
    scale = ((size - 1) / window[:, 1]).astype(np.float32)
    shift = (2.0 - window[:, 0] * ((size - 1) / window[:, 1])).astype(np.float32)

    # Cells of a block of points first, which vector units compute, then their counts.
    first, down, across = np.int32(strides[0]), np.int32(strides[1]), np.int32(strides[2])
    most = np.float32(side - 0.5)
    cells = np.empty(_BLOCK, np.int32)
    for start in range(0, count, _BLOCK):
        x, y = points[0][start : start + _BLOCK], points[1][start : start + _BLOCK]
        for i in range(x.size):
            row = np.int32(_within(x[i] * scale[0] + shift[0], most))
            column = np.int32(_within(y[i] * scale[1] + shift[1], most))
            cells[i] = first + row * down + column * across

        # One by one, as two points of a block may have the same cell.
        for i in range(x.size):
            counts[np.uint32(cells[i])] += np.uint32(1)
    return counts.reshape(side, side)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns pixels (S, S) transposed (bit 0), then turned upside down (bit 1) and mirrored (bit 2)."""
    pixels = pixels.T if orientation & 1 else pixels
    return pixels[:: -1 if orientation & 2 else 1, :: -1 if orientation & 4 else 1]


@cache
def strides(orientation: int, size: int) -> np.ndarray:
    """Returns the strides for a `turned` histogram: int64 (3,), read-only by convention."""
    side = size + 4
    down, across = (1, side) if orientation & 1 else (side, 1)

    # Strides that run backwards start at the other end.
    flipped = [axis for axis, bit in ((side, 2), (1, 4)) if orientation & bit]
    first = sum((side - 1) * axis for axis in flipped)
    return np.array([first, -down if down in flipped else down, -across if across in flipped else across])


@cached_jit()
def _iterate(
    system: np.ndarray,
    start_x: np.float32,
    start_y: np.float32,
    key: np.uint64,
    xs: np.ndarray,
    ys: np.ndarray,
) -> None:
    """Plays the chaos game into xs and ys, float32 (steps, L). Maps are taken in pairs. An odd last map is
    paired with one that is never chosen."""
    # Maps and the thresholds of their choice.
    count = system.shape[0]
    # The odd map's threshold is beyond every choice.
    maps, least = np.zeros((count + count % 2, 7), np.float32), np.full(count + count % 2, 65536, np.int32)
    maps[:count], least[:count] = system, _thresholds(system[:, 6])

    # Orbits.
    words = np.empty(_ORBITS // 4, np.uint64)
    choices = words.view(np.uint16)
    x, y = np.full(_ORBITS, start_x), np.full(_ORBITS, start_y)
    next_x, next_y = np.empty_like(x), np.empty_like(y)
    for step in range(-_SETTLING, xs.shape[0]):
        # Choices, 16 bits each.
        for i in range(words.size):
            words[i] = word(key, np.uint64((step + _SETTLING) * words.size + i))

        # Each point through all maps. The last map with a threshold up to the choice wins.
        for k in range(0, maps.shape[0], 2):
            a0, b0, c0, d0, e0, f0, _ = maps[k]
            a1, b1, c1, d1, e1, f1, _ = maps[k + 1]
            first, second = least[k], least[k + 1]
            for j in range(_ORBITS):
                u, v, choice, kept_x, kept_y = x[j], y[j], np.int32(choices[j]), next_x[j], next_y[j]
                x0, y0 = a0 * u + b0 * v + e0, c0 * u + d0 * v + f0
                x1, y1 = a1 * u + b1 * v + e1, c1 * u + d1 * v + f1
                kept_x, kept_y = (x0 if choice >= first else kept_x), (y0 if choice >= first else kept_y)
                next_x[j] = x1 if choice >= second else kept_x
                next_y[j] = y1 if choice >= second else kept_y

        # Points. Steps that are not counted write to row 0, which the first counted one overwrites.
        row = max(0, step)
        for j in range(_ORBITS):
            xs[row, j] = x[j] = next_x[j]
            ys[row, j] = y[j] = next_y[j]


@cached_jit()
def _thresholds(probabilities: np.ndarray) -> np.ndarray:
    """Returns the thresholds of maps: int32 (N,). 16-bit numbers from threshold k up to the next choose map
    k. Probabilities need not sum to one."""
    least, passed = np.empty(probabilities.size, np.int32), 0.0
    for k in range(probabilities.size):
        least[k] = np.int32(passed / probabilities.sum() * 65536.0 + 0.5)
        passed += probabilities[k]
    return least


@cached_jit(inline="always")
def _within(value: np.float32, most: np.float32) -> np.float32:
    value = value if value > np.float32(0.0) else np.float32(0.0)  # also NaN
    return value if value < most else most


@cached_jit(inline="always")
def _uniform(key: np.uint64, counter: int) -> float:
    """Returns word `counter` as a float64 uniform on [0, 1)."""
    return np.float64(word(key, np.uint64(counter)) >> np.uint64(11)) * 2.0**-53
