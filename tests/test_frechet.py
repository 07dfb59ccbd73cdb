import warnings
from collections.abc import Callable

import numpy as np
import pytest

from caption.lean_imports import import_torchvision
from evaluate.distances import frechet
from evaluate.distances.moments import Moments, moments_of
from synth.errors import UserError

random = np.random.default_rng


def gaussian(mean: np.ndarray, covariance: np.ndarray, count: int = 1000) -> Moments:
    """Moments of a set that has exactly this mean and covariance."""
    return Moments(count, mean, covariance * (count - 1))


def basis(dimensions: int, seed: int) -> np.ndarray:
    return np.linalg.qr(random(seed).normal(size=(dimensions, dimensions)))[0]


def symmetric_form(a: Moments, b: Moments) -> float:
    """The distance by the root of a symmetric matrix: a plain twin."""
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(values.clip(min=0)) @ vectors.T
    step = a.mean - b.mean
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)).sum()
    return float(step @ step + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)


@pytest.mark.parametrize("dimensions", [4, 64, 256])
def test_covariances_of_one_basis_have_a_closed_form(dimensions: int) -> None:
    q, (a, b) = basis(dimensions, 0), random(1).uniform(0.1, 3, size=(2, dimensions))
    step = random(2).normal(size=dimensions)
    distance = frechet.distance(gaussian(np.zeros(dimensions), q * a @ q.T), gaussian(step, q * b @ q.T))
    assert distance == pytest.approx(step @ step + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum(), abs=1e-8)


def test_equal_covariances_leave_the_squared_step_of_the_means() -> None:
    covariance = np.cov(random(3).normal(size=(500, 32)), rowvar=False)
    step = random(4).normal(size=32)
    distance = frechet.distance(gaussian(np.zeros(32), covariance), gaussian(step, covariance))
    assert distance == pytest.approx(step @ step, abs=1e-9)


@pytest.mark.parametrize("counts", [(200, 300), (20, 30), (20, 300)])  # above and below 40 dimensions
def test_scaling_squares_and_moving_both_changes_nothing(counts: tuple[int, int]) -> None:
    a, b = (random(n).normal(size=(n, 40)) * np.linspace(1, 2, 40) for n in counts)
    value, q = frechet.distance_of_features(a, b), basis(40, 5)
    assert frechet.distance_of_features(3 * a, 3 * b) == pytest.approx(9 * value, rel=1e-6)
    assert frechet.distance_of_features(a @ q + 7, b @ q + 7) == pytest.approx(value, rel=1e-6)
    assert frechet.distance_of_features(b, a) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("count", [20, 63, 64, 65, 500])  # around 64 dimensions
def test_a_set_has_no_distance_from_itself(count: int) -> None:
    a = random(6).normal(size=(count, 64)) + 1
    assert frechet.distance_of_features(a, a) == pytest.approx(0, abs=1e-5 if count >= 63 else 1e-9)


def test_singular_covariances_are_finite_and_not_below_zero() -> None:
    a, b = (
        random(7).normal(size=(10, 48)),
        np.outer(random(8).normal(size=30), np.ones(48)),
    )  # the second of rank one
    by_moments = frechet.distance(moments_of(a), moments_of(b))
    assert by_moments == pytest.approx(frechet.distance_of_features(a, b), rel=1e-5)
    assert frechet.distance_of_features(a, a) >= -1e-6
    assert frechet.distance(moments_of(a), moments_of(a)) >= -1e-5
    zero = frechet.distance(moments_of(np.ones((5, 4))), moments_of(np.ones((5, 4))))
    assert zero == 0


@pytest.mark.parametrize(("n", "m"), [(30, 50), (60, 59), (30, 400), (400, 30)])
def test_the_form_for_few_pictures_is_the_form_by_moments(n: int, m: int) -> None:
    a, b = random(9).gamma(1.0, size=(n, 64)), random(10).gamma(1.2, size=(m, 64))
    assert frechet.distance_of_features(a, b) == pytest.approx(
        symmetric_form(moments_of(a), moments_of(b)), rel=1e-6
    )


def test_two_samples_of_one_gaussian_are_as_far_apart_as_the_bias_law_says() -> None:
    d, n = 16, 2000  # (2 d + d (d + 1) / 2) / N
    values = [
        frechet.distance_of_features(random((s, 0)).normal(size=(n, d)), random((s, 1)).normal(size=(n, d)))
        for s in range(40)
    ]
    assert np.mean(values) == pytest.approx(
        (2 * d + d * (d + 1) / 2) / n, abs=4 * np.std(values) / np.sqrt(40)
    )


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_limit_takes_the_bias_away(step: float) -> None:
    d, n, repeats = 16, 2000, 8
    reference = random(11).normal(size=(40_000, d))  # as good as exact: it adds a twentieth of the bias
    sets = [random((12, s)).normal(size=(n, d)) + step for s in range(repeats)]
    plain, limits = (
        [f(one, reference) for one in sets] for f in (frechet.distance_of_features, frechet.limit)
    )
    bias, truth = (d + d * (d + 1) / 4) / n, d * step**2
    assert abs(np.mean(plain) - truth - bias) < 0.15 * bias + 4 * np.std(plain) / np.sqrt(repeats)
    assert abs(np.mean(limits) - truth) < 0.15 * bias + 4 * np.std(limits) / np.sqrt(repeats)
    if step == 0:
        assert abs(np.mean(limits)) < 0.25 * bias < np.mean(plain)


@pytest.mark.parametrize("counts", [(60, 30), (60, 300), (200, 30), (200, 300)])  # around 64 dimensions
def test_the_limit_is_the_intercept_of_a_line_through_distances(counts: tuple[int, int]) -> None:
    a, b = (random((19, n)).gamma(1.0, size=(n, 64)) for n in counts)
    draws, sizes = random(5), [counts[0] // 10, counts[0]]
    y = [frechet.distance_of_features(a[draws.choice(len(a), size, replace=False)], b) for size in sizes]
    x = 1 / np.array(sizes)
    assert frechet.limit(a, b, seed=5, points=2) == pytest.approx(
        y[1] - x[1] * (y[0] - y[1]) / (x[0] - x[1]), rel=1e-6
    )


@pytest.mark.parametrize(("n", "d"), [(60, 80), (400, 12)])
def test_the_bootstrap_is_as_wide_as_repeated_experiments(n: int, d: int) -> None:
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return random((13, seed)).normal(size=(n, d)) + 1, 1.5 * random((14, seed)).normal(size=(n, d))

    values = [frechet.distance_of_features(*draw(seed)) for seed in range(60)]
    intervals = [frechet.bootstrap(*draw(seed), resamples=100) for seed in range(4)]
    assert np.mean([i.high - i.low for i in intervals]) == pytest.approx(2 * 1.96 * np.std(values), rel=0.35)


def test_both_ways_of_resampling_agree() -> None:
    a, b = random(15).normal(size=(30, 40)), random(16).gamma(1.0, size=(25, 40))
    value, by_rows = frechet._resampled_by_rows(a, b, random(0), 20)
    same, by_moments = frechet._resampled_by_moments(a, b, random(0), 20)
    assert value == pytest.approx(same, rel=1e-12)
    np.testing.assert_allclose(by_rows, by_moments, rtol=1e-5)


Oracle = Callable[[np.ndarray, np.ndarray], float]


def torch_fidelity() -> Oracle:
    import_torchvision()
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        stats = [fid_features_to_statistics(torch.from_numpy(f)) for f in (a, b)]
        return fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]

    return distance


def clean_fid() -> Oracle:
    pytest.importorskip("scipy", reason="clean-fid needs SciPy")
    fid = pytest.importorskip("cleanfid.fid", reason="clean-fid is not installed")
    return lambda a, b: fid.frechet_distance(
        a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)
    )


def pytorch_fid() -> Oracle:
    pytest.importorskip("scipy", reason="pytorch-fid needs SciPy")
    fid = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid is not installed")
    return lambda a, b: fid.calculate_frechet_distance(
        a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)
    )


@pytest.mark.parametrize("oracle", [torch_fidelity, clean_fid, pytorch_fid])
@pytest.mark.parametrize("count", [48, 600])  # of 64 dimensions
def test_other_libraries_find_the_same_distance(oracle: Callable[[], Oracle], count: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their imports, and SciPy's about an argument that they pass
        known = oracle()
        a, b = random(17).gamma(1.0, size=(count, 64)), random(18).gamma(1.3, size=(count, 64))
        assert frechet.distance_of_features(a, b) == pytest.approx(known(a, b), rel=1e-6)


def test_what_does_not_compare_gets_a_sentence() -> None:
    with pytest.raises(UserError, match="3 and of 4 dimensions"):
        frechet.distance_of_features(np.ones((5, 3)), np.ones((5, 4)))
    with pytest.raises(UserError, match="at least 20"):
        frechet.limit(np.ones((19, 3)), np.ones((30, 3)))
    with pytest.raises(UserError, match="at least two"):
        frechet.distance_of_features(np.ones((1, 3)), np.ones((2, 3)))
    with pytest.raises(UserError, match="not finite"):
        frechet.distance_of_features(np.full((3, 8), np.nan), np.ones((3, 8)))
