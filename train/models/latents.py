"""Latents, style-mixing cutoffs and noise maps of a StyleGAN2 training step.

Axes: N samples, L layers, P noise values of a sample, R resolution, Z width of z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.randomness import draw
from train.models.stylegan2_networks import Sizes


@dataclass(frozen=True)
class Latents:
    """The random inputs of a generator."""

    z: Tensor  # (N, 2, Z)
    cutoff: Tensor  # (N,): the first layer of the second z; L: none
    noise: Tensor  # (N, P)


def draw_latents(
    sizes: Sizes, seed: int, use: int, numbers: Sequence[int], *, mixing: float = 0.9, device: str = "cpu"
) -> Latents:
    """Returns the latents of the samples with these global numbers.

    A share `mixing` of them changes z at a uniform layer 1 .. L - 1."""
    width, layers = 2 * sizes.z_dim, sizes.layers
    normal, uniform = draw(seed, use, numbers, width + sizes.noise_size, device=device)  # (N, 2Z + P), (N, 2)

    # Style mixing: Karras et al., StyleGAN, CVPR 2019, section 3.1.
    layer = 1 + (uniform[:, 1] * (layers - 1)).long().clamp(max=layers - 2)
    cutoff = torch.where(uniform[:, 0] < mixing, layer, layers)  # (N,)
    return Latents(normal[:, :width].unflatten(1, (2, -1)), cutoff, normal[:, width:])


def draw_path_noise(
    sizes: Sizes, seed: int, use: int, numbers: Sequence[int], *, device: str = "cpu"
) -> Tensor:
    """Returns the noise of path lengths, N(0, 1): (N, 3, R, R)."""
    normal, _ = draw(seed, use, numbers, 3 * sizes.resolution**2, device=device)
    return normal.unflatten(1, (3, sizes.resolution, sizes.resolution))
