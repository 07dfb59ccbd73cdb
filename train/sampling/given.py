"""Pictures that are given to drawing: known parts to draw around, or a whole picture to turn into noise.

Axes: R resolution of the model, S side of a picture.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synth.errors import UserError
from synth.images import codecs
from synth.sets.storage import reading
from train.model import Known


@dataclass(frozen=True)
class Given:
    """A picture file for drawing. With a text, pictures begin at its noise under this text. Without one, they
    have parts of it."""

    picture: str
    mask: str | None = None  # white parts are drawn, black ones kept; None: the picture's means of blocks
    text: str | None = None

    def __post_init__(self) -> None:
        if self.mask is not None and self.text is not None:
            raise UserError("--mask and --picture-text are two uses of --picture; leave one out")

    def known(self, resolution: int, device: str) -> Known:
        """Returns the known parts of pictures: dark pixels of the mask, or without one the means of blocks.

        Raises UserError if a file does not decode, or has another size."""
        pixels = _pixels("--picture", self.picture)
        if self.mask is not None:
            _require_side("--picture", self.picture, pixels, resolution)
            levels = _pixels("--mask", self.mask)
            _require_side("--mask", self.mask, levels, resolution)
            dark = torch.from_numpy(levels.mean(axis=2) < 128)
            return Known(scaled(pixels, device), dark.to(device))

        # A smaller picture.
        height, width = pixels.shape[:2]
        if height != width or resolution % width or width == resolution:
            sides = ", ".join(str(side) for side in range(1, resolution) if resolution % side == 0)
            problem = f"--picture {self.picture} has {width} x {height} pixels"
            advice = f"give a square one with a side of {sides} to enlarge it, or give --mask FILE"
            raise UserError(f"{problem}; {advice}")
        return Known(scaled(pixels, device))

    def whole(self, resolution: int, device: str) -> Tensor:
        """Returns the picture: (3, R, R) in -1..1.

        Raises UserError if it does not decode, or has another size."""
        return whole("--picture", self.picture, resolution, device)


def whole(option: str, path: str, resolution: int, device: str) -> Tensor:
    """Returns the picture of a file: (3, R, R) in -1..1.

    Raises UserError, which names the option, if it does not decode, or has another size."""
    pixels = _pixels(option, path)
    _require_side(option, path, pixels, resolution)
    return scaled(pixels, device)


def _pixels(option: str, path: str) -> np.ndarray:
    """Returns the pixels of a file: uint8 (S, S, 3). Raises UserError if there are none."""
    try:
        with reading(path):
            return codecs.rgb(codecs.decode(Path(path).read_bytes()))
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UserError(f"{option} is {path}, which is no file; give a picture file") from None
    except ValueError as error:
        raise UserError(f"{option} is {path}, {error}; give a PNG, WebP or JPEG") from None


def _require_side(option: str, path: str, pixels: np.ndarray, side: int) -> None:
    height, width = pixels.shape[:2]
    if (height, width) != (side, side):
        problem = f"{option} {path} has {width} x {height} pixels"
        raise UserError(f"{problem}; give one of {side} x {side}, as the model draws")


def scaled(pixels: np.ndarray, device: str) -> Tensor:
    """Returns pixels uint8 (S, S, 3) as (3, S, S) in -1..1."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).to(device).float() / 127.5 - 1
