import warnings
from typing import Any

import numpy as np
import pytest

from caption.lean_imports import import_torchvision
from evaluate.distances.kernels import _mmd2, cmmd, kid
from synth.errors import UserError

random = np.random.default_rng


def expected(c: float, v: float, d: int) -> float:
    """Returns E (s / d + 1)^3 for a sum s of many products with mean c and variance v.

    E s^3 = c^3 + 3 c v + 6 c."""
    return (c**3 + 3 * c * v + 6 * c) / d**3 + 3 * (c**2 + v) / d**2 + 3 * c / d + 1


@pytest.mark.parametrize(("d", "shift"), [(16, 0.5), pytest.param(64, 0.3, marks=pytest.mark.slow)])
def test_kid_of_gaussians_is_its_closed_form(d: int, shift: float) -> None:
    def inner(m1: np.ndarray, m2: np.ndarray) -> float:  # x.y of N(m1, I) and N(m2, I)
        return expected(float(m1 @ m2), float(m1 @ m1 + m2 @ m2 + d), d)

    zero, step = np.zeros(d), np.full(d, 2 * shift)
    truth = inner(step, step) + inner(zero, zero) - 2 * inner(step, zero)
    distance = kid(random(0).normal(size=(8000, d)) + step, random(1).normal(size=(8000, d)), subsets=60)
    assert abs(distance.value - truth) < 4 * distance.error
    assert distance.error < 0.05 * truth


def test_kid_of_one_distribution_is_zero_within_its_error() -> None:
    distances = [
        kid(random((2, s)).normal(size=(600, 32)), random((3, s)).normal(size=(600, 32)), subsets=30)
        for s in range(12)
    ]
    assert abs(np.mean([f.value for f in distances])) < 3 * np.mean([f.error for f in distances]) / np.sqrt(
        12
    )


@pytest.mark.slow
def test_the_standard_error_is_that_of_repeated_experiments() -> None:
    distances = [
        kid(random((4, s)).normal(size=(400, 8)) + 0.5, random((5, s)).normal(size=(500, 8)), subsets=40)
        for s in range(80)
    ]
    assert np.mean([f.error for f in distances]) == pytest.approx(
        np.std([f.value for f in distances]), rel=0.3
    )


def test_a_set_is_below_zero_from_itself_by_its_equal_pairs() -> None:
    a = random(12).normal(size=(50, 4))
    k = (a @ a.T / 4 + 1) ** 3
    equal, others = k.trace() / 50, (k.sum() - k.trace()) / (50 * 49)
    distance = kid(a, a, subsets=4000)
    assert distance.value == pytest.approx(
        -2 * (equal - others) / 50, rel=0.1
    )  # an unbiased estimate takes the sets for independent


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_fidelity_finds_the_same_kid(dtype: Any) -> None:
    import_torchvision()
    import torch
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = (random(6).gamma(shape, size=(400, 32)).astype(dtype) for shape in (1.0, 1.3))
    terms = {"kid_subsets": 10, "kid_subset_size": 150, "rng_seed": 2020, "verbose": False}
    known = kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **terms)
    ours = kid(a, b, subsets=10, subset_size=150)
    assert ours.value == pytest.approx(
        known["kernel_inception_distance_mean"], rel=1e-9 if dtype is np.float64 else 2e-5
    )


def test_clean_fid_finds_the_same_kid() -> None:
    pytest.importorskip("scipy", reason="clean-fid needs SciPy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fid = pytest.importorskip("cleanfid.fid", reason="clean-fid is not installed")
    a, b = random(7).gamma(1.0, size=(150, 32)), random(8).gamma(1.3, size=(150, 32))
    assert _mmd2(a, b) == pytest.approx(
        fid.kernel_distance(b, a, num_subsets=1), rel=1e-9
    )  # one subset of all


@pytest.mark.slow
def test_cmmd_of_gaussians_is_its_closed_form() -> None:
    d, sigma2, m1, v1, v2 = 24, 100.0, np.full(24, 1.5), 1.0, 2.0

    def kernel(step: np.ndarray, va: float, vb: float) -> float:
        below = sigma2 + va + vb
        return (sigma2 / below) ** (d / 2) * np.exp(-(step @ step) / (2 * below))

    truth = 1000 * (kernel(0 * m1, v1, v1) + kernel(0 * m1, v2, v2) - 2 * kernel(m1, v1, v2))
    distance = cmmd(random(9).normal(size=(4000, d)) + m1, np.sqrt(v2) * random(10).normal(size=(4000, d)))
    assert distance == pytest.approx(truth, rel=0.02)


def test_a_set_has_no_cmmd_from_itself() -> None:
    a = random(11).normal(size=(300, 16)).astype(np.float32)
    assert cmmd(a, a) == pytest.approx(0, abs=1e-9)


def test_too_few_pictures_and_features_that_are_no_numbers_get_a_sentence() -> None:
    with pytest.raises(UserError, match="at least 4 pictures of each set, not 3"):
        kid(np.ones((3, 2)), np.ones((9, 2)))
    with pytest.raises(UserError, match="picture 0 are not finite"):
        kid(np.full((9, 2), np.inf), np.ones((9, 2)))
