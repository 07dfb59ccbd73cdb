"""Statistics of paired arms, beside closed forms and brute force: evaluate/inference.py, exchange.py."""

import math
from itertools import pairwise, permutations, product

import numpy as np
import pytest

from evaluate import inference
from evaluate.experiments import exchange, findings
from evaluate.experiments.exchange import ExchangeRate
from evaluate.inference import (
    Interval,
    bootstrap,
    holm,
    jackknife,
    least_p,
    rank_correlation,
    rank_test,
    sign_flip,
    t_interval,
    variance_by_group,
)
from evaluate.judge.rates import Counted, wilson, wilson_by_picture


@pytest.mark.slow  # scipy
def test_the_t_interval_is_that_of_a_table() -> None:
    mean, low, high = t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776445 * math.sqrt(2.5 / 5)  # Student's t of 4 degrees of freedom
    assert (mean, low, high) == pytest.approx((3, 3 - half, 3 + half), abs=1e-5)
    with pytest.raises(ValueError, match="at least two"):
        t_interval([1.0])


@pytest.mark.parametrize("seed", range(4))
def test_sign_flip_is_brute_force(seed: int) -> None:
    d = np.random.default_rng(seed).normal(-0.3, 1, 7).round(1)
    flipped = [sum(s * v for s, v in zip(signs, d, strict=True)) for signs in product((1, -1), repeat=7)]
    assert sign_flip(d) == sum(each <= d.sum() + 1e-9 for each in flipped) / 128
    assert sign_flip(-np.abs(d) - 0.1) == least_p(7) == 1 / 128
    assert sign_flip(np.ones(3)) == 1


def test_figures_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="must be finite numbers"):
        sign_flip([0.1, math.nan])


@pytest.mark.slow  # scipy
def test_the_rank_test_counts_permutations(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.arange(5.0)
    assert rank_test(x, x) == rank_test(x, -x) == 2 / 120  # both orders without an exchange
    assert rank_test(x, np.ones(5)) == 1
    monkeypatch.setattr(inference, "_PERMUTATIONS", 1000)
    rng = np.random.default_rng(3)
    p = [rank_test(*rng.normal(size=(2, 9))) for _ in range(100)]
    assert sum(value <= 0.2 for value in p) == pytest.approx(20, abs=12)


def test_a_test_that_cannot_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 24 pairs"):
        sign_flip(np.ones(25))


def test_holm_is_the_step_down_by_its_definition() -> None:
    for p in permutations([0.01, 0.02, 0.04, 0.5]):
        adjusted = dict(zip(p, holm(p), strict=True))
        assert adjusted == {0.01: 0.04, 0.02: 0.06, 0.04: 0.08, 0.5: 0.5}
    assert holm([0.02, 0.015, 0.9, 0.9]) == [0.06, 0.06, 1.0, 1.0] and holm([]) == []


def test_holm_rejects_what_the_closed_procedure_of_bonferroni_rejects() -> None:
    for seed in range(20):
        p = np.random.default_rng(seed).uniform(0, 0.1, 4)
        closed = [
            max(
                min(1, sum(subset) * min(p[k] for k in range(4) if subset[k]))
                for subset in product((0, 1), repeat=4)
                if subset[i]
            )
            for i in range(4)
        ]
        assert holm(list(p)) == pytest.approx(closed)


def test_the_bootstrap_is_as_wide_as_the_closed_form() -> None:
    values = np.random.default_rng(0).normal(3, 2, 900)
    mean, low, high = bootstrap(values)
    assert mean == values.mean()
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 30, rel=0.08)
    # Groups with their own means add nothing to the interval of the mean of all.
    groups = np.arange(900) % 2
    apart = bootstrap(values + 50 * groups, groups=groups)
    assert apart.high - apart.low == pytest.approx(high - low, rel=0.1)
    with pytest.raises(ValueError, match="at least two values of each group"):
        bootstrap(values[:3], groups=groups[:3])


def test_the_bootstrap_of_two_values_a_group_is_as_wide_as_the_closed_form() -> None:
    """Eight groups of two: the mean's variance is the mean of the groups' variances over 16."""
    values, groups = np.random.default_rng(3).normal(0, 1, 16), np.repeat(np.arange(8), 2)
    variance = np.mean([values[groups == group].var(ddof=1) for group in range(8)]) / 16
    mean, low, high = bootstrap(values, groups=groups)
    assert (high - low) / 2 == pytest.approx(1.96 * math.sqrt(variance), rel=0.08)
    assert low < mean < high


def test_an_interval_by_picture_counts_facts_that_fail_together_once() -> None:
    rights = [[bool(value)] for value in np.random.default_rng(4).random(200) < 0.8]
    alone = wilson_by_picture(rights)
    assert alone == pytest.approx(wilson(Counted(sum(map(sum, rights)), 200)), abs=0.001)
    assert wilson_by_picture([each * 5 for each in rights]) == pytest.approx(alone, abs=0.001)
    assert wilson_by_picture([[True] * 5] * 40) == pytest.approx(wilson(Counted(40, 40)))
    assert wilson_by_picture([[True] * 5, []] * 40) == pytest.approx(wilson(Counted(40, 40)))


@pytest.mark.parametrize("facts", [1, 2, 5])
@pytest.mark.parametrize("together", [True, False])
def test_a_further_failure_never_raises_an_interval_by_picture(facts: int, together: bool) -> None:
    """Facts fail picture by picture, or first one of each picture."""
    pictures = 32
    places = [(i, k) for i in range(pictures) for k in range(facts)]
    order = places if together else sorted(places, key=lambda place: place[1])
    rights = [[True] * facts for _ in range(pictures)]
    intervals = [wilson_by_picture(rights)]
    for count, (i, k) in enumerate(order, 1):
        rights[i][k] = False
        if not together or count % facts == 0:
            intervals.append(wilson_by_picture(rights))
    for before, after in pairwise(intervals):
        assert after[0] <= before[0] + 1e-12 and after[1] <= before[1] + 1e-12


def test_one_failure_does_not_raise_the_lower_end_above_that_of_none() -> None:
    none = wilson_by_picture([[True, True]] * 128)
    one = wilson_by_picture([[True, False], *[[True, True]] * 127])
    assert none == wilson(Counted(128, 128)) and one[0] == none[0] and one[1] <= none[1]


def test_the_variance_over_groups_is_that_of_resampled_groups() -> None:
    stream = np.random.default_rng(5)
    groups = [stream.normal(stream.normal(), 0.2, size) for size in stream.integers(1, 6, 300)]
    sums, counts = (np.array([f(each) for each in groups], float) for f in (sum, len))
    picks = stream.integers(0, 300, (2_000, 300))
    resampled = sums[picks].sum(1) / counts[picks].sum(1)
    assert variance_by_group(sums, counts) == pytest.approx(resampled.var(), rel=0.1)
    values = np.concatenate(groups)
    assert variance_by_group(values, np.ones(len(values))) == pytest.approx(values.var(ddof=1) / len(values))
    with pytest.raises(ValueError, match="at least two"):
        variance_by_group(sums[:1], counts[:1])


def test_a_bootstrap_in_parts_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    values, groups = np.random.default_rng(6).normal(3, 2, 101), np.arange(101) % 3
    whole = bootstrap(values, groups=groups)
    for at_once in (1, 1_000):
        monkeypatch.setattr(inference, "_AT_ONCE", at_once)
        assert bootstrap(values, groups=groups) == whole


def test_a_nearly_flat_curve_gives_an_interval_without_an_end() -> None:
    # Without the third seed the last piece falls by a ten-thousandth.
    curve = np.array([[0.5, 0.45, 0.42, 0.41996], [0.5, 0.45, 0.42, 0.41996], [0.5, 0.45, 0.42, 0.41]])
    measured = exchange.rate((32, 64, 128, 256), curve, 64, np.array([0.30, 0.36, 0.25]))
    assert measured.beyond and measured.pictures.high == math.inf
    rate = ExchangeRate(64, Interval(300.0, 280.0, math.inf), 32, 256)
    ends = [findings._bounded(value, rate) for value in rate.pictures]
    assert ends == ["over 256"] * 3 and findings._bounded(8.0, rate) == "under 32"
    assert findings._bounded(99.6, rate) == "100"


def test_the_jackknife_of_a_mean_is_its_t_interval() -> None:
    values = np.random.default_rng(1).normal(0, 1, 6)
    assert jackknife(lambda seeds: float(values[seeds].mean()), 6) == pytest.approx(t_interval(values))
    with pytest.raises(ValueError, match="at least three"):
        jackknife(lambda seeds: 0.0, 2)


@pytest.mark.slow  # scipy
def test_a_rank_correlation_is_that_of_scipy_and_its_interval_covers_no_relation() -> None:
    from scipy.stats import spearmanr

    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        x, y = rng.normal(size=(2, 11)).round(1)
        value, low, high = rank_correlation(x, y)
        assert value == pytest.approx(spearmanr(x, y).statistic) and -1 <= low <= value <= high <= 1
        covered += low <= 0 <= high
    assert covered >= 180
    assert rank_correlation(x, np.exp(x)) == (pytest.approx(1), pytest.approx(1), pytest.approx(1))


SIZES = (32, 64, 128, 256)


def planted(seed: int, shift: float, noise: float, seeds: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Returns a curve (S, K) and values (S,) of an arm at 64 pictures that are worth 64 * 2^shift."""
    rng = np.random.default_rng(seed)
    of_seed = rng.normal(0, 0.05, (seeds, 1))  # cancels, as arms are paired
    log_curve = -1 - 0.15 * np.log2(SIZES) + of_seed + rng.normal(0, noise, (seeds, len(SIZES)))
    at = -1 - 0.15 * (6 + shift) + of_seed[:, 0] + rng.normal(0, noise, seeds)
    return np.exp(log_curve), np.exp(at)


@pytest.mark.parametrize("shift", [-1.5, 0.0, 0.6, 1.9, 3.0])
def test_the_exchange_rate_is_the_planted_shift(shift: float) -> None:
    curve, at = planted(0, shift, 0.0)
    result = exchange.rate(SIZES, curve, 64, at)
    assert result.pictures == pytest.approx([64 * 2**shift] * 3)
    assert result.beyond == (shift in (-1.5, 3.0))
    assert exchange.rate(SIZES[::-1], curve[:, ::-1], 64, at).pictures == pytest.approx(result.pictures)


@pytest.mark.slow
def test_the_exchange_rate_covers_the_planted_shift_in_95_percent_of_simulations() -> None:
    trials = 600
    covered = 0
    for trial in range(trials):
        _, low, high = exchange.rate(SIZES, *_at_64(planted(trial, 0.6, 0.01))).pictures
        covered += low <= 64 * 2**0.6 <= high
    assert abs(covered / trials - 0.95) < 2.6 * math.sqrt(0.95 * 0.05 / trials)


def _at_64(drawn: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, int, np.ndarray]:
    return drawn[0], 64, drawn[1]


def test_beyond_a_flat_end_the_curve_goes_on_from_that_end() -> None:
    curve = np.array([[0.99, 0.9, 0.8, 0.8]] * 3)
    below = exchange.rate(SIZES, curve, 64, np.array([0.75] * 3))
    octaves = math.log(0.8 / 0.75) / math.log(0.9 / 0.8)
    assert below.beyond and below.pictures.value == pytest.approx(256 * 2**octaves)
    flat_start = np.array([[0.9, 0.9, 0.8, 0.7]] * 3)
    assert exchange.rate(SIZES, flat_start, 64, np.array([0.95] * 3)).pictures.value < 32


def test_a_curve_that_does_not_fall_gives_no_rate() -> None:
    flat = np.ones((3, 4))
    with pytest.raises(ValueError, match="does not fall"):
        exchange.rate(SIZES, flat, 64, flat[:, 0])
    with pytest.raises(ValueError, match="at least two sizes"):
        exchange.rate(SIZES[:1], flat[:, :1], 64, flat[:, 0])


def test_a_rate_is_known_without_ends_if_the_curve_falls_with_all_seeds_alone() -> None:
    curve = np.exp([[0.0, 0.0], [0.0, 0.1], [0.3, 0.0]])  # without the third seed it rises
    values = np.exp([0.09, 0.06, 0.05])
    measured = exchange.rate((32, 64), curve, 32, values)
    assert 32 < measured.pictures.value < 64 and measured.pictures[1:] == (0, math.inf)
    with pytest.raises(ValueError, match="does not fall"):
        exchange.rate((32, 64), curve[:, ::-1], 32, values)
    with pytest.raises(ValueError, match="at least three seeds"):
        exchange.rate((32, 64), curve[1:], 32, values[1:])


def test_a_rise_within_a_curve_is_pooled() -> None:
    curve = np.exp([[3.0, 1.0, 2.0, 0.0]] * 3)  # 1 and 2 become 1.5 both
    assert exchange.rate(SIZES, curve, 64, np.exp([0.75] * 3)).pictures.value == pytest.approx(2**7.5)
