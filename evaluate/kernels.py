"""Kernel distances of two sets of features: KID (Binkowski et al., ICLR 2018) and CMMD (Jayasumana et al., CVPR 2024).

Axes: N pictures, D dimensions of a feature.
"""

from typing import NamedTuple

import numpy as np


class Kid(NamedTuple):
    """A kernel distance."""

    value: float  # mean over the subsets
    error: float  # standard error, of the pictures and of the choice of subsets
    subsets: int
    subset_size: int


def kid(generated: np.ndarray, reference: np.ndarray, *, subsets: int = 100, subset_size: int = 1000, seed: int = 2020) -> Kid:
    """Unbiased MMD^2 with the kernel (x.y / D + 1)^3, over subsets as torch-fidelity draws them; at most half of the smaller set each.
    Raises UserError for fewer than four pictures."""
    raise NotImplementedError


def cmmd(generated: np.ndarray, reference: np.ndarray, *, sigma: float = 10.0) -> float:
    """1000 x the biased MMD^2 with a Gaussian kernel, in blocks."""
    raise NotImplementedError
