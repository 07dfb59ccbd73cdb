"""Random numbers of models: in a training step by sample number, in drawing by picture number.

Every sample has its own stream, a function of (seed, use, global number). So a rank or a micro-batch draws
only the numbers of its samples, and gets those of the global batch. A training stream is torch's generator
of the device, seeded with a 64-bit mix of the three. Its numbers differ between devices. A drawing stream is
NumPy's Philox, equal on every device.

Axes: N samples or pictures.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_MASK = 2**64 - 1


def draw(
    seed: int, use: int, numbers: Sequence[int], size: int, *, uniforms: int = 2, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Returns `size` values N(0, 1), (N, size), and some uniform on [0, 1), (N, uniforms).

    Each row has its sample's own stream."""
    generator = torch.Generator(device)
    normal = torch.empty(len(numbers), size, device=device)
    uniform = torch.empty(len(numbers), uniforms, device=device)
    for i, number in enumerate(numbers):
        generator.manual_seed(mixed(seed, use, number))
        normal[i].normal_(generator=generator)
        uniform[i].uniform_(generator=generator)
    return normal, uniform


def mixed(*numbers: int) -> int:
    """Returns 64 bits that change wholly with any number and with their order.

    Applies SplitMix64's finaliser once per number."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def of_pictures(seed: int, numbers: Sequence[int], size: int, *, use: int = 0) -> Tensor:
    """Returns `size` values N(0, 1) of each picture number: float32 (N, size), on the CPU."""
    rows = [_of_picture(seed, use, number, size) for number in numbers]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, size)


def _of_picture(seed: int, use: int, number: int, size: int) -> np.ndarray:
    key, counter = np.array([seed, use], np.uint64), np.array([0, 0, number, 0], np.uint64)
    stream = np.random.Philox(key=key, counter=counter)
    return np.random.Generator(stream).standard_normal(size, dtype=np.float32)
