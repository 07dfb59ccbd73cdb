"""Precision, recall, density and coverage, from balls around pictures. All four share the distances.

Kynkaanniemi et al., NeurIPS 2019 (precision, recall: balls are closed); Naeem et al., ICML 2020 (density,
coverage: balls are open). Axes: N generated pictures, M of the reference, D dimensions of a feature.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from evaluate.distances.moments import require_finite
from synth.errors import UserError

_BLOCK = 4096  # rows
_ROUNDING = 1e-6  # of |x|^2: a smaller |x - y|^2 is a float32 rounding of 0


class Neighbours(NamedTuple):
    """Shares of pictures in the balls of others.

    A picture's ball reaches its k-th nearest neighbour in its own set."""

    precision: float  # share of the generated pictures in a ball of the reference
    recall: float  # share of the reference in a ball of the generated pictures
    density: float  # mean number of the reference's balls around a generated picture, divided by k
    coverage: float  # share of the reference with a generated picture in its ball


def neighbours(generated: np.ndarray, reference: np.ndarray, *, k: int = 3, k_density: int = 5) -> Neighbours:
    """Returns the four shares of features (N, D) and (M, D).

    Raises UserError if a set has too few pictures."""
    most, fewest = max(k, k_density), min(len(generated), len(reference))
    if fewest <= most:
        problem = f"{most} nearest neighbours need more than {most} pictures of each set, not {fewest}"
        raise UserError(f"{problem}; give more")
    for features in (generated, reference):
        require_finite(features)

    # Balls. Near the origin, squares keep their digits in float32.
    middle = reference.mean(axis=0, dtype=np.float64).astype(np.float32)
    fakes, reals = (np.ascontiguousarray(f, np.float32) - middle for f in (generated, reference))
    fake_radii, real_radii = _radii(fakes, most), _radii(reals, most)

    # Pictures in balls, block by block.
    inside, reached, covered = (np.zeros(len(rows), bool) for rows in (fakes, reals, reals))
    pairs = 0
    for i, j, squares in _blocks(fakes, reals):
        inside[i] |= (squares <= real_radii[j, k - 1]).any(axis=1)  # Kynkaanniemi et al., equation 1
        reached[j] |= (squares <= fake_radii[i, k - 1, None]).any(axis=0)
        within = squares < real_radii[j, k_density - 1]  # open balls
        pairs += int(np.count_nonzero(within))
        covered[j] |= within.any(axis=0)
    density = pairs / (k_density * len(fakes))
    return Neighbours(float(inside.mean()), float(reached.mean()), density, float(covered.mean()))


def _radii(features: np.ndarray, most: int) -> np.ndarray:
    """Returns squared distances to the nearest neighbours, float32 (N, most), ascending.

    A picture is no neighbour of itself."""
    import torch

    # Nearest neighbours so far.
    nearest = torch.full((len(features), most), float("inf"))

    def offer(rows: slice, squares: torch.Tensor) -> None:
        candidates = squares.topk(min(most, squares.shape[1]), dim=1, largest=False).values
        joined = torch.cat((nearest[rows], candidates), dim=1)
        nearest[rows] = joined.topk(most, dim=1, largest=False).values

    # Each block off the diagonal serves its rows and its columns.
    for i, j, block in _blocks(features, features, upper=True):
        if i == j:
            np.fill_diagonal(block, np.inf)
        squares = torch.from_numpy(block)
        offer(i, squares)
        if i != j:
            offer(j, squares.T.contiguous())
    return np.sort(nearest.numpy(), axis=1)


def _blocks(
    a: np.ndarray, b: np.ndarray, *, upper: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yields blocks of squared distances float32, with their rows in a and in b.

    With `upper`, leaves out the blocks below the diagonal."""
    squares_a, squares_b = (np.einsum("nd,nd->n", m, m) for m in (a, b))
    for start in range(0, len(a), _BLOCK):
        i = slice(start, min(start + _BLOCK, len(a)))
        for other in range(start if upper else 0, len(b), _BLOCK):
            j = slice(other, min(other + _BLOCK, len(b)))

            # |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, in place.
            block = a[i] @ b[j].T
            block *= -2
            block += squares_b[j]
            block += squares_a[i, None]
            block *= block > _ROUNDING * squares_a[i, None]
            yield i, j, block
