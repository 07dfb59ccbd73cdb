"""Random numbers of a training step. Every sample has a stream of its own, a function of (seed, use, its global number), so a rank or a
micro-batch draws the numbers of its samples alone, and they are those of the global batch.

A stream is torch's generator of the device (numbers differ between devices), started from a 64-bit mix of the three.

Axes: N samples, L layers, P noise values of a sample, R resolution, Z width of z.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.models.stylegan2 import Config

_MASK = 2**64 - 1


@dataclass(frozen=True)
class Latents:
    """What a generator needs beside captions."""

    z: Tensor  # (N, 2, Z)
    cutoff: Tensor  # (N,): the layer from which the second z takes over; L: none
    noise: Tensor  # (N, P)


def draw_latents(config: Config, seed: int, use: int, numbers: Sequence[int], *, mixing: float = 0.9, device: str = "cpu") -> Latents:
    """Latents of the samples with these global numbers; a share `mixing` of them changes z at a uniform layer 1 .. L - 1."""
    width, layers = 2 * config.z_dim, config.layers
    normal, uniform = draw(seed, use, numbers, width + config.noise_size, device=device)
    chosen = 1 + (uniform[:, 1] * (layers - 1)).long().clamp(max=layers - 2)
    cutoff = torch.where(uniform[:, 0] < mixing, chosen, layers)
    return Latents(normal[:, :width].unflatten(1, (2, -1)), cutoff, normal[:, width:])


def draw_path_noise(config: Config, seed: int, use: int, numbers: Sequence[int], *, device: str = "cpu") -> Tensor:
    """The noise of path lengths, N(0, 1): (N, 3, R, R)."""
    normal, _ = draw(seed, use, numbers, 3 * config.resolution**2, device=device)
    return normal.unflatten(1, (3, config.resolution, config.resolution))


def draw(seed: int, use: int, numbers: Sequence[int], size: int, *, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """For each sample, from its own stream: `size` values N(0, 1), (N, size), and two uniform on [0, 1), (N, 2)."""
    generator = torch.Generator(device)
    normal, uniform = torch.empty(len(numbers), size, device=device), torch.empty(len(numbers), 2, device=device)
    for i, number in enumerate(numbers):
        generator.manual_seed(mixed(seed, use, number))
        normal[i].normal_(generator=generator)
        uniform[i].uniform_(generator=generator)
    return normal, uniform


def mixed(*numbers: int) -> int:
    """64 bits that any change of the numbers or of their order changes wholly (the finaliser of SplitMix64, once a number)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state
