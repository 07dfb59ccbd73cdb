"""Weights of a denoiser for pictures of twice or half the side: its U-Net has one outer level more or fewer.

Words that are learned on small pictures serve on larger ones, and a picture of half the side costs half
as much (after Karras et al., Progressive Growing, ICLR 2018). Inner levels keep their weights, and read
about what they read before:

    twice the side  first kernels copy neighbours into channels, strided ones sum means of 2 x 2 pixels
    half the side   the first kernel does what both kernels of the removed level did; its block is dropped

Both are exact for pictures of blocks of 2 x 2 equal pixels, the second one except at the border. The mean of
a block has half a pixel's noise, so the noise embedding turns by ln 2 of ln sigma. The factor c_in is not
corrected. All that writes pictures, and the rest of a new level, have first weights.

Names of tensors are those of denoiser.Denoiser. Axes: C channels, K planes of a picture.
"""

import itertools
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from train.models.denoiser import Sizes
from train.models.unet import frequencies

_LEVEL = re.compile(r"(unet\.(?:down|shrink|grow|up)\.)(\d+)(\..*)")
_ENDS = ("unet.first.", "unet.norm.", "unet.last.")  # read and write pictures
_FIRST, _SHRINK, _EMBED = "unet.first", "unet.shrink.0", "unet.embed.0.weight"
# For pixel 2 I - 2 + k of five about a mean I: its tap in the strided kernel, and its tap in the first one.
_TAPS = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2))


def fits(base: Sizes, sizes: Sizes) -> bool:
    """Returns True if one of two denoisers of pictures has one outer level more than the other, at twice the
    side.

    All else must be equal."""
    small, large = sorted((base, sizes), key=lambda s: s.resolution)
    inner = {"resolution": large.resolution // 2, "channels": large.channels[1:]}
    return not large.latents and {**vars(large), **inner} == vars(small)


def refitted(base: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a base's weights for a denoiser with first weights. It may have one level more or fewer."""
    more = _levels(first) - _levels(base)
    if not more:
        return dict(base)
    weights = {**first, **_moved(base, more)}
    weights[_EMBED] = _turned(base[_EMBED], more)
    if more > 0:
        kernels = _of_means(base[f"{_FIRST}.weight"], len(first[f"{_FIRST}.weight"]))
        weights[f"{_FIRST}.weight"], weights[f"{_SHRINK}.weight"] = kernels
        weights[f"{_FIRST}.bias"] = torch.zeros_like(first[f"{_FIRST}.bias"])
        weights[f"{_SHRINK}.bias"] = base[f"{_FIRST}.bias"]
        return weights
    pair = base[f"{_FIRST}.weight"], base[f"{_SHRINK}.weight"]
    weights[f"{_FIRST}.weight"] = _joined(*pair)
    weights[f"{_FIRST}.bias"] = base[f"{_SHRINK}.bias"] + pair[1].sum(dim=(2, 3)) @ base[f"{_FIRST}.bias"]
    return weights


def _levels(tensors: Mapping[str, Tensor]) -> int:
    """Returns the number of strided convolutions."""
    return sum(name.startswith("unet.shrink.") and name.endswith(".bias") for name in tensors)


def _moved(base: Mapping[str, Tensor], by: int) -> dict[str, Tensor]:
    """Returns the base's weights, with another number for each level. Leaves out ends and levels below 0."""
    weights = {}
    for name, tensor in base.items():
        level = _LEVEL.fullmatch(name)
        if level and int(level[2]) + by >= 0:
            weights[f"{level[1]}{int(level[2]) + by}{level[3]}"] = tensor
        elif not level and not name.startswith(_ENDS):
            weights[name] = tensor
    return weights


def _turned(embedding: Tensor, more: int) -> Tensor:
    """Returns the first matrix of a noise embedding. With one level more it reads 2 sigma as the base read
    sigma, with one fewer sigma as the base read 2 sigma."""
    cosines, sines = embedding.chunk(2, dim=1)
    angles = more * frequencies().to(embedding) * math.log(2) / 4  # c_noise is ln(sigma) / 4
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cosines * cos - sines * sin, cosines * sin + sines * cos], dim=1)


def _of_means(kernel: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Returns two kernels, the second of stride 2, that together apply a kernel (C, K, 3, 3) to means.

    The first one has `channels` output channels, at least 9 K; those beyond stay zero. Two kernels of three
    reach five pixels in a row of six; the fifth counts twice."""
    out, planes = kernel.shape[:2]
    copies, sums = kernel.new_zeros(channels, planes, 3, 3), kernel.new_zeros(out, channels, 3, 3)
    for down, across, plane in itertools.product(range(3), range(3), range(planes)):
        copies[(3 * down + across) * planes + plane, plane, down, across] = 1
    for down, across in itertools.product(range(6), range(6)):
        (row, first_row), (column, first_column) = _TAPS[min(down, 4)], _TAPS[min(across, 4)]
        begin = (3 * first_row + first_column) * planes
        sums[:, begin : begin + planes, row, column] += kernel[:, :, down // 2, across // 2] / 4
    return copies, sums


def _joined(first: Tensor, strided: Tensor) -> Tensor:
    """Returns the kernel (C, K, 3, 3) that does on small pictures what two kernels do, one of them strided,
    if every pixel becomes 2 x 2 equal ones."""
    joined = first.new_zeros(len(strided), first.shape[1], 3, 3)
    for i, j, m, n in itertools.product(range(3), repeat=4):
        joined[:, :, (i + m) // 2, (j + n) // 2] += strided[:, :, i, j] @ first[:, :, m, n]
    return joined
