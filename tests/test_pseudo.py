import math

import numpy as np
import pytest
import torch

from caption.pseudo import Xi, mean_cosine, noise, pseudo_caption
from synth.errors import UserError


def unit(count: int, dimensions: int) -> np.ndarray:
    vectors = np.random.default_rng(1).standard_normal((count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_pseudo_captions_have_unit_length_whatever_the_length_of_the_embedding() -> None:
    eps = noise(0, range(64), 0, 512)
    for length in (1e-3, 1.0, 40.0):
        pseudo = pseudo_caption(length * unit(64, 512), eps, 0.25)
        assert np.allclose(np.linalg.norm(pseudo, axis=1), 1, atol=1e-6)
        assert np.allclose(pseudo, pseudo_caption(unit(64, 512), eps, 0.25), atol=1e-6)


def test_without_noise_it_is_the_normalised_embedding() -> None:
    image = unit(8, 512)
    assert np.allclose(pseudo_caption(3 * image, noise(0, range(8), 0, 512), 0.0), image, atol=1e-7)


def test_two_dimensions_by_hand() -> None:
    pseudo = pseudo_caption(
        np.array([[3.0, 0.0]]), np.array([[0.0, -7.0]]), 0.75
    )  # (3, -2.25) over its length 3.75
    assert np.allclose(pseudo, [[0.8, -0.6]])


@pytest.mark.parametrize("xi", [0.1, 0.25, 1.0, 3.0])
@pytest.mark.parametrize("dimensions", [128, 512])
def test_the_mean_cosine_follows_the_law(xi: float, dimensions: int) -> None:
    image = unit(4000, dimensions)
    cosines = (pseudo_caption(image, noise(5, range(4000), 1, dimensions), xi) * image).sum(
        axis=1, dtype=np.float64
    )
    assert abs(cosines.mean() - mean_cosine(xi, dimensions)) < 3 * cosines.std() / math.sqrt(4000)
    assert mean_cosine(xi, 10**9) == pytest.approx(1 / math.hypot(1, xi))


def test_noise_depends_on_seed_index_and_draw_and_on_nothing_else() -> None:
    rows = noise(7, [4, 10**9, 0, 4], 2, 64)
    assert np.array_equal(rows[0], rows[3])
    assert all(
        np.array_equal(noise(7, [i], 2, 64)[0], row) for i, row in zip([4, 10**9, 0, 4], rows, strict=True)
    )
    others = [rows[0], rows[1], noise(8, [4], 2, 64)[0], noise(7, [4], 3, 64)[0], noise(7, [5], 2, 64)[0]]
    assert np.abs(np.corrcoef(others) - np.eye(5)).max() < 0.5
    assert np.array_equal(noise(7, [4], 2, 512)[0, :64], rows[0])


def test_noise_is_standard_normal_and_of_this_law() -> None:
    values = noise(0, range(500), 0, 512).astype(np.float64)
    assert abs(values.mean()) < 3 / math.sqrt(values.size)
    assert abs(values.var() - 1) < 3 * math.sqrt(2 / values.size)
    assert values[0, :3].tolist() == pytest.approx(GOLDEN, abs=1e-6)


GOLDEN = [0.059911, 0.01556, -1.164438]


def test_torch_agrees_with_numpy_and_lets_gradients_through() -> None:
    image, eps = unit(16, 64), noise(0, range(16), 0, 64)
    tensor = torch.from_numpy(image).requires_grad_(True)
    pseudo = pseudo_caption(tensor, torch.from_numpy(eps), 3.0)
    assert np.allclose(pseudo.detach().numpy(), pseudo_caption(image, eps, 3.0), atol=1e-6)
    pseudo.sum().backward()
    assert tensor.grad is not None and tensor.grad.abs().sum() > 0


def test_xi_is_given_by_number_or_name() -> None:
    assert [Xi.parse(t).value for t in ("0", "0.25", "lafite", "cos:1")] == [0, 0.25, 3, 0]
    assert mean_cosine(Xi.parse("cos:0.32").value, 10**9) == pytest.approx(0.32)
    image, eps = unit(4, 512), noise(0, range(4), 0, 512)
    mixed = 0.25 * image + 0.75 * eps / np.linalg.norm(eps, axis=1, keepdims=True)  # what LAFITE's code mixes
    assert np.allclose(
        pseudo_caption(image, eps, Xi.parse("lafite").value),
        mixed / np.linalg.norm(mixed, axis=1, keepdims=True),
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "text", ["-1", "inf", "nan", "much", "1e7", "cos:0", "cos:1.2", "cos:1e-320", "cos:x", ""]
)
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--xi is"):
        Xi.parse(text)
