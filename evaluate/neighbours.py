"""Precision, recall, density and coverage: who lies in whose balls, in blocks.

Kynkaanniemi et al., NeurIPS 2019 (precision, recall); Naeem et al., ICML 2020 (density, coverage).
Axes: N generated pictures, M of the reference, D dimensions of a feature.
"""

from typing import NamedTuple

import numpy as np


class Neighbours(NamedTuple):
    """Shares of pictures in the balls of others."""

    precision: float  # of the generated, in a ball of the reference
    recall: float  # of the reference, in a ball of the generated
    density: float  # balls of the reference about a generated picture, over k
    coverage: float  # of the reference, with a generated picture in its ball


def neighbours(generated: np.ndarray, reference: np.ndarray, *, k: int = 3, k_density: int = 5) -> Neighbours:
    """The four of features (N, D) and (M, D). Raises UserError where a set has no k neighbours."""
    raise NotImplementedError
