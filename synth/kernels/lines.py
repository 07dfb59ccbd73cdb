"""Black straight lines that cut a figure: the corrupted contours of the seed paper.

Axes: Q lines, S side of a picture.
"""

import numpy as np

from synth.compilation import cached_jit
from synth.kernels.trigonometry import sine
from synth.seeds import word


@cached_jit()
def scatter(key: np.uint64, count: int, shortest: float, longest: float) -> np.ndarray:
    """Draws lines in a square of side 1, with middle, direction and length uniform: float64 (Q, 4). A row
    holds the middle's place down and across, and the line's extent down and across. Four words of the stream
    make a line."""
    lines = np.empty((count, 4))
    for i in range(count):
        # Middle (two numbers), length and direction.
        u = [np.float64(word(key, np.uint64(4 * i + k)) >> np.uint64(11)) * 2.0**-53 for k in range(4)]
        length = shortest + (longest - shortest) * u[2]
        lines[i] = u[0], u[1], length * sine(u[3]), length * sine(u[3] + 0.25)
    return lines


@cached_jit()
def draw_lines(lines: np.ndarray, width: int, canvas: np.ndarray, foreground: np.ndarray) -> None:
    """Draws lines (Q, 4), in pixels, in black over a canvas uint32 (S, S), and takes them out of the
    foreground. A line has one stretch of `width` pixels in every row that it meets. A line flatter than a
    diagonal has one in every column."""
    size = canvas.shape[0]
    for down, across, high, wide in lines:
        # The long axis of the line, and the slope of the short one.
        steep = abs(high) > abs(wide)
        if steep:
            along, aside, slope = down, across, wide / high
        else:
            along, aside, slope = across, down, high / wide if wide != 0.0 else 0.0

        # A stretch at each step, from end to end round the middle.
        steps = np.int64(max(abs(high), abs(wide)) + 0.5)
        for i in range(steps):
            offset = i - (steps - 1) / 2.0
            major = np.int64(np.floor(along + offset))
            minor = np.int64(np.floor(aside + slope * offset - (width - 1) / 2.0))
            for side in range(minor, minor + width):
                row, column = (major, side) if steep else (side, major)
                if 0 <= row < size and 0 <= column < size:
                    canvas[row, column] = 0
                    foreground[row, column] = False
