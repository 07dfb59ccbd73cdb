"""Probes of features, by closed forms and plain twins: evaluate/probes/classifiers.py."""

import numpy as np
import pytest
import torch

from evaluate.probes import classifiers
from evaluate.probes.classifiers import PENALTIES, Split


def clusters(train: int, test: int, *, spread: float = 0.4, classes: int = 4, width: int = 6) -> Split:
    """Pictures of classes as points around random centres."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(classes, width))
    labels = [np.arange(n) % classes for n in (train, test)]
    points = [
        (centres[rows] + spread * random.normal(size=(len(rows), width))).astype(np.float32)
        for rows in labels
    ]
    return Split(points[0], labels[0], points[1], labels[1])


@pytest.mark.parametrize(("count", "width"), [(50, 6), (12, 40)])
def test_ridge_is_that_of_a_plain_solver(count: int, width: int) -> None:
    """The stacked least squares [X; sqrt(N l) I] w = [Y; 0], with a free constant; and the dual form."""
    random = np.random.default_rng(1)
    x, y = random.normal(2, 1, (count, width)), random.normal(1, 1, (count, 3))
    weights = classifiers.ridge(x, y, PENALTIES)
    for penalty, ours in zip(PENALTIES, weights, strict=True):
        penalised = np.hstack([np.sqrt(count * penalty) * np.eye(width), np.zeros((width, 1))])
        stacked = np.vstack([np.hstack([x, np.ones((count, 1))]), penalised])
        right = np.vstack([y, np.zeros((width, 3))])
        expected = np.linalg.lstsq(stacked, right, rcond=None)[0]
        assert np.abs(ours - expected).max() < 1e-6


def test_separate_clusters_are_separated_by_every_probe() -> None:
    split = clusters(120, 80, spread=0.05)
    accuracies = [classifiers.linear(split), classifiers.by_sgd(split, 20, 0), classifiers.neighbours(split)]
    accuracies += classifiers.few_shot(split, 0)
    assert [a.value for a in accuracies] == [1.0] * len(accuracies) and len(accuracies) == 7


def test_features_without_content_give_the_accuracy_of_guessing() -> None:
    random, split = np.random.default_rng(2), clusters(400, 4000)
    noise = [random.normal(size=part.shape).astype(np.float32) for part in (split.train, split.test)]
    blind = Split(noise[0], split.train_classes, noise[1], split.test_classes)
    for accuracy in (
        classifiers.linear(blind),
        classifiers.by_sgd(blind, 3, 0),
        classifiers.neighbours(blind),
    ):
        assert accuracy.value == pytest.approx(0.25, abs=0.035)


def test_more_shots_are_better() -> None:
    values = [accuracy.value for accuracy in classifiers.few_shot(clusters(200, 2000, spread=1.0), 0)]
    assert values == sorted(values) and values[-1] > values[0] + 0.1


def test_shots_that_a_class_does_not_have_are_left_out() -> None:
    assert [a.probe for a in classifiers.few_shot(clusters(24, 20), 0)] == ["1-shot", "5-shot"]


@pytest.mark.slow
def test_sgd_is_torchs() -> None:
    """One rate of the ten, by torch's own optimiser and schedule."""
    split = clusters(300, 100).standardised()
    ours = classifiers.by_sgd(split, 2, 0).details["by_rate"]
    weights = torch.zeros(7, 4, requires_grad=True)
    optimiser = torch.optim.SGD([weights], lr=0.5, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 2)
    train, test = (
        torch.cat([torch.from_numpy(part), torch.ones(len(part), 1)], 1) for part in (split.train, split.test)
    )
    numbers = np.random.Generator(np.random.Philox(key=0))
    for _ in range(2):
        rows = torch.from_numpy(numbers.permutation(300))[:256]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(
            train[rows] @ weights, torch.from_numpy(split.train_classes)[rows]
        ).backward()
        optimiser.step()
        schedule.step()
    right = ((test @ weights).argmax(1).numpy() == split.test_classes).mean()
    assert ours["0.5"] == pytest.approx(right)  # type: ignore[index]


def test_the_nearest_pictures_vote() -> None:
    """Nine pictures near a test picture outvote one that is nearer."""
    angles = np.array([0.0] + [0.02] * 9 + [2.0] * 30)
    points = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    labels = np.array([0] + [1] * 9 + [0] * 30)
    split = Split(points, labels, points[:1], np.array([1]))
    assert classifiers.neighbours(split).value == 1


def test_a_feature_without_variation_counts_as_nothing() -> None:
    split = clusters(40, 20)
    constant = Split(
        np.hstack([split.train, np.full((40, 1), 7, np.float32)]),
        split.train_classes,
        np.hstack([split.test, np.full((20, 1), 7, np.float32)]),
        split.test_classes,
    )
    assert np.isfinite(constant.standardised().test).all()
    assert classifiers.linear(constant).right == classifiers.linear(split).right
