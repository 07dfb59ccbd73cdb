"""Where pictures come from: a finished set of shards, a folder of files, or whatever draws them, picture by number.

Axes: N pictures, H and W pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pictures:
    """A countable stream of pictures of one size."""

    name: str  # for people
    digest: str  # sha256 of what decides the pictures
    count: int
    batches: Callable[[int], Iterator[np.ndarray]]  # from a picture's number on: uint8 (n, H, W, 3), any n


def of_shards(url: str, *, limit: int | None = None) -> Pictures:
    """The first pictures of a set, all by default. Raises UserError where it is not finished, or has fewer."""
    raise NotImplementedError


def of_folder(folder: str, *, limit: int | None = None) -> Pictures:
    """The pictures below a folder, by name. Raises UserError where there are none, or fewer."""
    raise NotImplementedError


def find(place: str, *, limit: int | None = None) -> Pictures:
    """A set of shards, where there is a manifest, or a folder. Raises UserError where it is neither."""
    raise NotImplementedError
