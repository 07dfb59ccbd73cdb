"""Latents, style-mixing cutoffs, noise maps and views of a StyleGAN2 training step.

Axes: N samples, L layers, P noise values of a sample, R resolution, Z width of z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.randomness import draw
from train.models.stylegan2_networks import Sizes

_CUTOFF = 16  # added to a use of random numbers: the cutoff of a whole batch


@dataclass(frozen=True)
class Latents:
    """The random inputs of a generator."""

    z: Tensor  # (N, 2, Z)
    cutoff: Tensor  # (N,): the first layer of the second z; L: none
    noise: Tensor  # (N, P)


@dataclass(frozen=True)
class Square:
    """The part of every picture of a batch that the encoder sees, in pixels."""

    side: int
    left: int  # of the picture; of the canvas, if the picture is smaller than the encoder's
    top: int


def draw_latents(
    sizes: Sizes,
    seed: int,
    use: int,
    numbers: Sequence[int],
    *,
    mixing: float = 0.9,
    batch: int | None = None,
    device: str = "cpu",
) -> Latents:
    """Returns the latents of the samples with these global numbers.

    A share `mixing` of them changes z at a uniform layer 1 .. L - 1. If `batch` is given, all samples have
    one cutoff, that of the batch with this number."""
    width, layers = 2 * sizes.z_dim, sizes.layers
    normal, uniform = draw(seed, use, numbers, width + sizes.noise_size, device=device)  # (N, 2Z + P), (N, 2)
    if batch is not None:
        uniform = draw(seed, _CUTOFF + use, [batch], 0, device=device)[1].expand(len(numbers), 2)

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


def draw_square(resolution: int, size: int, seed: int, use: int, batch: int) -> Square:
    """Returns the square of a batch's pictures that an encoder of `size` pixels sees (LAFITE's program).

    From `size` pixels on it is a random part of the picture, with a side of R/2 .. R - 1. Below, it is the
    whole picture at a random place of the encoder's canvas."""
    _, uniform = draw(seed, use, [batch], 0, uniforms=3)
    scale, x, y = uniform[0].tolist()
    side = int(resolution / 2 * (1 + scale)) if resolution >= size else resolution
    room = max(resolution, size) - side
    return Square(side, int(room * x), int(room * y))
