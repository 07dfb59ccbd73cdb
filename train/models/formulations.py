"""Formulations of diffusion as one table of coefficients (Karras et al., EDM, NeurIPS 2022, table 1).

A noised picture is y = x + sigma n with n ~ N(0, 1). A network F becomes a denoiser by

    D(y; sigma) = c_skip y + c_out F(c_in y; c_noise)        equation 7

and its loss is the squared error of F itself, so every noise level has unit weight on the network's output:

    formulation   c_in                  c_skip            c_out             F predicts
    flow          1 / (1 + s)           1 / (1 + s)       -s / (1 + s)      rectified flow's velocity n - x
    edm           1 / sqrt(s^2 + d^2)   d^2 / (s^2 + d^2) s d / sqrt(...)   EDM's own target, unit variance
    ddpm          1 / sqrt(1 + s^2)     1                 -s                the noise n

with s = sigma and d = sigma_data, the deviation of the pictures. In training, ln sigma ~ N(mean, deviation).
ddpm takes the levels of latent diffusion instead: T = 1000 steps. The roots of their betas are evenly spaced
from sqrt(.00085) to sqrt(.012).

Axes: N samples.
"""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

FORMULATIONS = ("flow", "edm", "ddpm")

_STEPS = 1000  # T of ddpm
_BETAS = (0.00085, 0.012)


class Coefficients(NamedTuple):
    """Coefficients of samples, (N,) each."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_noise: Tensor


def coefficients(formulation: str, sigma: Tensor, sigma_data: float) -> Coefficients:
    """Returns the coefficients of noise levels (N,)."""
    noise = sigma.log() / 4
    if formulation == "flow":
        return Coefficients(1 / (1 + sigma), 1 / (1 + sigma), -sigma / (1 + sigma), noise)
    if formulation == "edm":
        square = sigma**2 + sigma_data**2
        return Coefficients(
            square.rsqrt(), sigma_data**2 / square, sigma * sigma_data * square.rsqrt(), noise
        )
    return Coefficients((1 + sigma**2).rsqrt(), torch.ones_like(sigma), -sigma, noise)


def levels(formulation: str, normal: Tensor, uniform: Tensor, mean: float, deviation: float) -> Tensor:
    """Returns noise levels of training (N,) from numbers N(0, 1) and uniform on [0, 1)."""
    if formulation != "ddpm":
        return (mean + deviation * normal).exp()
    table = ddpm_levels().to(uniform.device, uniform.dtype)
    return table[(uniform * _STEPS).long()]


@cache
def ddpm_levels() -> Tensor:
    """Returns sigma of every step of ddpm, in ascending order: float64 (1000,)."""
    low, high = (beta**0.5 for beta in _BETAS)
    betas = torch.linspace(low, high, _STEPS, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(dim=0)  # alpha bar
    return ((1 - kept) / kept).sqrt()


def column(values: Tensor) -> Tensor:
    """Returns values (N,) as (N, 1, 1, 1)."""
    return values[:, None, None, None]
