"""A lean U-Net that reads words: the denoiser of train/models/diffusion.py.

Each level has one residual block on the way down and one on the way up. Widths change in the strided
convolutions, so nothing wide runs at full resolution. Normalisation is over channels at every pixel, which
needs no copy in channels-last order. The noise level acts as scale and shift in every block (Dhariwal &
Nichol, Diffusion Models Beat GANs, 2021). Texts act through cross-attention alone: in a race, words that
also entered the noise embedding left cross-attention unused.

Pixels know their places: a learned vector of every pixel is added to what attention and feed-forward layers
read. Without it, places and relations in a text reach the picture through the edges of convolutions alone.

Axes: N samples, C channels of a level, S side of a level, P = S S pixels, L text states, D their width,
E width of the noise embedding, H heads, K width of a head.
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.model import Control

_HEAD = 32  # K, channels of a head
_LEAST_FREQUENCY, _MOST_FREQUENCY = 0.25, 16.0  # of the noise embedding, per unit of ln sigma / 4
_FREQUENCIES = 32
_ABSENT = -1e4  # added to the scores of absent states
_LONGER = 2.0  # factor on the first queries and keys
_PLACE = 2.5  # amplitude of the first vectors of places; normalised pixels have the deviation 1


def frequencies() -> Tensor:
    """Returns the frequencies of the noise embedding, per unit of c_noise."""
    return torch.linspace(math.log(_LEAST_FREQUENCY), math.log(_MOST_FREQUENCY), _FREQUENCIES).exp()


def heads_of(width: int) -> int:
    """Returns the number of attention heads of a width, or 0 if they cannot divide it evenly."""
    heads = max(1, width // _HEAD)
    return 0 if width % heads else heads


def silence(layer: nn.Linear | nn.Conv2d) -> None:
    """Sets a layer's weights to zero, so that it adds nothing at first."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def places(side: int, channels: int) -> Tensor:
    """Returns first vectors of the pixels of a level, (P, C): sines and cosines of both coordinates.

    Frequencies rise geometrically, from a quarter of a turn over the side to a turn in four pixels."""
    coordinates = torch.pi * (torch.arange(side) + 0.5) / side
    angles = coordinates[:, None] * torch.logspace(-1, math.log2(side / 2), channels // 4, base=2.0)
    waves = _PLACE * torch.cat([angles.sin(), angles.cos()], dim=1)  # (S, C / 2)
    down, across = waves[:, None].expand(-1, side, -1), waves.expand(side, -1, -1)
    return torch.cat([down, across], dim=2).reshape(side * side, channels)


class Attention(nn.Module):
    """Attention of pixels or words to themselves, or to text states. Its output starts at zero."""

    def __init__(self, width: int, context: int | None = None) -> None:
        super().__init__()
        self.heads, self.crosses, self.place = heads_of(width), context is not None, ""
        self.number = 0  # among the layers of a U-Net that cross
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(context or width, 2 * width, bias=False)
        self.out = nn.Linear(width, width)
        silence(self.out)
        self.control: Control | None = None

    @torch.no_grad()
    def sharpen(self) -> None:
        """Makes first queries and keys longer, so that different pixels prefer different words from the first
        step on."""
        self.query.weight.mul_(_LONGER)
        self.key_value.weight[: len(self.query.weight)].mul_(_LONGER)

    def forward(self, x: Tensor, context: Tensor | None = None, present: Tensor | None = None) -> Tensor:
        """Returns x (N, P, C) mixed by attention. `present`, bool (N, L), leaves out absent states."""
        n, pixels, width = x.shape
        states = x if context is None else self._part(context)
        query = self.query(x).view(n, pixels, self.heads, -1).transpose(1, 2)  # (N, H, P, K)
        key, value = (
            self.key_value(states).view(n, states.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        )  # (N, H, L, K) each

        # Plain products: on a CPU, the gradient of the fused kernel takes ten times as long.
        scores = query / math.sqrt(query.shape[-1]) @ key.mT
        if present is not None:
            scores = scores + torch.where(present, 0.0, _ABSENT)[:, None, None].to(scores.dtype)
        weights = scores.softmax(dim=-1)
        if self.control is not None:
            weights = self.control(weights, self)
        mixed = weights @ value
        return self.out(mixed.transpose(1, 2).reshape(n, pixels, width))

    def _part(self, context: Tensor) -> Tensor:
        """Returns the layer's states (N, L, D) of a context, which may have those of K layers (N, L, K D)."""
        width = self.key_value.in_features
        return context if context.shape[2] == width else context.unflatten(2, (-1, width))[:, :, self.number]


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them. Its output starts at zero."""

    def __init__(self, width: int, factor: int) -> None:
        last = nn.Linear(factor * width, width)
        silence(last)
        super().__init__(nn.Linear(width, factor * width), nn.GELU("tanh"), last)


class PixelNorm(nn.Module):
    """Layer normalisation over the channels of every pixel."""

    def __init__(self, channels: int, affine: bool = True) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns x (N, C, S, S), normalised."""
        rows = functional.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), self.weight, self.bias)
        return rows.permute(0, 3, 1, 2)


class Residual(nn.Module):
    """Two convolutions beside a skip connection. The noise level scales and shifts between them."""

    def __init__(self, channels: int, out: int, embedding: int) -> None:
        super().__init__()
        self.norm, self.conv = PixelNorm(channels), nn.Conv2d(channels, out, 3, padding=1)
        self.level = nn.Linear(embedding, 2 * out)
        self.level_norm, self.last = PixelNorm(out, affine=False), nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()
        for layer in (self.level, self.last):
            silence(layer)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Returns (N, out, S, S) from x (N, C, S, S) and the noise embedding (N, E)."""
        h = self.conv(functional.silu(self.norm(x)))
        scale, shift = self.level(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.last(functional.silu(torch.addcmul(shift, self.level_norm(h), scale + 1)))
        return h + self.skip(x)


class Reading(nn.Module):
    """Attention of a level's pixels to each other (optional) and to the text, then maybe a feed-forward."""

    def __init__(
        self, channels: int, context: int, *, itself: bool, factor: int = 0, side: int | None = None
    ) -> None:
        super().__init__()
        self.position = nn.Parameter(places(side, channels)) if side else None  # None: pixels without places
        self.self_norm = nn.LayerNorm(channels) if itself else None
        self.self_attention = Attention(channels) if itself else None
        self.text_norm, self.text_attention = nn.LayerNorm(channels), Attention(channels, context)
        self.forward_norm = nn.LayerNorm(channels) if factor else None
        self.feed_forward = FeedForward(channels, factor) if factor else None

    def forward(self, x: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns x (N, C, S, S) after attention to text states (N, L, D)."""
        n, channels, side, _ = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(n, side * side, channels)
        place = 0.0 if self.position is None else self.position
        if self.self_attention is not None and self.self_norm is not None:
            rows = rows + self.self_attention(self.self_norm(rows) + place)
        rows = rows + self.text_attention(self.text_norm(rows) + place, context, present)
        if self.feed_forward is not None and self.forward_norm is not None:
            rows = rows + self.feed_forward(self.forward_norm(rows) + place)
        return rows.view(n, side, side, channels).permute(0, 3, 1, 2)


class Level(nn.Module):
    """A residual block, followed by attention if the level has it, and by further such blocks."""

    def __init__(self, block: Residual, reading: Reading | None, *more: "Level") -> None:
        super().__init__()
        self.block, self.reading, self.more = block, reading, nn.ModuleList(more)

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns (N, C, S, S)."""
        h = self.block(x, embedding)
        if self.reading is not None:
            h = self.reading(h, context, present)
        for level in self.more:
            h = level(h, embedding, context, present)
        return h


class UNet(nn.Module):
    """The network F of a denoiser: pictures, noise levels and text states -> pictures. It starts at zero.

    Feed-forward layers are in the middle, and on the way down in levels as wide as the lowest one."""

    def __init__(
        self,
        channels: tuple[int, ...],
        resolution: int,
        context: int,
        *,
        planes: int = 3,
        embedding: int = 128,
        reads: tuple[int, ...] = (4, 8, 16),
        itself: tuple[int, ...] = (4, 8),
        factor: int = 2,
        blocks: int = 1,
        positions: bool = True,
    ) -> None:
        super().__init__()
        sides = [resolution >> level for level in range(len(channels))]
        pairs = list(itertools.pairwise(channels))

        def reading(width: int, side: int, feeds: bool) -> Reading | None:
            if side not in reads:
                return None
            place = side if positions else None
            return Reading(width, context, itself=side in itself, factor=factor if feeds else 0, side=place)

        def stage(enters: int, width: int, side: int, feeds: bool) -> Level:
            widths = [width] * (blocks - 1)
            more = [Level(Residual(c, c, embedding), reading(c, side, feeds)) for c in widths]
            return Level(Residual(enters, width, embedding), reading(width, side, feeds), *more)

        # Noise level.
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies(), persistent=False)
        self.embed = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU()
        )

        # Levels down, the middle, and levels up.
        self.first = nn.Conv2d(planes, channels[0], 3, padding=1)
        down = zip(channels, sides, strict=True)
        self.down = nn.ModuleList(stage(c, c, s, c == channels[-1]) for c, s in down)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.middle = Level(
            Residual(channels[-1], channels[-1], embedding), reading(channels[-1], sides[-1], True)
        )
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in pairs)
        up = zip(channels[:-1], sides, strict=False)
        self.up = nn.ModuleList(stage(2 * c, c, s, False) for c, s in up)

        # Output.
        self.norm, self.last = PixelNorm(channels[0]), nn.Conv2d(channels[0], planes, 3, padding=1)
        silence(self.last)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        layers = 0
        for name, module in self.named_modules():
            if isinstance(module, Attention):
                module.place, module.number = name, layers
                layers += module.crosses

    def forward(self, x: Tensor, level: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns (N, planes, S, S) from x of that shape, c_noise (N,), and text states (N, L, D).

        `present`, bool (N, L), leaves out absent states."""
        angles = level[:, None] * self.frequencies
        embedding = self.embed(torch.cat([angles.cos(), angles.sin()], dim=1))

        # Down.
        h, skips = self.first(x.contiguous(memory_format=torch.channels_last)), []
        for number, stage in enumerate(self.down):
            h = stage(h, embedding, context, present)
            if number < len(self.shrink):
                skips.append(h)
                h = self.shrink[number](h)

        # Middle and up.
        h = self.middle(h, embedding, context, present)
        for stage, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            h = functional.interpolate(grow(h), scale_factor=2.0, mode="nearest")
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding, context, present)
        return self.last(functional.silu(self.norm(h)))
