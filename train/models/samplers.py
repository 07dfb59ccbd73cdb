"""Samplers: from noise to pictures along the probability-flow ODE dy / dsigma = (y - D(y; sigma)) / sigma.

    euler   one step of the ODE per level (DDIM without noise, in these coordinates)
    heun    a second denoiser call per level corrects the step (EDM, algorithm 1)
    ddim    euler on levels of ddpm

Levels of the first two follow EDM's equation 5 with rho 7, those of the last are evenly spaced in time.
Guidance moves the denoised picture away from another prediction g: g + w (D - g). This w is 1 + w of Ho &
Salimans, 2022, equation 6.

Axes: N pictures, C planes, S side, K levels.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from train.models.formulations import ddpm_levels

SAMPLERS = ("heun", "euler", "ddim")

Denoise = Callable[[Tensor, float], Tensor]  # pictures (N, C, S, S) and sigma -> denoised pictures
_RHO = 7.0


def karras_levels(steps: int, least: float, most: float) -> list[float]:
    """Returns noise levels in descending order, then 0 (EDM, equation 5)."""
    ends = most ** (1 / _RHO), least ** (1 / _RHO)
    shares = [step / max(steps - 1, 1) for step in range(steps)]
    return [*((ends[0] + share * (ends[1] - ends[0])) ** _RHO for share in shares), 0.0]


def ddim_levels(steps: int) -> list[float]:
    """Returns the levels of ddpm at `steps` evenly spaced times, in descending order, then 0."""
    table = ddpm_levels().tolist()
    return [*(table[len(table) * (step + 1) // steps - 1] for step in reversed(range(steps))), 0.0]


def along(denoiser: Denoise, y: Tensor, levels: Sequence[float], *, heun: bool) -> Tensor:
    """Returns pictures (N, C, S, S) at the last level, from noised pictures at the first.

    Levels may ascend, which inverts drawing; then the last one must not be 0."""
    for now, then in itertools.pairwise(levels):
        y = step(denoiser, y, now, then, heun=heun)
    return y


def step(denoiser: Denoise, y: Tensor, now: float, then: float, *, heun: bool) -> Tensor:
    """Returns noised pictures (N, C, S, S) at the level `then`, from those at the level `now`."""
    slope = (y - denoiser(y, now)) / now
    following = y + (then - now) * slope
    if heun and then > 0:
        corrected = (following - denoiser(following, then)) / then
        following = y + (then - now) * (slope + corrected) / 2
    return following


def guided(strong: Tensor, weak: Tensor, weight: float) -> Tensor:
    """Returns the prediction that is `weight` times as far from the weak one as the strong one."""
    return torch.lerp(weak, strong, weight)
