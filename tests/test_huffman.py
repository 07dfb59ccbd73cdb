import zlib

import numpy as np
import pytest

from synth.images import huffman

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 63, 64, 65, 257, 1000, 65792])
@pytest.mark.parametrize("levels", [1, 2, 3, 17, 256])
def test_every_inflater_gets_the_data_back(size: int, levels: int) -> None:
    data = RNG.integers(0, levels, size).astype(np.uint8)
    assert zlib.decompress(huffman.compress(data)) == data.tobytes()


def test_skewed_data_takes_no_more_than_its_entropy_and_a_little() -> None:
    data = RNG.geometric(0.1, 100_000).clip(max=255).astype(np.uint8)
    shares = np.bincount(data) / data.size
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    assert data.size * entropy / 8 < len(huffman.compress(data)) < data.size * (entropy + 0.06) / 8 + 200


def test_codes_are_as_short_as_huffmans() -> None:
    lengths = huffman.code_lengths(np.array([45, 13, 12, 16, 9, 5]), 15)
    assert lengths.tolist() == [1, 3, 3, 3, 4, 4]


def test_codes_longer_than_allowed_are_shortened_and_stay_a_code() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 24:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = huffman.code_lengths(np.array(fibonacci), 15)
    assert lengths.max() <= 15 and sum(2.0**-bits for bits in lengths) <= 1
    data = np.repeat(np.arange(24), fibonacci).astype(np.uint8)
    RNG.shuffle(data)
    assert zlib.decompress(huffman.compress(data)) == data.tobytes()
