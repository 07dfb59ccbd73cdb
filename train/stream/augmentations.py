"""Augmentations of a picture for contrastive learning, by Pillow, in the order of SimCLR's program.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020, appendix A;
Tian et al., StableRep, NeurIPS 2023, appendix B.1, for the random down- and up-sampling. The laws are those
of torchvision's transforms of the same names. A view depends on the picture and on the generator alone. Every
augmentation draws its numbers, applied or not, so a setting changes no other augmentation.

Axes: R resolution.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

_ATTEMPTS = 10  # to find a crop within the picture
_RATIO = math.log(4 / 3)  # of a crop's sides, either way
_SIGMA = (0.1, 2.0)  # of the blur, in pixels of a picture of 224 a side
_BLURRED = 224
_SAMPLED = (64 / 224, 128 / 224)  # sides of the down-sampled picture, as shares


@dataclass(frozen=True)
class Augmentations:
    """Strengths and probabilities. An instance is the Augment of train.model.Wanted."""

    crop: float = 0.08  # least share of the area; 1: none
    flip: float = 0.5
    jitter: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # of a turn
    grey: float = 0.2
    blur: float = 0.5
    down: float = 0.05  # down- and up-sampling

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "contrast", "brightness", "saturation", "grey", "blur", "down"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        if not 0 < self.crop <= 1 or not 0 <= self.hue <= 0.5:
            raise ValueError("crop must be above 0 and at most 1; hue must lie in 0..0.5")

    def __call__(self, pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Returns a view of a picture uint8 (R, R, 1 or 3), uint8 (R, R, 3)."""
        # All random numbers.
        attempts, chances = random.random((_ATTEMPTS, 2)), random.random(6)
        shifts, order = random.uniform(-1, 1, 4), random.permutation(4)
        places, radius, side = random.random(2), float(random.uniform(*_SIGMA)), int(random.integers(2))

        # Place and size.
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        resolution = image.width
        if self.crop < 1:
            image = cropped(image, box(attempts, places, self.crop, resolution))
        if chances[0] < self.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

        # Colours.
        if chances[1] < self.jitter:
            strengths = (self.brightness, self.contrast, self.saturation, self.hue)
            image = jittered(image, [s * t for s, t in zip(strengths, shifts, strict=True)], order)
        if chances[2] < self.grey:
            image = image.convert("L").convert("RGB")

        # Sharpness.
        if chances[3] < self.blur:
            image = image.filter(ImageFilter.GaussianBlur(radius * resolution / _BLURRED))
        if chances[4] < self.down:
            image = resampled(image, max(1, round(resolution * _SAMPLED[side])))
        return np.asarray(image)


def box(attempts: np.ndarray, places: np.ndarray, least: float, resolution: int) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of a random crop, as of RandomResizedCrop.

    attempts (A, 2) and places (2,) are uniform in 0..1. Areas are uniform from the `least` share on, and
    logarithms of ratios are uniform. The first crop within the picture counts, else the whole picture."""
    for area, ratio in attempts:
        pixels = (least + area * (1 - least)) * resolution**2
        stretch = math.exp(_RATIO * (2 * ratio - 1))
        width, height = (round(math.sqrt(pixels * s)) for s in (stretch, 1 / stretch))
        if 0 < width <= resolution and 0 < height <= resolution:
            left, top = (
                int(place * (resolution - size + 1))
                for place, size in zip(places, (width, height), strict=True)
            )
            return left, top, left + width, top + height
    return 0, 0, resolution, resolution


def cropped(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Returns the pixels of a box at the picture's size, bicubic."""
    # Pillow's argument of that name would also read pixels outside the box.
    return image.crop(box).resize(image.size, Image.Resampling.BICUBIC)


def jittered(image: Image.Image, changes: list[float], order: np.ndarray) -> Image.Image:
    """Returns a picture with changed brightness, contrast, saturation and hue, applied in this order.

    The first three changes are added to the factor 1. That of the hue is a share of a turn."""
    for number in order.tolist():
        change = changes[number]
        if number == 3:
            image = turned(image, change)
        elif change:
            image = _ENHANCERS[number](image).enhance(1 + change)
    return image


def turned(image: Image.Image, turn: float) -> Image.Image:
    """Returns a picture with its hue moved by a share of a turn."""
    steps = int(turn * 255)
    if not steps:
        return image
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + steps) % 256 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def resampled(image: Image.Image, side: int) -> Image.Image:
    """Returns a picture after down-sampling to a side and up-sampling again, both bicubic."""
    small = image.resize((side, side), Image.Resampling.BICUBIC)
    return small.resize(image.size, Image.Resampling.BICUBIC)


_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
