from math import comb

import numpy as np
import pytest

from caption.lean_imports import import_torchvision
from evaluate.distances.scores import InceptionScore, clip_score, r_precision
from synth.errors import UserError

random = np.random.default_rng


def score_of(logits: np.ndarray, *, splits: int = 10, cut: int = 64) -> tuple[float, float]:
    score = InceptionScore(len(logits), splits=splits)
    for first in range(0, len(logits), cut):
        score.add(logits[first : first + cut], first)
    result = score.score()
    return result.value, result.deviation


@pytest.mark.parametrize("sharpness", [0.0, 2.0, 4.0, 60.0])
def test_balanced_classes_have_a_closed_form(sharpness: float) -> None:
    classes = 8  # K exp(-H(row)): from 1 to K
    logits = sharpness * np.eye(classes)[np.arange(800) % classes]
    row = np.exp(logits[0]) / np.exp(logits[0]).sum()
    value, deviation = score_of(logits, splits=1)
    assert value == pytest.approx(classes * np.exp((row * np.log(row)).sum()), rel=1e-12)
    assert deviation == 0


@pytest.mark.parametrize("count", [500, 507])
def test_the_stream_gives_what_torch_fidelity_gives(count: int) -> None:
    import_torchvision()
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * random(0).normal(size=(count, 40)).astype(np.float32)
    known = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=True, rng_seed=2020)
    expected = known["inception_score_mean"], known["inception_score_std"]
    assert score_of(logits) == pytest.approx(expected, rel=1e-9)
    assert score_of(logits, cut=1) == pytest.approx(expected, rel=1e-9)


def test_more_splits_score_lower() -> None:
    logits = 3 * random(1).normal(size=(2000, 50))
    one, ten, fifty = (score_of(logits, splits=splits)[0] for splits in (1, 10, 50))
    assert one > ten > fifty


def test_two_of_ten_classes_score_two() -> None:
    logits = 100 * np.eye(10)[random(2).integers(0, 2, 4000)]
    assert score_of(logits)[0] == pytest.approx(2, rel=0.01)


def test_missing_pictures_get_a_sentence() -> None:
    score = InceptionScore(20)
    score.add(np.zeros((19, 3)), 0)
    with pytest.raises(UserError, match="promised 20 pictures and got 19"):
        score.score()
    with pytest.raises(UserError, match="at least as many pictures, not 9"):
        InceptionScore(9)
    with pytest.raises(UserError, match="picture 7 are not finite"):
        score.add(np.array([[0.0], [np.nan]]), 6)


def units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_clip_score_is_a_hundred_mean_cosines_and_none_below_zero() -> None:
    texts = units(random(3).normal(size=(500, 16)))
    assert clip_score(texts, texts) == pytest.approx((100, 0), abs=1e-9)
    assert clip_score(-texts, texts) == (0, 0)
    halves = texts.copy()
    halves[::2] *= -1
    value, error = clip_score(halves, texts)
    assert (value, error) == (pytest.approx(50), pytest.approx(50 / np.sqrt(499)))


def of_chance(right: int, trials: int, share: float, significance: float = 0.001) -> bool:
    """Returns True if so many successes are within the two-sided binomial interval."""
    odds = [comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(trials + 1)]
    return min(sum(odds[: right + 1]), sum(odds[right:])) > significance / 2


def test_r_precision_of_the_right_texts_is_all() -> None:
    texts = units(random(4).normal(size=(1200, 32)))
    assert r_precision(texts, texts, candidates=100) == (1, 0)


@pytest.mark.parametrize("candidates", [2, 10, 100])
def test_r_precision_of_unrelated_pictures_is_chance(candidates: int) -> None:
    images, texts = units(random(5).normal(size=(800, 32))), units(random(6).normal(size=(800, 32)))
    value, error = r_precision(images, texts, candidates=candidates)
    assert of_chance(round(800 * value), 800, 1 / candidates)
    assert error == pytest.approx(np.sqrt(value * (1 - value) / 799))


def test_r_precision_among_all_texts_is_the_share_of_nearest_ones() -> None:
    texts = units(random(7).normal(size=(120, 8)))
    images = units(texts + 0.3 * random(8).normal(size=texts.shape))
    nearest = (images @ texts.T).argmax(axis=1) == np.arange(120)
    assert 0.2 < nearest.mean() < 0.9
    assert r_precision(images, texts, candidates=120).value == nearest.mean()


def test_a_text_that_stands_twice_is_no_wrong_one() -> None:
    texts = np.tile(units(random(6).normal(size=(100, 16))), (3, 1))
    assert r_precision(texts, texts, candidates=100).value == 1
    with pytest.raises(UserError, match="not 100"):
        r_precision(texts, texts, candidates=101)
