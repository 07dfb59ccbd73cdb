"""The networks of train/models/stylegan2.py: LAFITE's generator and discriminator on StyleGAN2.

Zhou et al., Towards Language-Free Training for Text-to-Image Generation, CVPR 2022; Karras et al., Analyzing
and Improving the Image Quality of StyleGAN, CVPR 2020, "SG2".

The mapping network gives z -> w, without text. At each modulated layer l a caption's embedding h becomes a
condition code c_l. The style that modulates the layer is (LAFITE's "conditional StyleSpace")

    style = "stylespace"    s_l = A_l w,  u_l = B_l [s_l ; c_l]     the paper
    style = "w"             u_l = B_l [c_l ; w]                     the authors' program

The discriminator has one body and two heads: D(x, h) = f_d(x) + <h, f_s(x)>. It returns f_d(x) and f_s(x),
and train/models/losses.py joins them. The generator has skip connections, the discriminator is residual
(SG2 figure 7), and features are not clamped.

The networks draw no random numbers after initialisation: latents, cutoffs and noise are arguments
(train/models/latents.py).

Axes: N samples, C channels, R resolution, L layers with a latent of their own, M modulated layers, P noise
values of a sample, Z W D T width of z, w, h, text layers.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from synth import settings
from train.model import MOST_SIZE
from train.models.layers import (
    GAIN,
    Conv,
    DenseLrelu,
    DownConv,
    DownSkip,
    Linear,
    ModulatedConv,
    ModulatedUpConv,
    ToRGB,
    at_least_float32,
    lrelu_,
    minibatch_deviation,
    upsample,
)

_PACE = 0.01  # of mapping and text layers, relative to the learning rate
_HALF = math.sqrt(0.5)  # of both branches of a residual block
_KINDS = {"style": ("stylespace", "w"), "mbstd_order": ("consecutive", "strided")}


@dataclass(frozen=True)
class Sizes:
    """Sizes of both networks."""

    resolution: int = 256
    text_dim: int = 512  # D, the encoder's
    z_dim: int = 512
    w_dim: int = 512
    mapping_layers: int = 8
    text_width: int = 512  # T, of the two text layers before every modulated layer
    channel_base: int = 32768  # a layer of side r has channel_base / r channels
    channel_max: int = 512  # most channels of a layer
    style: str = "stylespace"  # or w
    mbstd_group: int = 4  # samples that the discriminator compares
    mbstd_order: str = "consecutive"  # samples of a group, or strided: sample i in group i mod (N / group)

    def __post_init__(self) -> None:
        if self.resolution not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(f"resolution is {self.resolution}; it must be a power of two from 8 to 1024")
        for name, allowed in _KINDS.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {' or '.join(allowed)}")
        widths = ("text_dim", "z_dim", "w_dim", "text_width", "channel_max", "mbstd_group")
        settings.require_within(self, 1, MOST_SIZE, *widths)
        settings.require_within(self, 1, 1 << 10, "mapping_layers")
        settings.require_within(self, 1, 1 << 24, "channel_base")
        if self.channel_base < self.resolution:
            least = f"the resolution, {self.resolution}"
            raise ValueError(f"channel_base is {self.channel_base}; it must be at least {least}")

    @property
    def sides(self) -> list[int]:
        """4, 8, ... to the resolution."""
        return [2**k for k in range(2, self.resolution.bit_length())]

    @property
    def layers(self) -> int:
        """L: latents of a picture.

        The colours of a side and the next side's first convolution share one latent."""
        return 2 * len(self.sides)

    @property
    def noise_sides(self) -> list[int]:
        """The side of each convolution's noise, in order."""
        return [side for side in self.sides for _ in range(1 if side == 4 else 2)]

    @property
    def noise_size(self) -> int:
        """P: noise values of a picture."""
        return sum(side**2 for side in self.noise_sides)

    def channels(self, side: int) -> int:
        """Returns the number of channels of the features of this side."""
        return min(self.channel_base // side, self.channel_max)


class Mapping(nn.Sequential):
    """z -> w: fully connected layers on a z of unit mean square."""

    def __init__(self, sizes: Sizes) -> None:
        widths = [sizes.z_dim] + [sizes.w_dim] * sizes.mapping_layers
        super().__init__(*[DenseLrelu(i, o, pace=_PACE) for i, o in pairwise(widths)])

    def forward(self, z: Tensor) -> Tensor:
        """(N, Z) -> (N, W)."""
        # Pixel norm of z: Karras et al., Progressive Growing of GANs, ICLR 2018, section 4.2.
        return super().forward(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())


class ConditionCodes(nn.Module):
    """h -> c_l: two fully connected layers for each modulated layer, all computed at once."""

    def __init__(self, sizes: Sizes, count: int) -> None:
        super().__init__()
        self.width = sizes.text_width
        self.first = DenseLrelu(sizes.text_dim, count * self.width, pace=_PACE)
        # (M, T, T), inputs first.
        self.weight = nn.Parameter(torch.randn(count, self.width, self.width) / _PACE)
        self.bias = nn.Parameter(torch.zeros(count, self.width))

    def forward(self, h: Tensor) -> tuple[Tensor, ...]:
        """(N, D) -> M codes (N, T)."""
        hidden = self.first(h).unflatten(1, (-1, self.width)).transpose(0, 1)  # (M, N, T)
        gain = GAIN * _PACE
        scaled = hidden * (gain / math.sqrt(self.width))
        codes = torch.baddbmm(self.bias[:, None], scaled, self.weight, beta=gain)  # (M, N, T)
        return lrelu_(codes).unbind()


class StyleSpace(nn.Module):
    """The style of a layer from [s ; c] (the paper).

    s has no bias at first, so that u has the same initial spread in both forms."""

    def __init__(self, sizes: Sizes, channels: int) -> None:
        super().__init__()
        self.unconditional = Linear(sizes.w_dim, channels)
        self.conditional = Linear(channels + sizes.text_width, channels, bias=1.0)

    def forward(self, w: Tensor, code: Tensor) -> Tensor:
        """(N, W), (N, T) -> u (N, C)."""
        return self.conditional(torch.cat([self.unconditional(w), code], 1))


class WStyle(Linear):
    """The style of a layer from [c ; w] (the authors' program)."""

    def __init__(self, sizes: Sizes, channels: int) -> None:
        super().__init__(sizes.text_width + sizes.w_dim, channels, bias=1.0)

    def forward(self, w: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        """(N, W), (N, T) -> u (N, C)."""
        return super().forward(torch.cat([code, w], 1))


class Synthesis(nn.Module):
    """Latents and captions -> pictures, from a learned 4 x 4 constant upwards.

    The colours of all sides are added."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

        # Convolutions: one at 4 x 4, then two per side.
        sides, c = sizes.sides, sizes.channels
        convs: list[ModulatedConv] = [ModulatedConv(c(4), c(4))]
        for side in sides[1:]:
            convs += [ModulatedUpConv(c(side // 2), c(side)), ModulatedConv(c(side), c(side))]

        # Condition codes, styles and colours. Their order determines the first weights.
        style = {"stylespace": StyleSpace, "w": WStyle}[sizes.style]
        self.noise_sides = sizes.noise_sides
        self.constant = nn.Parameter(torch.randn(c(4), 4, 4))
        self.codes = ConditionCodes(sizes, len(convs) + len(sides))
        self.convs = nn.ModuleList(convs)
        self.conv_styles = nn.ModuleList([style(sizes, conv.weight.shape[1]) for conv in convs])
        self.colours = nn.ModuleList([ToRGB(c(side)) for side in sides])
        self.colour_styles = nn.ModuleList([style(sizes, c(side)) for side in sides])

    def forward(self, ws: Tensor, h: Tensor, noise: Tensor, dtype: torch.dtype) -> Tensor:
        """ws (N, L, W), h (N, D), noise (N, P) -> float32 (N, 3, R, R)."""
        # Conditions, noise and the constant.
        w, codes = ws.unbind(1), self.codes(h)  # L (N, W), M (N, T)
        noises = noise.split([side**2 for side in self.noise_sides], 1)  # (N, side^2) each
        x = (
            self.constant.to(dtype)
            .expand(ws.shape[0], -1, -1, -1)
            .contiguous(memory_format=torch.channels_last)
        )

        # Convolutions. After the last one of a side, add its colours.
        image: Tensor | None = None
        for i, (conv, style) in enumerate(zip(self.convs, self.conv_styles, strict=True)):
            side = self.noise_sides[i]
            x = conv(x, style(w[i], codes[i]), noises[i].view(-1, 1, side, side))  # (N, C, side, side)
            if i % 2 == 0:
                k = i // 2
                colours = self.colours[k](x, self.colour_styles[k](w[i + 1], codes[len(self.convs) + k]))
                image = colours if image is None else upsample(image) + colours
        assert image is not None
        return image


class Generator(nn.Module):
    """z, h -> pictures."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.mapping = Mapping(sizes)
        self.synthesis = Synthesis(sizes)
        # For pictures that are drawn without `noise`.
        self.register_buffer("fixed_noise", torch.randn(sizes.noise_size))

    def forward(
        self,
        z: Tensor,
        h: Tensor,
        *,
        cutoff: Tensor | None = None,
        noise: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """z (N, Z), h (N, D), noise (N, P) -> float32 (N, 3, R, R), about -1..1.

        If z is (N, 2, Z), `cutoff` (N,) is the first layer of the second z."""
        return self.synthesise(self.latents(z, cutoff), h, noise=noise, dtype=dtype)

    def latents(self, z: Tensor, cutoff: Tensor | None = None) -> Tensor:
        """Returns z as one w per layer (N, L, W).

        Layers from the cutoff on take the second z (style mixing, in one pass)."""
        layers = self.sizes.layers
        if cutoff is None:
            return self.mapping(z)[:, None].expand(-1, layers, -1)

        # Style mixing.
        w = self.mapping(z.flatten(0, 1)).unflatten(0, (-1, 2))  # (N, 2, W)
        mixed = torch.arange(layers, device=z.device) >= cutoff[:, None]  # (N, L)
        return torch.where(mixed[:, :, None], w[:, 1:], w[:, :1])

    def synthesise(
        self, ws: Tensor, h: Tensor, *, noise: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """ws (N, L, W), h (N, D) -> float32 (N, 3, R, R).

        Features are in `dtype`. If `noise` is None, uses the fixed noise."""
        if noise is None:
            noise = self.fixed_noise.expand(ws.shape[0], -1)  # type: ignore[operator]
        return self.synthesis(ws, h, noise, dtype)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a parallel skip, to half the side (SG2 figure 7c)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = Conv(inputs, inputs, 3)
        self.down = DownConv(inputs, outputs, gain=GAIN * _HALF)
        self.skip = DownSkip(inputs, outputs, gain=_HALF)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H/2, W/2)."""
        return self.down(self.conv(x)) + self.skip(x)


class Discriminator(nn.Module):
    """x -> f_d(x), the realism of the picture, and f_s(x), its content."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        c = sizes.channels
        self.sizes = sizes

        # Body, down to a side of 4.
        self.colours = Conv(3, c(sizes.resolution), 1)
        blocks = [DiscriminatorBlock(c(side), c(side // 2)) for side in sizes.sides[:0:-1]]
        self.blocks = nn.Sequential(*blocks)

        # The deviation's channel, then both heads.
        self.conv = Conv(c(4) + 1, c(4), 3)
        self.dense = DenseLrelu(c(4) * 16, c(4))
        self.score = Linear(c(4), 1)
        self.meaning = Linear(c(4), sizes.text_dim)

    def forward(self, images: Tensor, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        """(N, 3, R, R) -> f_d (N,) and f_s (N, D), float32; features down to a side of 4 in `dtype`."""
        x = self.colours(images.to(dtype, memory_format=torch.channels_last))  # (N, C, R, R)
        group, strided = self.sizes.mbstd_group, self.sizes.mbstd_order == "strided"
        x = minibatch_deviation(at_least_float32(self.blocks(x)), group, strided=strided)  # (N, C + 1, 4, 4)
        q = self.dense(self.conv(x).flatten(1))  # (N, C)
        return self.score(q).squeeze(1), self.meaning(q)
