"""Sine and cosine in turns, and the exponential, with the same bits on every machine.

The C library's and NumPy's sines differ in their last bits between CPUs. These use additions and
multiplications only, in a fixed order, without fused operations. The error is below 1e-13. One turn is 2 pi.
"""

import math

import numpy as np

from synth.compilation import cached_jit

# sin(2 pi t) = sum of (-1)^k (2 pi)^(2k+1) / (2k+1)! t^(2k+1), to k = 9, which is enough for a quarter turn.
_POWERS = [1.0]
for _ in range(19):
    _POWERS.append(_POWERS[-1] * 6.283185307179586)
_SERIES = np.array([(-1) ** k * _POWERS[2 * k + 1] / math.factorial(2 * k + 1) for k in range(10)])


@cached_jit()
def sine(turns: float) -> float:
    """Returns sin(2 pi turns), float64."""
    # The angle within a quarter turn of 0.
    t = turns - np.floor(turns + 0.5)  # within half a turn
    if t > 0.25:
        t = 0.5 - t
    elif t < -0.25:
        t = -0.5 - t

    # The series, by Horner's rule.
    square, total = t * t, 0.0
    for k in range(9, -1, -1):
        total = total * square + _SERIES[k]
    return total * t


@cached_jit()
def exponential(x: float) -> float:
    """Returns e^x, float64, for x from -16 to 16."""
    # The series at x / 1024, which is within 1/64.
    t, total = x / 1024.0, 1.0
    for k in range(7, 0, -1):
        total = 1.0 + t * total / k

    # Its power of 1024, by ten squarings.
    for _ in range(10):
        total *= total
    return total


@cached_jit()
def circle(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and sines of the angles 2 pi v / steps, v = 0..steps-1: two float64 arrays (steps,)."""
    cosines, sines = np.empty(steps), np.empty(steps)
    for v in range(steps):
        sines[v] = sine(v / steps)
        cosines[v] = sine(v / steps + 0.25)
    return cosines, sines
