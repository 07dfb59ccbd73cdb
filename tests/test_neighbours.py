import numpy as np
import pytest

from caption.lean_imports import import_torchvision
from evaluate.distances import neighbours as module
from evaluate.distances.frechet import distance_of_features
from evaluate.distances.neighbours import neighbours
from synth.errors import UserError

random = np.random.default_rng


def plain(fakes: np.ndarray, reals: np.ndarray, k: int, k_density: int) -> tuple[float, ...]:
    """The four by their definitions, distances all at once."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))

    def radius(a: np.ndarray, k: int) -> np.ndarray:
        return np.sort(distances(a, a), axis=1)[:, k]  # the first is the picture itself

    across = distances(fakes, reals)
    precision = (across <= radius(reals, k)).any(axis=1).mean()
    recall = (across <= radius(fakes, k)[:, None]).any(axis=0).mean()
    within = across < radius(reals, k_density)
    return precision, recall, within.sum() / (k_density * len(fakes)), within.any(axis=0).mean()


@pytest.mark.parametrize("block", [4096, 37])  # one block, and many that do not fit
def test_blocks_give_what_the_definitions_say(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    fakes, reals = random(0).normal(size=(150, 12)), 1.2 * random(1).normal(size=(210, 12)) + 0.3
    assert neighbours(fakes, reals) == pytest.approx(plain(fakes, reals, 3, 5))


def test_torch_fidelity_finds_the_same_precision_and_recall() -> None:
    import_torchvision()
    import torch
    from torch_fidelity.metric_prc import prc_features_to_metric

    fakes, reals = (
        f.astype(np.float32)
        for f in (random(2).normal(size=(300, 16)), 1.3 * random(3).normal(size=(400, 16)))
    )
    theirs = prc_features_to_metric(torch.from_numpy(fakes), torch.from_numpy(reals), verbose=False)
    shares = neighbours(fakes, reals)
    assert (shares.precision, shares.recall) == pytest.approx(
        (theirs["precision"], theirs["recall"]), rel=1e-6
    )
    assert 0 < shares.recall < 1


@pytest.mark.parametrize(("n", "m"), [(500, 500), (400, 1000)])
def test_equal_distributions_are_covered_as_counting_says(n: int, m: int) -> None:
    k = 5  # a ball is free of the other set where the k nearest of all are of its own
    law = 1 - np.prod([(m - i) / (n + m - i) for i in range(1, k + 1)])
    shares = [
        neighbours(random((4, s)).normal(size=(n, 6)), random((5, s)).normal(size=(m, 6))) for s in range(8)
    ]
    assert np.mean([f.coverage for f in shares]) == pytest.approx(law, abs=0.015)
    assert np.mean([f.density for f in shares]) == pytest.approx(1, abs=0.06)


def test_dropped_modes_show_in_recall_and_coverage() -> None:
    centres = 30 * random(6).normal(size=(10, 2))
    reals = np.repeat(centres, 60, axis=0) + random(7).normal(size=(600, 2))
    fakes = np.repeat(centres[:2], 150, axis=0) + 0.6 * random(8).normal(size=(300, 2))
    shares, whole = neighbours(fakes, reals), np.repeat(centres, 30, axis=0) + random(9).normal(size=(300, 2))
    assert shares.precision > 0.95
    assert shares.recall == pytest.approx(0.2, abs=0.04)
    assert shares.coverage == pytest.approx(0.2, abs=0.04)
    assert distance_of_features(fakes, reals) > 20 * distance_of_features(whole, reals)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_identical_sets_lie_in_each_other(scale: float) -> None:
    a = (scale * (random(9).normal(size=(200, 32)) + 50)).astype(np.float32)
    shares = neighbours(a, a)
    assert (shares.precision, shares.recall, shares.coverage) == (1, 1, 1)
    assert shares.density == pytest.approx(1, abs=0.25)


def test_a_collapsed_set_is_inside_itself_and_covers_nothing_else() -> None:
    same, other = np.ones((50, 8), np.float32), random(10).normal(size=(60, 8)).astype(np.float32) + 40
    assert neighbours(same, same)[:2] == (1, 1)  # closed balls of no radius
    assert neighbours(same, other) == (0, 0, 0, 0)


def test_too_few_pictures_get_a_sentence() -> None:
    with pytest.raises(UserError, match="more than 5 pictures of each set, not 5"):
        neighbours(np.ones((5, 3)), np.ones((20, 3)))
