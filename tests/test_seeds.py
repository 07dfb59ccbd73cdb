import itertools

import numpy as np

from synth.seeds import GOLDEN, Stream, stream, word


def test_words_are_splitmix64() -> None:
    published = [
        *(6457827717110365317, 3203168211198807973, 9817491932198370423),
        *(4593380528125082431, 16408922859458223821),
    ]
    numbers = Stream((1234567 + GOLDEN) % 2**64)  # the reference adds its increment before the first word
    assert [numbers.word() for _ in published] == published


def test_kernels_read_the_same_stream() -> None:
    numbers = Stream(987654321)
    words = [int(word(np.uint64(987654321), np.uint64(i))) for i in range(100)]
    assert words == [numbers.word() for _ in range(100)]


def test_streams_of_different_paths_differ() -> None:
    paths = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (11,), (1, 1)]
    firsts = [stream(seed, name, *path).word() for seed in (0, 1) for name in ("a", "b") for path in paths]
    assert len(set(firsts)) == len(firsts)


def test_a_stream_never_changes() -> None:
    assert stream(0, "visual_atoms", 12, 3).word() == 17829493815325614025


def test_uniform_numbers_have_the_moments_of_the_uniform_law() -> None:
    numbers = stream(1, "moments")
    sample = np.array([numbers.uniform(2, 6) for _ in range(20000)])
    assert abs(sample.mean() - 4) < 4 * (4 / 12**0.5) / 20000**0.5
    assert abs(sample.std() - 4 / 12**0.5) < 0.02
    assert sample.min() >= 2 and sample.max() < 6


def test_integers_reach_both_ends_equally_often() -> None:
    numbers = stream(1, "integers")
    counts = np.bincount([numbers.integer(0, 4) for _ in range(20000)], minlength=5)
    assert len(counts) == 5
    assert ((counts - 4000) ** 2 / 4000).sum() < 18.5  # chi squared with 4 degrees of freedom: 0.1 %


def test_neighbouring_streams_are_uncorrelated() -> None:
    columns = np.array([[stream(0, "x", i, j).uniform(0, 1) for i in range(4000)] for j in range(3)])
    for a, b in itertools.combinations(range(3), 2):
        assert abs(np.corrcoef(columns[a], columns[b])[0, 1]) < 4 / 4000**0.5
