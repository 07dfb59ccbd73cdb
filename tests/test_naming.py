import numpy as np
import pytest

from evaluate.naming import named_right
from synth.errors import UserError

RNG = np.random.default_rng(0)


def pictures(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit vectors of texts (N, D) and features (N, F) that follow from them, with noise."""
    texts = RNG.normal(size=(n, 16))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    features = texts @ RNG.normal(size=(16, 60)) + 0.1 * RNG.normal(size=(n, 60))
    return texts, features


def test_pictures_that_show_their_prompts_are_named_right() -> None:
    texts, real = pictures()
    naming = named_right(real + 0.1 * RNG.normal(size=real.shape), real, texts, seed=0)
    assert naming.drawn.value > 0.95 and naming.real.value > 0.95 and naming.n == 200
    assert naming == named_right(real + 0.0, real, texts, seed=0)._replace(drawn=naming.drawn)


def test_other_pictures_are_named_at_chance() -> None:
    texts, real = pictures()
    naming = named_right(real[::-1], real, texts, seed=0)
    assert abs(naming.drawn.value - 0.1) < 0.08 and naming.real.value > 0.95


def test_more_features_than_pictures_are_no_obstacle() -> None:
    texts, real = pictures(80)
    wide = np.concatenate([real, RNG.normal(size=(80, 300))], axis=1)
    assert named_right(wide, wide, texts, seed=1).real.value > 0.3


def test_too_few_prompts_are_refused() -> None:
    texts, real = pictures(30)
    with pytest.raises(UserError, match="among 10 needs as many different texts"):
        named_right(real, real, np.repeat(texts[:5], 6, axis=0), seed=0)
