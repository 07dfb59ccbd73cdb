"""DOOR. Random streams: the only source of randomness.

Every random number of a picture is word i of a counter stream with the key (seed, name, class, instance). A
word is a pure function of key and counter. So any number of workers can draw pictures in any order, and
kernels can read a stream from the middle. The mixing function is SplitMix64 (Steele, Lea, Flood: Fast
Splittable Pseudorandom Number Generators, OOPSLA 2014). Keys come from BLAKE2b. Neither depends on a
library's version, unlike NumPy's Generator methods, which may change.
"""

import hashlib

import numpy as np

from synth.compilation import cached_jit

GOLDEN = 0x9E3779B97F4A7C15  # SplitMix64's increment: 2^64 divided by the golden ratio, made odd
_MASK = (1 << 64) - 1


class Stream:
    """A stream of random numbers in plain Python, for the few parameters of a picture."""

    def __init__(self, key: int, origin: tuple[int, str] = (0, ""), path: tuple[int, ...] = ()) -> None:
        self._key, self._counter = key, 0
        self._origin, self.path = origin, path  # path: (class) or (class, instance)

    def word(self) -> int:
        """Returns the next 64 random bits."""
        # SplitMix64: the counter times the increment, then its mixing function.
        z = (self._key + self._counter * GOLDEN) & _MASK
        self._counter += 1
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def uniform(self, low: float, high: float) -> float:
        """Returns a float64 uniform on [low, high), with 53 random bits."""
        # The order of operations is part of every law: another one changes last bits.
        return low + (high - low) * ((self.word() >> 11) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """Returns an integer uniform on low..high, both ends included. The bias is below 2^-40 for ranges of
        24 bits."""
        # The high half of the product, without rejection: each integer takes exactly one word.
        return low + ((self.word() * (high - low + 1)) >> 64)

    def at(self, *path: int) -> "Stream":
        """Returns the stream of another class or picture under the same seed and name."""
        return stream(*self._origin, *path)

    def key(self) -> int:
        """Returns a 53-bit key for a kernel's own stream. It is small enough to survive any JSON reader."""
        return self.word() >> 11


def stream(seed: int, name: str, *path: int) -> Stream:
    """Returns the stream of a data set (no path), of one of its classes (class) or of a picture (class,
    instance)."""
    label = "/".join([str(seed), name, *map(str, path)])
    key = int.from_bytes(hashlib.blake2b(label.encode(), digest_size=8).digest(), "little")
    return Stream(key, (seed, name), path)


@cached_jit(inline="always")
def word(key: np.uint64, counter: np.uint64) -> np.uint64:
    """Returns word number `counter` of the stream `key`, in kernels: Stream(key).word() after `counter`
    earlier calls. All uint64."""
    z = key + counter * np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
