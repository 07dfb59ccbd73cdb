from functools import reduce
from typing import Any

import numpy as np
import pytest

from evaluate.distances.moments import Gathering, Moments, moments_of
from synth.errors import UserError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_do_not_depend_on_split_and_order(dtype: Any) -> None:
    random = np.random.default_rng(0)
    features = (random.normal(size=(5000, 24)) * np.geomspace(0.1, 10, 24) + 3).astype(dtype)
    whole = moments_of(features)
    scale = np.sqrt(np.outer(whole.scatter.diagonal(), whole.scatter.diagonal()))
    for _ in range(5):
        cuts = np.sort(random.choice(np.arange(2, 4999, 2), 7, replace=False))
        pieces = [moments_of(piece) for piece in np.split(features, cuts)]
        merged = reduce(Moments.merged, (pieces[i] for i in random.permutation(len(pieces))))
        assert merged.count == whole.count
        assert np.abs(merged.mean / whole.mean - 1).max() < 1e-12
        assert np.abs((merged.scatter - whole.scatter) / scale).max() < 1e-12


def test_a_stream_of_single_rows_has_the_moments_of_the_matrix() -> None:
    features = np.random.default_rng(1).normal(size=(300, 8))
    gathering = Gathering()
    for row in features:
        gathering.add(row[None])
    moments = gathering.moments()
    np.testing.assert_allclose(moments.mean, features.mean(axis=0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(features, rowvar=False), rtol=0, atol=1e-13)


def test_a_far_mean_costs_no_digits() -> None:
    features = np.random.default_rng(2).normal(size=(9000, 4))
    far = moments_of(features + 1e6).covariance
    np.testing.assert_allclose(
        far, np.cov(features, rowvar=False), rtol=0, atol=1e-8
    )  # a sum of squares would leave 1e-4


def test_what_has_no_moments_gets_a_sentence() -> None:
    features = np.zeros((4, 3), np.float32)
    features[2, 1] = np.nan
    with pytest.raises(UserError, match="features of picture 2 are not finite"):
        moments_of(features)
    with pytest.raises(UserError, match="at least two"):
        moments_of(features[:1])
