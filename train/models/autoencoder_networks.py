"""The networks of the KL autoencoder of latent diffusion (Rombach et al., CVPR 2022), and its patch critic.

Layers and names of parameters are those of AutoencoderKL in diffusers, so that its weights load. There,
quant_conv and post_quant_conv stand outside of the two networks. The order in memory is channels first: on
a CPU, the gradient of a group norm takes up to 18 times as long in channels-last order.

Axes: N samples, R resolution, C channels of a level, S its side, P = S S pixels, K planes of a latent.
"""

import itertools
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from synth import settings
from train.model import MOST_SIZE

_EPS = 1e-6  # of every norm
_LEAST, _MOST = -30.0, 20.0  # of the logarithm of a variance


@dataclass(frozen=True)
class AutoencoderSizes:
    """Sizes of the networks."""

    resolution: int = 64
    channels: tuple[int, ...] = (16, 48, 96)  # by level; each level has half the side of the one before
    blocks: int = 1  # residual blocks of a level on the way down; one more on the way up
    planes: int = 4  # K
    groups: int = 8  # of channels, in every norm
    attention: bool = True  # of all pixels to each other, in the middle
    critic_channels: int = 32  # of the critic's first layer
    critic_layers: int = 2  # strided ones after the first

    def __post_init__(self) -> None:
        names = ("resolution", "blocks", "planes", "groups", "critic_channels", "critic_layers")
        settings.require_within(self, 1, MOST_SIZE, *names)
        if not self.channels or any(not 1 <= c <= MOST_SIZE or c % self.groups for c in self.channels):
            allowed = f"a multiple of groups, {self.groups}, and at most {MOST_SIZE:,}"
            raise ValueError(f"channels is {self.channels}; each must be {allowed}")
        if self.resolution % self.factor:
            raise ValueError(
                f"resolution is {self.resolution}; it must be a multiple of {self.factor}, by channels"
            )

    @property
    def factor(self) -> int:
        """The side of a picture over the side of its latent."""
        return 1 << (len(self.channels) - 1)

    @property
    def side(self) -> int:
        """The side of a latent."""
        return self.resolution // self.factor


@dataclass(frozen=True)
class Posterior:
    """The normal distributions of latents, with independent values."""

    mean: Tensor  # (N, K, S, S)
    log_variance: Tensor  # (N, K, S, S)

    def drawn(self, normal: Tensor) -> Tensor:
        """Returns latents, from standard normal values of their shape."""
        return self.mean + (self.log_variance / 2).exp() * normal

    def divergence(self) -> Tensor:
        """Returns the Kullback-Leibler divergence from the standard normal distribution, (N,)."""
        values = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return values.sum(dim=(1, 2, 3)) / 2


def _norm(groups: int, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=_EPS)


class ConvBlock(nn.Module):
    """Two convolutions beside a skip connection."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(groups, channels), nn.Conv2d(channels, out, 3, padding=1)
        self.norm2, self.conv2 = _norm(groups, out), nn.Conv2d(out, out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out, 1) if channels != out else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, out, S, S) from x (N, C, S, S)."""
        h = self.conv1(functional.silu(self.norm1(x)))
        h = self.conv2(functional.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class PixelAttention(nn.Module):
    """Attention of all pixels to each other, with one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.group_norm = _norm(groups, channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (N, C, S, S), mixed."""
        rows = self.group_norm(x).flatten(2).mT  # (N, P, C)
        mixed = functional.scaled_dot_product_attention(self.to_q(rows), self.to_k(rows), self.to_v(rows))
        return x + self.to_out[0](mixed).mT.reshape(x.shape)


class Middle(nn.Module):
    """Two blocks at the side of the latents, with attention between them if there is any."""

    def __init__(self, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ConvBlock(channels, channels, groups) for _ in range(2))
        self.attentions = nn.ModuleList([PixelAttention(channels, groups)] if attention else [])

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (N, C, S, S) after the blocks."""
        h = self.resnets[0](x)
        for layer in self.attentions:
            h = layer(h)
        return self.resnets[1](h)


class Halving(nn.Module):
    """A strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, S / 2, S / 2) from x (N, C, S, S)."""
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Doubling(nn.Module):
    """A convolution of a picture with every pixel repeated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, 2 S, 2 S) from x (N, C, S, S)."""
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class DownLevel(nn.Module):
    """The blocks of a level on the way down, then the step to the next level."""

    def __init__(self, channels: int, out: int, sizes: AutoencoderSizes, *, last: bool) -> None:
        super().__init__()
        widths = [channels, *[out] * sizes.blocks]
        self.resnets = nn.ModuleList(ConvBlock(a, b, sizes.groups) for a, b in itertools.pairwise(widths))
        self.downsamplers = nn.ModuleList([] if last else [Halving(out)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input of the next level."""
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class UpLevel(nn.Module):
    """The blocks of a level on the way up, then the step to the next level."""

    def __init__(self, channels: int, out: int, sizes: AutoencoderSizes, *, last: bool) -> None:
        super().__init__()
        widths = [channels, *[out] * (sizes.blocks + 1)]
        self.resnets = nn.ModuleList(ConvBlock(a, b, sizes.groups) for a, b in itertools.pairwise(widths))
        self.upsamplers = nn.ModuleList([] if last else [Doubling(out)])

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input of the next level."""
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class LatentEncoder(nn.Module):
    """Pictures -> distributions of latents."""

    def __init__(self, sizes: AutoencoderSizes) -> None:
        super().__init__()
        widths, last = (sizes.channels[0], *sizes.channels), len(sizes.channels) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            DownLevel(a, b, sizes, last=number == last)
            for number, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.mid_block = Middle(widths[-1], sizes.groups, attention=sizes.attention)
        self.conv_norm_out = _norm(sizes.groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * sizes.planes, 3, padding=1)
        self.quant_conv = nn.Conv2d(2 * sizes.planes, 2 * sizes.planes, 1)

    def forward(self, pictures: Tensor) -> Posterior:
        """Returns the distributions of the latents of pictures (N, 3, R, R) in -1..1."""
        h = self.conv_in(pictures)
        for level in self.down_blocks:
            h = level(h)
        h = self.conv_out(functional.silu(self.conv_norm_out(self.mid_block(h))))
        mean, log_variance = self.quant_conv(h).to(pictures.dtype).chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(_LEAST, _MOST))


class LatentDecoder(nn.Module):
    """Latents -> pictures."""

    def __init__(self, sizes: AutoencoderSizes) -> None:
        super().__init__()
        widths, last = (sizes.channels[-1], *reversed(sizes.channels)), len(sizes.channels) - 1
        self.post_quant_conv = nn.Conv2d(sizes.planes, sizes.planes, 1)
        self.conv_in = nn.Conv2d(sizes.planes, widths[0], 3, padding=1)
        self.mid_block = Middle(widths[0], sizes.groups, attention=sizes.attention)
        self.up_blocks = nn.ModuleList(
            UpLevel(a, b, sizes, last=number == last)
            for number, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.conv_norm_out = _norm(sizes.groups, widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Returns pictures (N, 3, R, R), about -1..1, of latents (N, K, S, S)."""
        h = self.conv_in(self.post_quant_conv(latents))
        h = self.mid_block(h)
        for level in self.up_blocks:
            h = level(h)
        return self.conv_out(functional.silu(self.conv_norm_out(h))).to(latents.dtype)


class PatchCritic(nn.Sequential):
    """A verdict on every patch of a picture (Isola et al., CVPR 2017): pictures -> logits (N, 1, A, A).

    Its norms act within a sample, so that no verdict depends on the rest of the batch."""

    def __init__(self, sizes: AutoencoderSizes) -> None:
        widths = [sizes.critic_channels << min(level, 3) for level in range(sizes.critic_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for number, (a, b) in enumerate(itertools.pairwise((*widths, widths[-1]))):
            stride = 2 if number < sizes.critic_layers else 1
            layers += [nn.Conv2d(a, b, 4, stride, 1, bias=False), _norm(1, b), nn.LeakyReLU(0.2)]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
