"""Moving averages of weights, and Adam for a network with a lazy regulariser.

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, appendix B.
"""

import math
from collections.abc import Callable

import torch
from torch import nn


def decay(batch: int, images_seen: int, *, half_life: float, ramp_up: float = 0.05) -> float:
    """Returns the share of the old average that remains after a batch.

    The weight halves every `half_life` images, or every `ramp_up` of the images seen if that is less."""
    life = min(half_life, ramp_up * images_seen) if ramp_up else half_life
    return 0.5 ** (batch / life) if life else 0.0


def of_width(width: float) -> Callable[[int, int], float]:
    """Returns the law of an average over a constant share of the past (Karras et al., EDM2, CVPR 2024,
    equations 121 to 127).

    `width`, above 0 and below .288, is relative: the deviation of the averaged times over the whole time. The
    law gives the share of the old average that remains between two numbers of images seen."""
    # The width of t^gamma on 0..1 is sqrt((gamma + 1) / ((gamma + 2)^2 (gamma + 3))).
    low, high = 0.0, 1e4
    for _ in range(100):
        gamma = (low + high) / 2
        deviation = math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))
        low, high = (gamma, high) if deviation > width else (low, gamma)
    return lambda before, after: (before / after) ** (low + 1)


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, remains: float) -> None:
    """Moves an average towards a model, in place. Copies buffers."""
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - remains)
    for old, new in zip(average.buffers(), model.buffers(), strict=True):
        old.copy_(new)


def lazy_adam(lr: float, betas: tuple[float, float], every: int) -> tuple[float, tuple[float, float]]:
    """Returns learning rate and betas for a network with a regulariser step after each `every` main steps.

    0 means never. The caller multiplies the regulariser's loss by `every`."""
    c = every / (every + 1) if every else 1.0
    return c * lr, (betas[0] ** c, betas[1] ** c)
