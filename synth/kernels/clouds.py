"""Clouds by the diamond-square rule (Fournier, Fussell, Carpenter: Computer rendering of stochastic models,
CACM 1982). They are the backgrounds of the fractals of Anderson & Farrell (WACV 2022).

Level k of n puts a point in the middle of every square, then one on every edge (the outer edges wrap round).
Its height is the mean of its four neighbours plus a displacement uniform on (-m, m), m = exp(decay (1 - k)) /
2. Corners are uniform on [0, 1). Heights are integers, 65,536 to the unit. Displacements have 16 bits. The
clouds are the same everywhere.

Axes: G = 2^n + 1 points a side, S pixels a side, H = G - 1 of the level before.
"""

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.trigonometry import exponential
from synth.seeds import word

UNIT = 65536  # of height


@cached_jit()
def heights(key: np.uint64, size: int, decay: float) -> np.ndarray:
    """Returns the cloud of a stream: int32 (G, G), the smallest grid with S or more steps a side."""
    # Corners.
    grid, counter = np.empty((2, 2), np.int32), 4
    for i in range(4):
        grid[i // 2, i % 2] = np.int32(word(key, np.uint64(i)) >> np.uint64(48))

    # Levels, each with smaller displacements.
    most, shrink = UNIT / 2.0, exponential(-decay)
    while grid.shape[0] <= size:
        grid, counter = _refine(grid, np.int32(most), key, counter)
        most *= shrink
    return grid


@cached_jit()
def _refine(coarse: np.ndarray, most: np.int32, key: np.uint64, counter: int) -> tuple[np.ndarray, int]:
    """Returns the next level, int32 (H + 1, H + 1) -> (2 H + 1, 2 H + 1), and the counter of the first unused
    word."""
    steps = coarse.shape[0] - 1
    middles, fine = np.empty((steps, steps), np.int32), np.empty((2 * steps + 1, 2 * steps + 1), np.int32)
    noise = _noise(key, counter, 3 * steps + 1, steps // 4 + 1, most)

    # The diamond step: the middles of the squares.
    for r in range(steps):
        above, below, push = coarse[r], coarse[r + 1], noise[r]
        for c in range(steps):
            total = np.int32(above[c] + above[c + 1] + below[c] + below[c + 1])
            middles[r, c] = (total >> np.int32(2)) + push[c]

    # The square step, on rows of old points: an edge point between each two.
    for r in range(steps + 1):
        old, push, row = coarse[r], noise[steps + r], fine[2 * r]
        above, below = middles[r - 1], middles[r % steps]
        for c in range(steps):
            row[2 * c] = old[c]
            row[2 * c + 1] = (np.int32(old[c] + old[c + 1] + above[c] + below[c]) >> np.int32(2)) + push[c]
        row[2 * steps] = old[steps]

    # The square step, on rows of middles: edge points at their ends and between them.
    for r in range(steps):
        above, below, push = coarse[r], coarse[r + 1], noise[2 * steps + 1 + r]
        middle, row = middles[r], fine[2 * r + 1]
        row[0] = ((above[0] + below[0] + middle[steps - 1] + middle[0]) >> 2) + push[0]
        for c in range(steps - 1):
            row[2 * c + 1] = middle[c]
            total = np.int32(above[c + 1] + below[c + 1] + middle[c] + middle[c + 1])
            row[2 * c + 2] = (total >> np.int32(2)) + push[c + 1]
        row[2 * steps - 1] = middle[steps - 1]
        row[2 * steps] = ((above[steps] + below[steps] + middle[steps - 1] + middle[0]) >> 2) + push[steps]
    return fine, counter + noise.size // 4


@cached_jit()
def _noise(key: np.uint64, counter: int, rows: int, words: int, most: np.int32) -> np.ndarray:
    """Draws displacements in -most..most, from `words` words a row: int32 (rows, 4 words)."""
    bits = np.empty(rows * words, np.uint64)
    for i in range(bits.size):
        bits[i] = word(key, np.uint64(counter + i))
    numbers, noise = bits.view(np.uint16), np.empty(4 * bits.size, np.int32)
    for i in range(noise.size):
        noise[i] = np.int32((np.int32(numbers[i]) - np.int32(32768)) * most) >> np.int32(15)
    return noise.reshape(rows, 4 * words)
