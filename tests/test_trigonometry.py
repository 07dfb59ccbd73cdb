import math

import numpy as np

from synth.kernels.trigonometry import circle, sine


def test_sine_agrees_with_the_library() -> None:
    turns = np.linspace(-3, 3, 10001)
    # Most of the difference comes from the library's argument, 2 pi t.
    assert max(abs(sine(t) - math.sin(2 * math.pi * t)) for t in turns) < 2e-14


def test_quarter_turns_are_exact_enough() -> None:
    assert sine(0.0) == 0.0
    assert abs(sine(0.25) - 1) < 1e-13 and abs(sine(0.75) + 1) < 1e-13


def test_bits_never_change() -> None:
    golden = ["0x1.2cf2304755a5ep-1", "0x1.e6f0e134454ffp-1", "0x1.e6f0e134454ffp-1"]
    assert [sine(t).hex() for t in (0.1, 0.2, 0.3)] == golden


def test_circle_lies_on_the_circle() -> None:
    cosines, sines = circle(997)
    assert np.abs(cosines**2 + sines**2 - 1).max() < 1e-13
    assert np.abs(cosines.sum()) < 1e-10 and np.abs(sines.sum()) < 1e-10
