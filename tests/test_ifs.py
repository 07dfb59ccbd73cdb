import itertools
import math
from typing import Any

import numpy as np
import pytest

from synth.kernels import ifs
from synth.kernels.trigonometry import exponential

SIERPINSKI = np.array([[0.5, 0, 0, 0.5, x, y, 1 / 3] for x, y in ((0, 0), (0.5, 0), (0.25, 0.5))])
FERN = np.array(
    [
        [0, 0, 0, 0.16, 0, 0, 0.01],
        [0.85, 0.04, -0.04, 0.85, 0, 1.6, 0.85],
        [0.2, -0.26, 0.23, 0.22, 0, 1.6, 0.07],
        [-0.15, 0.28, 0.26, 0.24, 0, 0.44, 0.07],
    ]
)


def sampled(maps: int, number: int) -> np.ndarray:
    low, high = (5 + maps) / 2, (6 + maps) / 2
    return np.array([ifs.sample(np.uint64(key), maps, low, high) for key in range(number)])


def singular_values(systems: np.ndarray) -> np.ndarray:
    return np.linalg.svd(systems[..., :4].reshape(*systems.shape[:-1], 2, 2), compute_uv=False)


@pytest.mark.parametrize("maps", [2, 3, 4])
def test_alpha_fills_its_interval_and_no_map_expands(maps: int) -> None:
    values = singular_values(sampled(maps, 2000))
    alpha = (values[..., 0] + 2 * values[..., 1]).sum(axis=1)
    assert alpha.min() > (5 + maps) / 2 - 1e-12 and alpha.max() < (6 + maps) / 2 + 1e-12
    assert np.histogram(alpha, bins=4)[0] == pytest.approx([500] * 4, rel=0.2)
    assert values.max() <= 1 + 1e-12


@pytest.mark.parametrize(
    ("maps", "published"),
    [(2, [(0.63, 0.36), (0.90, 0.75)]), (4, [(0.50, 0.25), (0.50, 0.24), (0.55, 0.27), (0.72, 0.49)])],
)
def test_later_maps_have_larger_singular_values_as_published(
    maps: int, published: list[tuple[float, float]]
) -> None:
    assert singular_values(sampled(maps, 4000)).mean(axis=0) == pytest.approx(np.array(published), abs=0.02)


def test_determinants_have_both_signs_and_probabilities_follow_them() -> None:
    systems = sampled(3, 2000)
    dets = systems[..., 0] * systems[..., 3] - systems[..., 1] * systems[..., 2]
    assert (dets > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert systems[..., 6] == pytest.approx(abs(dets) / abs(dets).sum(axis=1, keepdims=True))


def test_translations_are_uniform_and_rotations_have_no_direction() -> None:
    systems = sampled(2, 4000)
    assert np.histogram(systems[..., 4:6], bins=4, range=(-1, 1))[0] == pytest.approx([4000] * 4, rel=0.06)
    assert systems[..., :4].mean(axis=(0, 1)) == pytest.approx([0] * 4, abs=0.02)


def test_fixed_point_is_left_where_it_is() -> None:
    for row in sampled(3, 50).reshape(-1, 7):
        x, y = ifs.fixed_point(row)
        assert (row[0] * x + row[1] * y + row[4], row[2] * x + row[3] * y + row[5]) == pytest.approx((x, y))
    assert ifs.fixed_point(np.array([1.0, 0, 0, 1, 0.3, 0, 1])) == (0, 0)


def test_one_map_leads_to_its_fixed_point() -> None:
    system = np.array([[0.5, 0.2, -0.1, 0.4, 1.0, -2.0, 1.0]])
    x, y = ifs.points(system, start=(0, 0), key=1, count=1000)
    assert np.ptp(x) == np.ptp(y) == 0
    assert (x[0], y[0]) == pytest.approx(ifs.fixed_point(system[0]), rel=1e-6)


def dimension(system: np.ndarray) -> float:
    x, y = ifs.points(system, start=(0, 0), key=5, count=1_000_000)
    width = 1.0001 * max(np.ptp(x), np.ptp(y))
    boxes = [
        len(np.unique((x - x.min()) // (width / n) * n + (y - y.min()) // (width / n))) for n in (32, 256)
    ]
    return math.log(boxes[1] / boxes[0]) / math.log(8)


def affinity_dimension(system: np.ndarray, depth: int = 4) -> float:
    """Returns Falconer's dimension (1988): at it, the singular value function sums to one over all products
    of `depth` maps."""
    maps = products = system[:, :4].reshape(-1, 2, 2)
    for _ in range(depth - 1):
        products = np.einsum("aij,bjk->abik", products, maps).reshape(-1, 2, 2)
    first, second = np.linalg.svd(products, compute_uv=False).T
    low, high = 1.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if (first * second ** (middle - 1)).sum() > 1 else (low, middle)
    return low


def test_sierpinski_triangle_has_its_dimension() -> None:
    assert dimension(SIERPINSKI) == pytest.approx(math.log2(3), rel=0.03)


def test_barnsley_fern_has_its_dimension() -> None:
    assert affinity_dimension(FERN) == pytest.approx(1.84, abs=0.005)
    assert dimension(FERN) == pytest.approx(affinity_dimension(FERN), rel=0.03)


def twin(system: np.ndarray, *, seed: int, count: int) -> np.ndarray:
    """The chaos game in float64 by NumPy: one orbit in 500 parts."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros(500), np.zeros(500)
    seen = []
    for step in range(100 + count // 500):
        choices = rng.choice(len(system), size=500, p=system[:, 6] / system[:, 6].sum())
        a, b, c, d, e, f = system[choices, :6].T
        x, y = a * x + b * y + e, c * x + d * y + f
        if step >= 100:
            seen.append((x, y))
    return np.concatenate(seen, axis=1)


def grid(points: Any, box: np.ndarray) -> np.ndarray:
    return np.histogram2d(points[0], points[1], bins=64, range=box)[0] / len(points[0])


@pytest.mark.slow
def test_points_follow_the_law_as_well_as_another_seed_of_a_float64_twin() -> None:
    for system in [SIERPINSKI, FERN, *sampled(2, 2), *sampled(4, 3)]:
        twins = [twin(system, seed=seed, count=100_000) for seed in range(4)]
        box = np.stack([twins[0].min(axis=1), twins[0].max(axis=1)], axis=1)
        theirs = [grid(points, box) for points in twins]
        ours = [grid(ifs.points(system, start=(0, 0), key=key, count=100_000), box) for key in range(4)]
        between = np.mean([abs(a - b).sum() for a, b in itertools.combinations(theirs, 2)])
        assert np.mean([abs(a - b).sum() for a, b in itertools.product(ours, theirs)]) <= 1.04 * between


def test_bounds_are_the_least_and_greatest_coordinates() -> None:
    points = ifs.points(FERN, start=(0, 0), key=1, count=1000)
    assert ifs.bounds(points).tolist() == [[p.min(), p.max()] for p in points]
    negative = (-points[0] - 5, np.array([-0.0, 3, -7], np.float32))
    assert ifs.bounds(negative).tolist() == [[p.min(), p.max()] for p in negative]


def test_bounds_are_not_finite_where_points_diverge() -> None:
    expanding = np.array([[2.0, 0, 0, 2, 1, 1, 1]])
    assert not np.isfinite(ifs.bounds(ifs.points(expanding, start=(0, 0), key=1, count=100_000))).any()


def test_histogram_counts_points_like_numpy() -> None:
    x, y = ifs.points(FERN, start=(0, 0), key=1, count=5001)
    window = np.array([[-1.0, 2.5], [2.0, 6.0]])
    counts = ifs.histogram((x, y), window, 50, ifs.strides(0, 50))
    scale = (49 / window[:, 1]).astype(np.float32)
    shift = (2 - window[:, 0] * (49 / window[:, 1])).astype(np.float32)
    placed = [p * s + o for p, s, o in zip((x, y), scale, shift, strict=True)]
    rows, columns = (np.clip(p, 0, np.float32(53.5)).astype(int) for p in placed)
    expected = np.zeros((54, 54), int)
    np.add.at(expected, (rows, columns), 1)
    assert (counts == expected).all() and counts.sum() == 5001


@pytest.mark.parametrize("orientation", range(8))
def test_strides_turn_a_histogram(orientation: int) -> None:
    points = ifs.points(FERN, start=(0, 0), key=1, count=5000)
    window = np.array([[-1.0, 2.5], [2.0, 6.0]])
    plain, turned = (ifs.histogram(points, window, 40, ifs.strides(o, 40)) for o in (0, orientation))
    assert (turned == ifs.turned(plain, orientation)).all()
    assert (turned != plain).any() == (orientation > 0)


def test_exponential_is_right_to_twelve_digits() -> None:
    numbers = [x / 7 for x in range(-100, 100)]
    assert [exponential(x) for x in numbers] == pytest.approx([math.exp(x) for x in numbers], rel=1e-12)
