"""Probes: accuracies that simple classifiers reach on frozen features.

    ridge     least squares onto one-hot classes in closed form, for several weights of the penalty
    sgd       logistic regression by SGD at ten learning rates at once (Tian et al., StableRep, NeurIPS 2023,
              appendix B.2): momentum 0.9, no weight decay, a cosine, rates times batch / 256
    few-shot  ridge on k pictures of each class (Zhai et al., Scaling Vision Transformers, CVPR 2022), over
              several draws
    k-NN      the vote of the nearest pictures by cosine, without training (Wu et al., CVPR 2018)

Features are standardised by the mean and deviation of the training pictures, except for k-NN.

Axes: N training pictures, M test pictures, D dimensions of a feature, C classes, L penalties or rates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of the paper, for a batch of 256
PENALTIES = tuple(10.0**k for k in range(-5, 2))  # of ridge, times N
SHOTS = (1, 5, 10, 25)

_HELD_OUT = 0.1  # of the training pictures, to choose the penalty
_FEW_PENALTY = 1.0  # of few-shot ridge, times the number of pictures
_DRAWS = 5  # of the pictures of a few-shot probe
_NEIGHBOURS, _SHARPNESS = 20, 0.07  # of k-NN; DINO's values
_BATCH = 256
_AT_ONCE = 1024  # test pictures of k-NN


@dataclass(frozen=True)
class Split:
    """Features float32 and classes int64 of training and test pictures."""

    train: np.ndarray  # (N, D)
    train_classes: np.ndarray  # (N,), in 0..C - 1
    test: np.ndarray  # (M, D)
    test_classes: np.ndarray  # (M,)

    @property
    def classes(self) -> int:
        """C."""
        return int(self.train_classes.max()) + 1

    def standardised(self) -> "Split":
        """Returns features with mean 0 and deviation 1 over the training pictures."""
        mean, deviation = self.train.mean(0), self.train.std(0)
        scale = np.where(deviation > 1e-6 * np.abs(self.train).max(), 1 / np.maximum(deviation, 1e-30), 0)
        train, test = ((part - mean) * scale.astype(np.float32) for part in (self.train, self.test))
        return Split(train, self.train_classes, test, self.test_classes)


class Accuracy(NamedTuple):
    """The accuracy of a probe on the test pictures."""

    probe: str
    right: int  # over all draws
    n: int
    details: dict[str, object]

    @property
    def value(self) -> float:
        """The share of right answers."""
        return self.right / self.n


def ridge(features: np.ndarray, targets: np.ndarray, penalties: Sequence[float]) -> np.ndarray:
    """Returns the weights of ridge regressions, float64 (L, D + 1, C), the last row for a constant 1.

    They minimise |X w - Y|^2 + N penalty |w|^2, without a penalty of the constant. features (N, D), targets
    (N, C)."""
    # The constant is the mean of what centred features leave.
    x, y = features.astype(np.float64), targets.astype(np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    count, width = x.shape
    weights = np.empty((len(penalties), width + 1, y.shape[1]))

    # The smaller of both Gram matrices.
    dual = count < width
    gram = x @ x.T if dual else x.T @ x
    right = y if dual else x.T @ y
    for number, penalty in enumerate(penalties):
        solved = np.linalg.solve(gram + count * penalty * np.eye(len(gram)), right)
        weights[number, :-1] = x.T @ solved if dual else solved
        weights[number, -1] = mean_y - mean_x @ weights[number, :-1]
    return weights


def predicted(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the classes (M,) of features (M, D) by the weights (D + 1, C) of a ridge regression."""
    answers: np.ndarray = (features @ weights[:-1] + weights[-1]).argmax(1)
    return answers


def linear(split: Split) -> Accuracy:
    """Returns the accuracy of ridge. A tenth of the training pictures chooses the penalty."""
    split = split.standardised()
    held = np.random.default_rng(0).permutation(len(split.train)) < _HELD_OUT * len(split.train)
    targets = np.eye(split.classes)[split.train_classes]

    # Penalty.
    solutions = ridge(split.train[~held], targets[~held], PENALTIES)
    right = [
        int((predicted(split.train[held], one) == split.train_classes[held]).sum()) if held.any() else 0
        for one in solutions
    ]
    best = int(np.argmax(right))

    # Probe.
    [weights] = ridge(split.train, targets, PENALTIES[best : best + 1])
    correct = int((predicted(split.test, weights) == split.test_classes).sum())
    return Accuracy("ridge", correct, len(split.test), {"penalty": PENALTIES[best]})


def by_sgd(split: Split, epochs: int, seed: int) -> Accuracy:
    """Returns the accuracy of the best of ten logistic regressions, as in the paper, with that of each.

    The best is chosen on the test pictures, so it is a little too high."""
    split = split.standardised()
    train, test = (torch.from_numpy(part) for part in (split.train, split.test))
    classes = torch.from_numpy(split.train_classes)
    batch = min(_BATCH, len(train))
    rates = torch.tensor(RATES).view(-1, 1, 1) * batch / 256
    weights = torch.zeros(len(RATES), train.shape[1] + 1, split.classes)
    momentum = torch.zeros_like(weights)

    # Steps of all regressions at once. The gradient of the cross entropy is known in closed form.
    steps, step = epochs * (len(train) // batch), 0
    numbers = np.random.Generator(np.random.Philox(key=seed))
    for _ in range(epochs):
        order = torch.from_numpy(numbers.permutation(len(train)))
        for start in range(0, len(train) - batch + 1, batch):
            rows = order[start : start + batch]
            x = _with_constant(train[rows])
            error = (x @ weights).softmax(2) - F.one_hot(classes[rows], split.classes)
            momentum = 0.9 * momentum + x.T @ error / batch
            weights = weights - rates * (1 + np.cos(np.pi * step / steps)) / 2 * momentum
            step += 1

    # Accuracies.
    answers = (_with_constant(test) @ weights).argmax(2).numpy()
    right = (answers == split.test_classes).sum(1)
    by_rate = {f"{rate:g}": round(int(n) / len(test), 4) for rate, n in zip(RATES, right, strict=True)}
    details: dict[str, object] = {"rate": RATES[int(right.argmax())], "by_rate": by_rate, "epochs": epochs}
    return Accuracy("sgd, best of 10 rates on the test pictures", int(right.max()), len(test), details)


def few_shot(split: Split, seed: int) -> Iterator[Accuracy]:
    """Yields the accuracies for 1, 5, 10 and 25 pictures of a class, as far as each class has them."""
    split = split.standardised()
    least = int(np.bincount(split.train_classes, minlength=split.classes).min())
    for shots in (shots for shots in SHOTS if shots <= least):
        right = 0
        for draw in range(_DRAWS):
            # The first pictures of each class in a random order.
            order = np.random.Generator(np.random.Philox(key=[seed, draw])).permutation(len(split.train))
            by_class = order[np.argsort(split.train_classes[order], kind="stable")]
            counts = np.bincount(split.train_classes, minlength=split.classes)
            firsts = np.cumsum(counts) - counts
            rows = by_class[(firsts[:, None] + np.arange(shots)).ravel()]
            targets = 2.0 * np.eye(split.classes)[split.train_classes[rows]] - 1
            [weights] = ridge(split.train[rows], targets, [_FEW_PENALTY])
            right += int((predicted(split.test, weights) == split.test_classes).sum())
        yield Accuracy(f"{shots}-shot", right, _DRAWS * len(split.test), {"draws": _DRAWS})


def neighbours(split: Split) -> Accuracy:
    """Returns the accuracy of k-NN: the 20 nearest training pictures vote by exp(cosine / 0.07)."""
    train, test = (F.normalize(torch.from_numpy(part), dim=1) for part in (split.train, split.test))
    classes, k, right = torch.from_numpy(split.train_classes), min(_NEIGHBOURS, len(train)), 0
    for start in range(0, len(test), _AT_ONCE):
        cosines, rows = (test[start : start + _AT_ONCE] @ train.T).topk(k)
        votes = torch.zeros(len(rows), split.classes)
        votes.scatter_add_(1, classes[rows], ((cosines - 1) / _SHARPNESS).exp())
        answers = votes.argmax(1).numpy()
        right += int((answers == split.test_classes[start : start + _AT_ONCE]).sum())
    return Accuracy("k-NN", right, len(test), {"k": k})


def _with_constant(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], 1)
