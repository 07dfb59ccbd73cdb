"""The naming exam: accuracy of an encoder on captioned pictures of concepts outside its training sets.

    named among 10, 100         one picture per concept: its first caption among those of other held-out
                                concepts
    named among 10, all         every picture of a concept, such as the skin tones of an emoji

An answer is right if the picture's own caption has the greatest cosine. Every picture has 20 trials, each
with new candidates.
"""

import numpy as np

from caption.encoders import Encoder
from caption.nano.exam import ExamScore, embedded
from caption.nano.fitting_sets import Captioned

_CANDIDATES = (10, 100)
_TIMES = 20


def examine(encoder: Encoder, pictures: Captioned, *, seed: int = 0) -> dict[str, ExamScore]:
    """Returns the figures of an encoder by name, or none if there are too few concepts.

    The seed chooses candidates."""
    # Concepts.
    groups, stream = pictures.by_concept(), np.random.default_rng(seed)
    firsts = [rows[0] for rows in groups]
    concept = np.empty(len(pictures.pixels), np.int64)
    for number, rows in enumerate(groups):
        concept[rows] = number

    # Cosines with all names, and with the picture's own.
    images = embedded(encoder, pictures.pixels)
    texts = encoder.texts([captions[0] for captions in pictures.captions])
    likeness, right = images @ texts[firsts].T, (images * texts).sum(axis=1)  # (N, concepts), (N,)

    # Parts of the exam: rows and number of candidates.
    parts = {f"named among {count}": (firsts, count) for count in _CANDIDATES}
    parts[f"named among {_CANDIDATES[0]}, all"] = list(range(len(images))), _CANDIDATES[0]
    return {
        name: ExamScore(
            _share(likeness[rows], right[rows], concept[rows], count, stream), 1 / count, len(rows)
        )
        for name, (rows, count) in parts.items()
        if len(groups) >= count
    }


def _share(
    likeness: np.ndarray, right: np.ndarray, concept: np.ndarray, count: int, stream: np.random.Generator
) -> float:
    """Returns the share of right answers.

    `likeness` (N, concepts) has the cosines with all names, `right` (N,) those with the picture's own name,
    `concept` (N,) the number of its concept."""
    answers = []
    for row, number in enumerate(concept):
        others = np.delete(likeness[row], number)
        answers += [right[row] > stream.choice(others, count - 1, replace=False).max() for _ in range(_TIMES)]
    return float(np.mean(answers))
