"""Scores of one set: IS on logits, and agreement of pictures and texts in an encoder's space.

Salimans et al., NeurIPS 2016 (IS); Hessel et al., EMNLP 2021 (CLIP score); Xu et al., CVPR 2018
(R-precision). Axes: N pictures, C classes, D dimensions of an embedding.
"""

from typing import NamedTuple

import numpy as np

from evaluate.distances.moments import require_finite
from synth.errors import UserError

SPLITS = 10  # of IS, with a picture each at least
CLIP_SCORE = "100 mean max(cos, 0)"  # the formula, as figures state it


class Score(NamedTuple):
    """A mean and its spread."""

    value: float
    deviation: float


class InceptionScore:
    """IS of a stream of logits of known length: exp(mean KL(p(y|x) || p(y))), mean over the splits.

    torch-fidelity's shuffle assigns pictures to splits. A split keeps its number n of pictures, the sum of
    p log p and the sum of p. Let q be the mean of p. Then mean KL = sum p log p / n - q log q."""

    def __init__(self, count: int, *, splits: int = SPLITS, seed: int = 2020) -> None:
        """Raises UserError if there are fewer pictures than splits."""
        if count < splits:
            problem = f"IS over {splits} splits needs at least as many pictures, not {count}"
            raise UserError(f"{problem}; give more")

        # Split of each picture.
        bounds = np.array([i * count // splits for i in range(1, splits + 1)])
        order = np.random.RandomState(seed).permutation(count)
        self._split = np.empty(count, np.intp)
        self._split[order] = np.searchsorted(bounds, np.arange(count), side="right")

        # Sums over each split.
        self._seen = np.zeros(splits, np.int64)
        self._entropy = np.zeros(splits)  # sums of p log p
        self._probabilities: np.ndarray | None = None  # sums of p, float64 (splits, C)

    def add(self, logits: np.ndarray, first: int) -> None:
        """Adds logits (N, C) of the pictures from number `first` on.

        Raises UserError if one is not finite."""
        require_finite(logits, first)

        # log softmax.
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        p, split = np.exp(log_p), self._split[first : first + len(logits)]  # (N, C), (N,)

        # Sums.
        if self._probabilities is None:
            self._probabilities = np.zeros((len(self._seen), logits.shape[1]))
        for s in np.unique(split):
            self._probabilities[s] += p[split == s].sum(axis=0)
        self._seen += np.bincount(split, minlength=len(self._seen))
        self._entropy += np.bincount(split, (p * log_p).sum(axis=1), minlength=len(self._seen))

    def score(self) -> Score:
        """Returns mean and standard deviation over the splits, as in torch-fidelity.

        Raises UserError if pictures are missing."""
        if self._probabilities is None or self._seen.sum() != len(self._split):
            raise UserError(f"IS was promised {len(self._split)} pictures and got {self._seen.sum()}")
        q = self._probabilities / self._seen[:, None]  # (splits, C)
        q_log_q = (q * np.log(np.where(q > 0, q, 1))).sum(axis=1)
        scores = np.exp(self._entropy / self._seen - q_log_q)
        return Score(float(scores.mean()), float(scores.std()))


def clip_score(images: np.ndarray, texts: np.ndarray) -> Score:
    """Returns 100 x the mean of max(cos, 0) over pairs of unit embeddings (N, D), and its standard error."""
    cosines = 100 * np.einsum("nd,nd->n", images, texts, dtype=np.float64).clip(min=0)
    return Score(float(cosines.mean()), _standard_error(cosines))


def r_precision(images: np.ndarray, texts: np.ndarray, *, candidates: int, seed: int = 0) -> Score:
    """Returns the share of pictures nearest to their prompt among `candidates`, and its standard error.

    The other candidates are random texts of the set. Texts of one embedding are one text. Raises UserError if
    there are fewer different texts than candidates."""
    # Different texts, and that of each picture.
    require_different(texts, candidates)
    different, prompts = np.unique(texts, axis=0, return_inverse=True)  # (T, D), (N,)
    prompts = prompts.reshape(-1)

    # Comparison with random other texts.
    right = np.empty(len(images))
    random = np.random.default_rng(seed)
    for n, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        others = random.choice(len(different) - 1, candidates - 1, replace=False)
        others += others >= prompt  # skips the prompt
        right[n] = different[prompt] @ image > (different[others] @ image).max()
    return Score(float(right.mean()), _standard_error(right))


def require_different(texts: np.ndarray, candidates: int) -> None:
    """Raises UserError if fewer than `candidates` of the texts (N, D) differ."""
    different = len(np.unique(texts, axis=0))
    if different < candidates:
        problem = f"R-precision among {candidates} needs as many different texts, not {different}"
        raise UserError(f"{problem}; give more captions")


def _standard_error(values: np.ndarray) -> float:
    """Returns the standard error of the mean. Raises UserError for fewer than two values."""
    if len(values) < 2:
        raise UserError("a standard error needs at least two pictures; give more")
    return float(values.std(ddof=1) / np.sqrt(len(values)))
