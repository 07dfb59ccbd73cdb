"""Zero-shot classification: a picture is of the class with the nearest name.

Radford et al., CLIP, ICML 2021, section 3.1: the embedding of a class is the mean of those of several prompts
with its name.

Axes: M pictures, C classes, P prompts of a class, E dimensions of the space of pictures and texts.
"""

from collections.abc import Sequence

import numpy as np

from caption.sentences.phrases import article
from evaluate.detectors import TextSide
from evaluate.probes.classifiers import Accuracy

TEMPLATES = ("{}", "a photo of {}", "a picture of {}")  # of a name with its article

_ARTICLES = ("a", "an", "the")
_EQUAL = 1e-5  # largest difference between embeddings of classes that their names do not tell apart


def prompts(name: str) -> list[str]:
    """Returns the prompts of a class: "a frog", "a photo of a frog", "a picture of a frog"."""
    words = name.replace("_", " ").strip()
    if words.partition(" ")[0].lower() not in _ARTICLES:
        words = f"{article(words.lower())} {words}"
    return [template.format(words) for template in TEMPLATES]


def embeddings(side: TextSide, classes: Sequence[Sequence[str]]) -> np.ndarray:
    """Returns the embeddings float32 (C, E) of classes, each with P prompts: the means, at unit length."""
    rows = side.texts([prompt for one in classes for prompt in one])
    means = rows.reshape(len(classes), -1, rows.shape[1]).mean(1)
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def accuracy(
    side: TextSide, features: np.ndarray, answers: np.ndarray, classes: Sequence[Sequence[str]]
) -> Accuracy:
    """Returns the accuracy on pictures with these features, (M, D), and classes, int64 (M,), by the prompts
    of each class.

    A text model may not know the words of a name. Classes with equal embeddings are counted as `alike`, and
    the first of them is the answer."""
    known = embeddings(side, classes)
    alike = sum(bool((np.abs(known[:n] - row).max(1) < _EQUAL).any()) for n, row in enumerate(known) if n)
    right = int(((side.pictures(features) @ known.T).argmax(1) == answers).sum())
    details: dict[str, object] = {"prompts": len(classes[0]), "alike": alike}
    return Accuracy("zero-shot", right, len(features), details)
