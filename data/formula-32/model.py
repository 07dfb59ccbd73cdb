"""Draws pictures of texts by a diffusion of exnihilo. It needs torch, safetensors and numpy alone.

`load()` returns the model in the folder of this file, a Drawer. Its method `draw` returns pictures of Texts.
The drawing options are the fields of Options.

exnihilo wrote this file from the modules that the comments name. SPDX-License-Identifier: Apache-2.0
"""

import base64
import dataclasses
import html
import itertools
import json
import math
import re
import typing
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional


# synth/errors.py
#
# The one exception that a user is meant to read.


class UserError(Exception):
    """One plain sentence for the user: the fault, the allowed values and the remedy. Commands print it and
    exit with code 2."""


# synth/settings.py
#
# Settings: frozen dataclasses from `--set key=value` and from JSON; canonical JSON and its digest.


T = TypeVar("T")


def from_json(kind: type[T], values: dict[str, Any]) -> T:
    """Returns a dataclass from its JSON, with tuples for lists, also of dataclasses. Fields that the class
    names in ADDED may be missing. Raises ValueError if other names differ."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if names != set(values) | (names & set(getattr(kind, "ADDED", ()))):
        wanted, given = ", ".join(sorted(names)), ", ".join(sorted(values))
        raise ValueError(f"{kind.__name__} has the fields {wanted}, not {given}")
    types_of = typing.get_type_hints(kind)
    return kind(**{name: _from_json(types_of[name], value) for name, value in values.items()})


def _from_json(kind: Any, value: Any) -> Any:
    """Returns a value of this type from its JSON, with tuples for lists."""
    if isinstance(value, dict):
        return from_json(kind, value)
    if isinstance(value, list):
        inner = (typing.get_args(kind) or (Any,))[0]
        return tuple(_from_json(inner, item) for item in value)
    return value


# train/model.py
#
# The contract between the training loop and a model.
#
# A model is a module of train/models, found by its name. It holds
#
#     Config                        frozen dataclass of named groups. `model` has `resolution`, and `text_dim`
#                                   if the model reads caption vectors. `training` has `batch`, `precision`
#                                   and `seed`
#     parts(config, context)        -> dict of nn.Module: the networks by name, with their first weights
#     build(parts, config, context) -> Model: the training of these networks
#
# and, if the loop must know something before the networks exist,
#
#     needs(config)                 -> Needs
#     survey(config, samples, base, encoder)
#                                   -> Json: measurements of the set before the first step, such as sigma_data
#                                   or a vocabulary. `base` is the survey of the run that a fine-tuning
#                                   starts from, else empty. `encoder` is that of Context. Rank 0 calls it once.
#                                   config.json and Context.survey hold the result. If the model needs latents,
#                                   they also hold `autoencoder` (sizes, weights) and `latent_scale`, one over
#                                   their deviation
#     grown(module, tensors)        -> dict of Tensor: a base's weights for a part of another size, such as one
#                                   with more words. Without it, sizes must agree
#     grows(base, config)           -> bool: True if `grown` fits weights of the Config `base` though its group
#                                   `model` is another. Without it, these groups must agree
#
# and, if it draws pictures from texts,
#
#     Options                       frozen dataclass of drawing options, such as steps or guidance
#     start(config, numbers, seed)  -> Tensor: the noise of the pictures with these numbers. Row i depends on
#                                   numbers[i] and the seed alone, and is equal on every device
#     draw(parts, start, texts, options, context)
#                                   -> Tensor (N, 3, R, R) in -1..1, differentiable in start, texts and parts.
#                                   Context.load and Context.earlier open the models that options name
#
# and, if its options name other checkpoints,
#
#     opens(options)                -> tuple of their names: images seen of this run (int), or a RUN (str)
#
# and, if it draws around known parts of a picture,
#
#     complete(parts, start, texts, known, options, context)
#                                   -> Tensor (N, 3, R, R) as of `draw`, with the Known parts in it
#
# and, if it turns pictures back into the noise that draws them,
#
#     invert(parts, pictures, texts, options, context)
#                                   -> Tensor like that of `start`: the noise from which `draw` with these texts
#                                   and options gives the pictures (N, 3, R, R) in -1..1
#
# and, if it draws in steps that other code may enter, and by attention that other code may read and change,
#
#     walk(parts, shape, texts, options, context, unguided=0)
#                                   -> Walk: the steps of drawing from noise (N, *shape). The first `unguided`
#                                   pictures are drawn without guidance
#     attention(parts, control)     -> context manager. Inside its block, each attention of the network that
#                                   draws gives its weights to the Control, and takes those that it returns.
#                                   Rows beyond the N pictures are predictions without the texts
#
# and, if it draws by denoising,
#
#     denoiser(parts, texts, options, context)
#                                   -> Callable: noised pictures (N, 3, R, R) and sigma -> denoised ones
#
# and, if it reads the words of texts,
#
#     tokeniser(config, survey)     -> Tokeniser
#     reads(options)                -> the forms of a text that drawing reads: "vectors", "tokens" or both.
#                                   Without it, vectors alone
#
# and, if it encodes pictures and decodes them,
#
#     reconstruct(parts, pictures)  -> Tensor (N, 3, R, R) in -1..1, from pictures of that shape
#
# and, if it learns features of pictures
#
#     features(parts, pictures)     -> Tensor (N, W): features of pictures (N, 3, R, R) in -1..1
#
# and, if configs that need caption tables learn a common space of pictures and texts beside these features,
#
#     embed_pictures(parts, seen)   -> Tensor (N, D): unit embeddings of pictures with the features `seen`
#     embed_texts(parts, tokens)    -> Tensor (N, D): unit embeddings of texts, int64 (N, T)
#
# and, if its ONNX file is to hold a part of drawing alone,
#
#     onnx_call(parts, config)      -> OnnxCall: this part, such as one call of a denoiser
#
# An exported folder holds the code that these reach in one file (train/bundle.py). So they use this checkout,
# torch, safetensors, numpy and the standard library alone, and import at the top of their modules.
#
# train/loop.py trains any such module. train/sampling/draw.py draws from it. train/runs.py opens its runs.
#
# Axes: N samples, V views of a sample, D dimensions of an embedding, R resolution.


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}  # fp64 is for tests
Json = dict[str, Any]


class PictureEncoder(Protocol):
    """The captions' image encoder, frozen. Gradients reach the pictures."""

    def features(self, pictures: Tensor) -> Tensor:
        """Returns unit embeddings (N, D) of pictures (N, 3, R, R) in 0..1."""


class TowerEncoder(PictureEncoder, Protocol):
    """An encoder that gives its text transformer away. Every encoder of caption/encoders.py does."""

    def text_tower(self) -> tuple[Json, list[tuple[str, str]], dict[str, Tensor]]:
        """Returns sizes, merges and weights of a caption.text_towers.TextTower, or raises UserError."""


class CaptionedPicture(NamedTuple):
    """A picture of the set with its captions, for a survey."""

    pixels: np.ndarray  # uint8 (R, R, 3)
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """Prompts, in the forms that models read. At least one form is there."""

    vectors: Tensor | None = None  # (N, D), unit length
    tokens: Tensor | None = None  # int64 (N, T), 0 behind the end
    captions: tuple[str, ...] | None = None  # N texts, for models that have other tokens

    def __len__(self) -> int:
        return len(self._form)

    def __getitem__(self, rows: slice | list[int]) -> "Texts":
        vectors, tokens = (None if form is None else form[rows] for form in (self.vectors, self.tokens))
        captions = self.captions
        if captions is not None:
            captions = captions[rows] if isinstance(rows, slice) else tuple(captions[i] for i in rows)
        return Texts(vectors, tokens, captions)

    def rolled(self, *forms: str) -> "Texts":
        """Returns these texts with some forms changed round: each row has the form of the row before it."""
        rows = {name: getattr(self, name) for name in forms}
        return replace(self, **{name: row.roll(1, 0) for name, row in rows.items() if row is not None})

    @property
    def device(self) -> torch.device:
        """The device of the texts."""
        return self._form.device

    @property
    def _form(self) -> Tensor:
        form = self.vectors if self.vectors is not None else self.tokens
        assert form is not None
        return form


class AttentionLayer(Protocol):
    """An attention of a network."""

    crosses: bool  # to the states of a text; False: to itself
    place: str  # its name in the network


# Receives the weights of an attention, (N, H, P, L), and the layer. Returns weights of the same shape.
# Axes: H heads, P pixels, L states. The words of a text are its last states.
Control = Callable[[Tensor, AttentionLayer], Tensor]


@dataclass(frozen=True)
class Loaded:
    """An opened run: a model with weights, to draw from or to build upon."""

    name: str  # of the model's module
    config: Any
    survey: Json
    parts: dict[str, nn.Module]  # frozen; an average stands in for its part
    averages: dict[str, nn.Module]  # frozen, by the average's name


@dataclass(frozen=True)
class Context:
    """The surroundings of a model: device, precision, survey, and access to other models and ranks."""

    device: torch.device
    dtype: torch.dtype  # of features; parameters and statistics have at least float32
    survey: Json = field(default_factory=dict)
    encoder: PictureEncoder | None = None
    load: Callable[[str], Loaded] | None = None  # opens another RUN: the base of an inversion, an autoencoder
    earlier: Callable[[int], Loaded] | None = None  # opens this run's checkpoint at these images, for drawing
    # Returns the rows of all ranks in the order of sample numbers, with gradient.
    gather: Callable[[Tensor], Tensor] = lambda rows: rows

    @property
    def weights(self) -> torch.dtype:
        """The dtype of parameters and statistics."""
        return torch.promote_types(self.dtype, torch.float32)


# train/models/randomness.py
#
# Random numbers of models: in a training step by sample number, in drawing by picture number.
#
# Every sample has its own stream, a function of (seed, use, global number). So a rank or a micro-batch draws
# only the numbers of its samples, and gets those of the global batch. A training stream is torch's generator
# of the device, seeded with a 64-bit mix of the three. Its numbers differ between devices. A drawing stream is
# NumPy's Philox, equal on every device.
#
# Axes: N samples or pictures.


def of_pictures(seed: int, numbers: Sequence[int], size: int, *, use: int = 0) -> Tensor:
    """Returns `size` values N(0, 1) of each picture number: float32 (N, size), on the CPU."""
    rows = [_of_picture(seed, use, number, size) for number in numbers]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, size)


def _of_picture(seed: int, use: int, number: int, size: int) -> np.ndarray:
    key, counter = np.array([seed, use], np.uint64), np.array([0, 0, number, 0], np.uint64)
    stream = np.random.Philox(key=key, counter=counter)
    return np.random.Generator(stream).standard_normal(size, dtype=np.float32)


# train/models/formulations.py
#
# Formulations of diffusion as one table of coefficients (Karras et al., EDM, NeurIPS 2022, table 1).
#
# A noised picture is y = x + sigma n with n ~ N(0, 1). A network F becomes a denoiser by
#
#     D(y; sigma) = c_skip y + c_out F(c_in y; c_noise)        equation 7
#
# and its loss is the squared error of F itself, so every noise level has unit weight on the network's output:
#
#     formulation   c_in                  c_skip            c_out             F predicts
#     flow          1 / (1 + s)           1 / (1 + s)       -s / (1 + s)      rectified flow's velocity n - x
#     edm           1 / sqrt(s^2 + d^2)   d^2 / (s^2 + d^2) s d / sqrt(...)   EDM's own target, unit variance
#     ddpm          1 / sqrt(1 + s^2)     1                 -s                the noise n
#
# with s = sigma and d = sigma_data, the deviation of the pictures. In training, ln sigma ~ N(mean, deviation).
# ddpm takes the levels of latent diffusion instead: T = 1000 steps. The roots of their betas are evenly spaced
# from sqrt(.00085) to sqrt(.012).
#
# Axes: N samples.


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


# train/models/samplers.py
#
# Samplers: from noise to pictures along the probability-flow ODE dy / dsigma = (y - D(y; sigma)) / sigma.
#
#     euler   one step of the ODE per level (DDIM without noise, in these coordinates)
#     heun    a second denoiser call per level corrects the step (EDM, algorithm 1 without churn)
#
# Levels follow EDM's equation 5 with rho 7. ddpm takes its own levels, evenly spaced in time. Guidance moves
# the denoised picture away from another prediction g: g + w (D - g) (Ho & Salimans, 2022).
#
# Axes: N pictures, C planes, S side, K levels.


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


# train/models/autoencoder_networks.py
#
# The networks of the KL autoencoder of latent diffusion (Rombach et al., CVPR 2022), and its patch critic.
#
# Layers and names of parameters are those of AutoencoderKL in diffusers, so that its weights load. There,
# quant_conv and post_quant_conv stand outside of the two networks. The order in memory is channels first: on
# a CPU, the gradient of a group norm takes up to 18 times as long in channels-last order.
#
# Axes: N samples, R resolution, C channels of a level, S its side, P = S S pixels, K planes of a latent.


_EPS = 1e-6  # of every norm


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
        for name in ("resolution", "blocks", "planes", "groups", "critic_channels", "critic_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not self.channels or any(c < 1 or c % self.groups for c in self.channels):
            raise ValueError(f"channels is {self.channels}; each must be a multiple of groups, {self.groups}")
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


class Doubling(nn.Module):
    """A convolution of a picture with every pixel repeated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns (N, C, 2 S, 2 S) from x (N, C, S, S)."""
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


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


# train/models/unet.py
#
# A lean U-Net that reads words: the denoiser of train/models/diffusion.py.
#
# Each level has one residual block on the way down and one on the way up. Widths change in the strided
# convolutions, so nothing wide runs at full resolution. Normalisation is over channels at every pixel, which
# needs no copy in channels-last order. The noise level acts as scale and shift in every block (Dhariwal &
# Nichol, Diffusion Models Beat GANs, 2021). Texts act through cross-attention alone: in a race, words that
# also entered the noise embedding left cross-attention unused.
#
# Pixels know their places: a learned vector of every pixel is added to what attention and feed-forward layers
# read. Without it, places and relations in a text reach the picture through the edges of convolutions alone.
#
# Axes: N samples, C channels of a level, S side of a level, P = S S pixels, L text states, D their width,
# E width of the noise embedding, H heads, K width of a head.


_HEAD = 32  # K, channels of a head
_LEAST_FREQUENCY, _MOST_FREQUENCY = 0.25, 16.0  # of the noise embedding, per unit of ln sigma / 4
_FREQUENCIES = 32
_ABSENT = -1e4  # added to the scores of absent states
_LONGER = 2.0  # factor on the first queries and keys
_PLACE = 2.5  # amplitude of the first vectors of places; normalised pixels have the deviation 1


def frequencies() -> Tensor:
    """Returns the frequencies of the noise embedding, per unit of c_noise."""
    return torch.linspace(math.log(_LEAST_FREQUENCY), math.log(_MOST_FREQUENCY), _FREQUENCIES).exp()


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
        self.heads, self.crosses, self.place = max(1, width // _HEAD), context is not None, ""
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
    """The network F of a denoiser: pictures, noise levels and text states -> pictures. It starts at zero."""

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

        def reading(width: int, side: int, last: bool) -> Reading | None:
            if side not in reads:
                return None
            place = side if positions else None
            return Reading(width, context, itself=side in itself, factor=factor if last else 0, side=place)

        def stage(enters: int, width: int, side: int, last: bool) -> Level:
            widths = [width] * (blocks - 1)
            more = [Level(Residual(c, c, embedding), reading(c, side, last)) for c in widths]
            return Level(Residual(enters, width, embedding), reading(width, side, last), *more)

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
        """Returns (N, 3, R, R) from pictures of that shape, noise levels (N,), and text states (N, L, D).

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


# train/models/words.py
#
# Texts for a denoiser: a vocabulary of words, and the states that cross-attention reads.
#
# A text is a caption's words, a vector (a pseudo-caption or a caption's embedding), both, or neither. A vector
# becomes `prefix` states before those of the words. A word outside the vocabulary is one common token.
#
# Axes: N samples, T tokens, V dimensions of a vector, D width of a state, L = prefix + T states.


PAD, BEGIN, UNKNOWN = range(3)  # tokens before those of words
_SPLIT = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


@dataclass(frozen=True)
class Vocabulary:
    """Words with numbers from 3 on. It is sent to reader processes."""

    words: tuple[str, ...]
    most: int = 64  # tokens of a text; further ones are cut off
    # Words of textual inversion, each with its number of tokens, and of layers with vectors of their own.
    # Their rows follow the others. Those of the first layer have the tokens of texts.
    learned: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str], most: int = 64) -> "Vocabulary":
        """Returns the vocabulary of texts, common words first."""
        counts = Counter(word for text in texts for word in split(text))
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))), most)

    def __len__(self) -> int:
        return UNKNOWN + 1 + len(self.words) + sum(count * layers for _, count, layers in self.learned)

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        numbers = {word: [UNKNOWN + 1 + number] for number, word in enumerate(self.words)}
        first = UNKNOWN + 1 + len(self.words)
        for word, count, layers in self.learned:
            numbers[word] = list(range(first, first + count))
            first += count * layers
        return numbers

    @cached_property
    def _split(self) -> re.Pattern[str]:
        # A learned word such as <thing> holds signs. It is one word.
        literal = "|".join(re.escape(word) for word, *_ in self.learned if not word.isalnum())
        return re.compile(f"{literal}|{_SPLIT.pattern}") if literal else _SPLIT

    def __call__(self, text: str) -> list[int]:
        """Returns the tokens of a text, BEGIN first."""
        tokens = (self._numbers.get(word, [UNKNOWN]) for word in self.divided(text))
        return [BEGIN, *itertools.chain.from_iterable(tokens)][: self.most]

    def divided(self, text: str) -> list[str]:
        """Returns the words of a text."""
        return self._split.findall(text.lower())


def split(text: str) -> list[str]:
    """Returns the words of a text in lower case. Signs are words of their own."""
    return _SPLIT.findall(text.lower())


def surveyed(texts: Iterable[str], base: Iterable[str] = ()) -> list[str]:
    """Returns the words of a base, which keep their numbers, and then those of texts, common words first."""
    return list(dict.fromkeys([*base, *Vocabulary.of(texts).words]))


def padded(rows: Iterable[list[int]]) -> Tensor:
    """Returns tokens of texts as int64 (N, T), filled with PAD."""
    tokens = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PAD)


class _Prefixed(nn.Module):
    """States of texts with those of their vectors before them."""

    def __init__(self, width: int, *, dimensions: int, prefix: int) -> None:
        super().__init__()
        self.prefix, self.width = prefix if dimensions else 0, width
        self._dimensions = dimensions

    def _add_vectors(self) -> None:
        """Adds the weights for vectors."""
        if self.prefix:
            self.vector = nn.Linear(self._dimensions, self.prefix * self.width)
            self.vector_position = nn.Parameter(0.02 * torch.randn(self.prefix, self.width))

    def _with_vectors(
        self, states: Tensor, present: Tensor, vectors: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns states (N, T, D) and their presence with those of vectors (N, V) before them."""
        if not self.prefix or vectors is None or given is None:
            return states, present
        # Unit vectors have small entries. Scaled ones have variance 1.
        rows = self.vector(vectors * vectors.shape[1] ** 0.5).view(vectors.shape[0], self.prefix, self.width)
        states = torch.cat([(rows + self.vector_position).to(states.dtype), states], dim=1)
        return states, torch.cat([given[:, None].expand(-1, self.prefix), present], dim=1)


class TextStates(_Prefixed):
    """Words and vectors as states for cross-attention, by a small transformer.

    First, a convolution joins each word to its neighbours, so "star" knows its colour (after Allen-Zhu, Canon
    layers, 2025)."""

    def __init__(
        self, words: int, width: int, *, layers: int, most: int, dimensions: int, prefix: int
    ) -> None:
        super().__init__(width, dimensions=dimensions, prefix=prefix)
        self.word = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(most, width))
        nn.init.normal_(self.word.weight, std=0.2)
        self._add_vectors()
        # Words with vectors for each layer of cross-attention: first token, tokens, layers.
        self.layered: tuple[tuple[int, int, int], ...] = ()
        self.neighbours = nn.Conv1d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns states (N, L, D) and their presence, bool (N, L).

        tokens int64 (N, T) hold PAD behind a text. `given`, bool (N,), tells for which samples the vectors
        (N, V), of unit length, count. With layered words, the states (N, L, K D) are those of K layers."""
        if not self.layered:
            return self._states(tokens, vectors, given)
        count = max(layers for _, _, layers in self.layered)
        each = [self._states(self._of_layer(tokens, k), vectors, given) for k in range(count)]
        return torch.cat([states for states, _ in each], dim=2), each[0][1]

    def _states(self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None) -> tuple[Tensor, Tensor]:
        present = tokens != PAD
        states = self.word(tokens) + self.position[: tokens.shape[1]]
        states = states + self.neighbours((states * present[:, :, None]).mT).mT
        states, present = self._with_vectors(states, present, vectors, given)
        for block in self.blocks:
            states = block(states, present)
        return self.norm(states), present

    def _of_layer(self, tokens: Tensor, layer: int) -> Tensor:
        """Returns tokens with those of layered words moved to the rows of a layer."""
        for first, count, _ in self.layered:
            moves = (tokens >= first) & (tokens < first + count)
            tokens = torch.where(moves, tokens + layer * count, tokens)
        return tokens


class TowerStates(_Prefixed):
    """Token states of a frozen text transformer and vectors as states for cross-attention."""

    def __init__(self, tower: int, width: int, *, dimensions: int, prefix: int) -> None:
        super().__init__(width, dimensions=dimensions, prefix=prefix)
        self.project = nn.Linear(tower, width)
        self._add_vectors()
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None, states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns states (N, L, D) and their presence, bool (N, L), as of TextStates.

        states (N, T, W) are the transformer's, of width W."""
        rows, present = self._with_vectors(self.project(states), tokens != PAD, vectors, given)
        return self.norm(rows), present


class _Block(nn.Module):
    """A transformer block over the states of a text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width)
        self.forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, 4)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        states = states + self.attention(self.attention_norm(states), None, present)
        return states + self.feed_forward(self.forward_norm(states))


# train/models/byte_pairs.py
#
# CLIP's tokeniser in plain Python: byte pairs (Sennrich et al., ACL 2016; Radford et al., ICML 2021).
#
# Tokens are those of open_clip's SimpleTokenizer under other numbers: 0 stands behind the end of a text, 1 at
# its beginning, 2 at its end, and piece i has the number 3 + i. So piece 0, which is "!", is never padding.
#
# open_clip repairs texts with ftfy. The code here straightens quotes, widths, ligatures and HTML as ftfy does.
# It does not repair text in a wrong encoding.


END = 2
_FIRST = END + 1  # number of piece 0
_BYTES = 256
_ENDING = "</w>"  # of a word's last piece
_SPECIAL = {"<start_of_text>": BEGIN, "<end_of_text>": END}
# Bytes in the order of their pieces: visible characters, then the others.
_VISIBLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_HIDDEN = [byte for byte in range(_BYTES) if byte not in _VISIBLE]
_PLACES = {byte: place for place, byte in enumerate([*_VISIBLE, *_HIDDEN])}
_CHARACTERS = [*map(chr, _VISIBLE), *(chr(_BYTES + place) for place in range(len(_HIDDEN)))]
# A text is split at these, else into runs of letters, single digits, and runs of other characters.
_FIXED = re.compile("|".join([*_SPECIAL, "'s|'t|'re|'ve|'m|'ll|'d"]), re.IGNORECASE)
_RUN = re.compile("L+|N|[^ LN]+")
_ENTITY = re.compile("&#?[0-9A-Za-z]{1,24};")
_LIGATURES = (
    *(0x132, 0x133, 0x149, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4)),
    *(*range(0xFB00, 0xFB05), 0xFB06),
)
_WIDE = (0x3000, *range(0xFF01, 0xFFF0))
_WIDTHS = {code: unicodedata.normalize("NFKC", chr(code)) for code in (*_LIGATURES, *_WIDE)}
_QUOTES = str.maketrans(
    {
        "\ufb05": "\u017ft",
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    }
)
_REMOVED = (*range(9), 11, *range(14, 32), 127, *range(0x206A, 0x2070), 0xFEFF, *range(0xFFF9, 0xFFFD))
_CONTROLS = str.maketrans(dict.fromkeys(map(chr, _REMOVED), ""))


def packed(merges: Iterable[tuple[str, str]]) -> str:
    """Returns merges as text: the pieces of each pair as 16-bit numbers, low bytes first, compressed.

    CLIP's 48,894 merges take 199 kB."""
    # A word's last piece has the ending.
    pieces = [*_CHARACTERS, *(character + _ENDING for character in _CHARACTERS)]
    numbers = {piece: number for number, piece in enumerate(pieces)}
    pairs = []
    for first, second in merges:
        pairs.append((numbers[first], numbers[second]))
        numbers[first + second] = len(numbers)
    planes = np.array(pairs, "<u2").T.copy().view(np.uint8)
    halves = planes[:, 0::2].tobytes() + planes[:, 1::2].tobytes()
    return base64.b85encode(zlib.compress(halves, 9)).decode()


@dataclass(frozen=True)
class BytePairs:
    """The tokens of texts. It is sent to reader processes."""

    merges: str  # from `packed`
    most: int  # tokens of a text; further ones are cut off

    @cached_property
    def _ranks(self) -> dict[tuple[int, int], int]:
        """The rank of each pair of pieces."""
        halves = np.frombuffer(zlib.decompress(base64.b85decode(self.merges)), np.uint8).reshape(2, 2, -1)
        pairs = halves[0].astype(int) + _BYTES * halves[1].astype(int)
        return {(int(first), int(second)): rank for rank, (first, second) in enumerate(pairs.T)}

    @cached_property
    def _known(self) -> dict[str, list[int]]:
        """Tokens of words that texts had before."""
        return {}

    def __len__(self) -> int:
        return _FIRST + 2 * _BYTES + len(self._ranks)

    def __call__(self, text: str) -> list[int]:
        """Returns the tokens of a text, BEGIN first and END last."""
        tokens = [BEGIN]
        for word in divided(cleaned(text)):
            if word not in self._known:
                self._known[word] = self._tokens(word)
            tokens += self._known[word]
        return [*tokens[: self.most - 1], END]

    def divided(self, text: str) -> list[str]:
        """Returns the words of a text."""
        return divided(cleaned(text))

    def _tokens(self, word: str) -> list[int]:
        """Returns the tokens of a word: its bytes, joined pair by pair, the best rank first."""
        if word in _SPECIAL:
            return [_SPECIAL[word]]
        pieces = [_PLACES[byte] for byte in word.encode()]
        pieces[-1] += _BYTES
        while len(pieces) > 1:
            pair = min(itertools.pairwise(pieces), key=lambda p: self._ranks.get(p, len(self)))
            if pair not in self._ranks:
                break
            pieces = _joined(pieces, pair, 2 * _BYTES + self._ranks[pair])
        return [_FIRST + piece for piece in pieces]


def _joined(pieces: list[int], pair: tuple[int, int], joined: int) -> list[int]:
    """Returns pieces with every occurrence of a pair, from the left, as one piece."""
    result: list[int] = []
    place = 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == pair:
            result.append(joined)
            place += 2
        else:
            result.append(pieces[place])
            place += 1
    return result


def divided(text: str) -> list[str]:
    """Returns the words of a cleaned text."""
    # The kind of every character: letter, number, space, or another one.
    kinds = "".join(" " if c == " " else _kind(unicodedata.category(c)[0]) for c in text)
    words, place = [], 0
    while place < len(text):
        match = _FIXED.match(text, place) or _RUN.match(kinds, place)
        end = match.end() if match else place + 1
        if match:
            words.append(text[place:end])
        place = end
    return words


def _kind(category: str) -> str:
    return category if category in "LN" else "."


def cleaned(text: str) -> str:
    """Returns a text in lower case, with plain quotes, widths and spaces, without HTML entities."""
    # As ftfy does, until nothing changes.
    text, before = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), ""
    while text != before:
        before = text
        if "<" not in text:
            text = _ENTITY.sub(_unescaped, text)
        text = text.translate(_WIDTHS).translate(_QUOTES).translate(_CONTROLS)
        text = unicodedata.normalize("NFC", text)

    # As open_clip does.
    return " ".join(html.unescape(html.unescape(text)).split()).lower()


def _unescaped(entity: re.Match[str]) -> str:
    """Returns the character of an HTML entity, or the entity if it is none."""
    character = html.unescape(entity[0])
    return entity[0] if ";" in character else character


# train/models/tower.py
#
# CLIP's text transformer, frozen, and its token states for a denoiser (Radford et al., ICML 2021).
#
# Its weights are those of the captions' encoder when a run begins. Checkpoints and exports keep them, so
# drawing needs no open_clip. Tokens have the numbers of byte_pairs.py.
#
# Axes: N samples, T tokens, W width, H heads, K width of a head.


# Names of open_clip's weights, with those of this module.
_RENAMED = {
    "transformer.resblocks.": "layers.",
    "ln_1.": "attention_norm.",
    "attn.in_proj_": "query_key_value.",
    "attn.out_proj.": "out.",
    "ln_2.": "forward_norm.",
    "mlp.c_fc.": "widen.",
    "mlp.c_proj.": "narrow.",
    "ln_final.": "norm.",
    "token_embedding.": "piece.",
    "positional_embedding": "position",
}


class Tower(nn.Module):
    """A causal text transformer. A token's state depends on the tokens before it."""

    def __init__(
        self, tokens: int, *, width: int, layers: int, heads: int, inner: int, length: int, activation: str
    ) -> None:
        super().__init__()
        self.piece = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.layers = nn.ModuleList(_Layer(width, heads, inner, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the states (N, T, W) of tokens int64 (N, T), after the last normalisation."""
        states = self.piece(tokens) + self.position[: tokens.shape[1]]
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class _Layer(nn.Module):
    """Attention to earlier tokens, then a feed-forward."""

    def __init__(self, width: int, heads: int, inner: int, activation: str) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: Tensor) -> Tensor:
        """Returns states (N, T, W)."""
        # Attention.
        n, tokens, width = states.shape
        rows = self.query_key_value(self.attention_norm(states)).view(n, tokens, 3, self.heads, -1)
        query, key, value = rows.permute(2, 0, 3, 1, 4)  # (N, H, T, K) each
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))

        # Feed-forward. The first CLIP approximates GELU.
        inner = self.widen(self.forward_norm(states))
        quick = self.activation == "quick_gelu"
        return states + self.narrow(inner * torch.sigmoid(1.702 * inner) if quick else functional.gelu(inner))


def fill(tower: Tower, weights: dict[str, Tensor]) -> None:
    """Gives a tower the weights of open_clip's text transformer."""
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        renamed[name] = value

    # The beginning and the end are open_clip's last tokens. Padding has no vector.
    tokens, pieces = tower.piece.num_embeddings, renamed["piece.weight"]
    last = tokens - 3
    rows = [torch.zeros_like(pieces[:1]), pieces[last : last + 2], pieces[:last]]
    renamed["piece.weight"], renamed["position"] = torch.cat(rows), renamed["position"][: len(tower.position)]
    tower.load_state_dict(renamed)


# train/models/denoiser.py
#
# The denoiser of diffusion.py: a U-Net, its texts, and the law of noise that it is trained for.
#
# Axes: N samples, R resolution, K planes of a picture or latent, S their side, L text states, D their width.


WORDS = ("own", "tower")


@dataclass(frozen=True)
class Sizes:
    """Sizes of the networks."""

    resolution: int = 32
    channels: tuple[int, ...] = (32, 48, 64, 96)  # by level; each level has half the side of the one before
    reads: tuple[int, ...] = (4, 8, 16)  # sides of the levels with cross-attention
    itself: tuple[int, ...] = (4, 8)  # of these, the ones with self-attention
    embedding: int = 128  # of the noise level
    text_width: int = 96  # D
    text_layers: int = 1
    text_dim: int = 128  # V; follows the caption tables
    prefix: int = 4  # states of a vector
    tokens: int = 64  # of a text, at most
    latents: str = ""  # RUN of an autoencoder, or a folder of diffusers; empty: no latents, but pixels
    factor: int = 1  # the side of a picture over the side of its latent
    planes: int = 3  # K, of latents or colours
    blocks: int = 1  # of a level, each way
    positions: bool = True  # of pixels, for layers that read texts, and sharper first attention
    words: str = "own"  # or tower: token states of the captions' encoder, frozen

    def __post_init__(self) -> None:
        if min(self.factor, self.planes) < 1 or self.resolution % self.factor:
            raise ValueError("factor must divide resolution, and planes must be at least 1")
        if not self.latents and (self.factor, self.planes) != (1, 3):
            raise ValueError("without latents, factor must be 1 and planes must be 3")
        sides = [self.side >> level for level in range(len(self.channels))]
        if self.side % (1 << (len(self.channels) - 1)):
            raise ValueError(f"resolution is {self.resolution}; {len(self.channels)} levels halve it evenly")
        for name, allowed in (("reads", sides), ("itself", self.reads)):
            if not set(getattr(self, name)) <= set(allowed):
                raise ValueError(
                    f"{name} is {getattr(self, name)}; it may have {', '.join(map(str, allowed))}"
                )
        if self.words not in WORDS:
            raise ValueError(f"words is {self.words}; it must be {' or '.join(WORDS)}")
        for name in ("resolution", "blocks", "embedding", "text_width", "text_dim", "prefix", "tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if min(self.channels) < 32 or any(c % 16 for c in self.channels):
            raise ValueError(f"channels is {self.channels}; each must be a multiple of 16, 32 or more")

    @property
    def side(self) -> int:
        """The side of what the denoiser reads: a latent, or a picture."""
        return self.resolution // self.factor


@dataclass(frozen=True)
class Noise:
    """Noise levels and formulation."""

    formulation: str = "flow"  # or edm, ddpm
    mean: float = 0.5  # of ln sigma
    deviation: float = 1.2
    least: float = 0.02  # levels of drawing
    most: float = 40.0

    def __post_init__(self) -> None:
        if self.formulation not in FORMULATIONS:
            raise ValueError(f"formulation is {self.formulation}; it must be {', '.join(FORMULATIONS)}")
        if not 0 < self.least < self.most:
            raise ValueError(f"least is {self.least}; it must be above 0 and below most = {self.most}")
        if self.deviation <= 0:
            raise ValueError(f"deviation is {self.deviation}; it must be above 0")


class Denoiser(nn.Module):
    """The U-Net with its texts, and the law of noise that it is trained for."""

    def __init__(
        self, sizes: Sizes, noise: Noise, words: int, sigma_data: float, tower: int | None = None
    ) -> None:
        super().__init__()
        self.noise, self.sigma_data = noise, sigma_data
        vectors = {"dimensions": sizes.text_dim, "prefix": sizes.prefix}
        self.text: TextStates | TowerStates
        if tower is None:
            layers, most = sizes.text_layers, sizes.tokens
            self.text = TextStates(words, sizes.text_width, layers=layers, most=most, **vectors)
        else:
            self.text = TowerStates(tower, sizes.text_width, **vectors)
        self.unet = UNet(
            sizes.channels,
            sizes.side,
            sizes.text_width,
            planes=sizes.planes,
            embedding=sizes.embedding,
            reads=sizes.reads,
            itself=sizes.itself,
            blocks=sizes.blocks,
            positions=sizes.positions,
        )
        if sizes.positions:
            for module in self.modules():
                if isinstance(module, Attention):
                    module.sharpen()

    def forward(self, y: Tensor, sigma: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns the network's output F (N, K, S, S) for noised pictures y of levels sigma (N,), and text
        states (N, L, D) with their presence."""
        c = self.coefficients(sigma)
        return self.unet(column(c.c_in) * y, c.c_noise, context, present).to(y.dtype)

    def states(
        self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None, tower: Tower | None
    ) -> tuple[Tensor, Tensor]:
        """Returns text states (N, L, D) and their presence, from the tower's token states if there is one."""
        if isinstance(self.text, TextStates):
            return self.text(tokens, vectors, given)
        assert tower is not None
        return self.text(tokens, vectors, given, tower(tokens))

    def coefficients(self, sigma: Tensor) -> Coefficients:
        """Returns the coefficients of noise levels (N,)."""
        return coefficients(self.noise.formulation, sigma, self.sigma_data)

    def errors(self, output: Tensor, x: Tensor, y: Tensor, sigma: Tensor) -> Tensor:
        """Returns the mean squared error (N,) of the network's output F for noised pictures y of x."""
        c = self.coefficients(sigma)
        target = (x - column(c.c_skip) * y) / column(c.c_out)
        return (output - target).square().mean(dim=(1, 2, 3))

    def denoised(self, y: Tensor, sigma: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Returns the denoised pictures D (N, 3, R, R)."""
        c = self.coefficients(sigma)
        return column(c.c_skip) * y + column(c.c_out) * self(y, sigma, context, present)


# train/models/guidance.py
#
# Options of drawing, and the guided denoiser that samplers follow.
#
#     D = g + w (D(y; text) - g)        w: `guidance`
#
# g is a worse prediction from the same noised pictures. There are three kinds. They exclude each other:
#
#     default           the denoiser without the text (Ho & Salimans, 2022)
#     weak=IMAGES_SEEN  an earlier checkpoint of the run, with the text (Karras et al., Guiding a Diffusion
#                       Model with a Bad Version of Itself, NeurIPS 2024)
#     base=RUN          another run, such as the pre-trained base of a fine-tuned one, with the text
#
# Each goes with every sampler and every form of text, and acts between `least_guided` and `most_guided` alone.
# w = 1 is the denoiser itself, w = 0 is g.
#
# Axes: N samples, R resolution, T tokens, V dimensions of a vector, L text states, D their width.


MOST_GUIDANCE = 100.0
# Forms of a text by the option `text`.
_READS = {
    "words": frozenset({"tokens"}),
    "vector": frozenset({"vectors"}),
    "both": frozenset({"tokens", "vectors"}),
}


@dataclass(frozen=True)
class Options:
    """Options of drawing."""

    steps: int = 18
    guidance: float = 2.5  # 1: none
    text: str = "words"  # or vector, both
    sampler: str = "heun"  # or euler, ddim
    least_guided: float = 0.0  # guidance acts between these noise levels (Kynkaanniemi et al., 2024)
    most_guided: float = 1e9
    weak: int | None = None  # images seen of an earlier checkpoint that guides
    base: str | None = None  # the RUN that guides

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 1000:
            raise ValueError("it must lie in 1..1000")
        if not 0 <= self.guidance <= MOST_GUIDANCE:
            raise ValueError(f"it must lie in 0..{MOST_GUIDANCE:g}")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"it must be {', '.join(SAMPLERS)}")
        if self.text not in _READS:
            raise ValueError(f"it must be {', '.join(_READS)}")
        if not 0 <= self.least_guided <= self.most_guided:
            raise ValueError("least_guided must be at least 0 and at most most_guided")
        if self.weak is not None and self.base is not None:
            raise ValueError("weak and base are two guides; it must be one of them")


@dataclass(frozen=True)
class Guide:
    """A denoiser to move away from, with the texts in its own tokens."""

    denoiser: Denoiser
    texts: Texts
    tower: Tower | None = None


def reads(options: Options) -> frozenset[str]:
    """Returns the forms of a text that drawing reads."""
    return _READS[options.text]


def opens(options: Options) -> tuple[int | str, ...]:
    """Returns the other checkpoints that drawing opens: images seen of this run, or a RUN."""
    return tuple(name for name in (options.weak, options.base) if name is not None)


def schedule(noise: Noise, options: Options) -> list[float]:
    """Returns the noise levels of drawing, in descending order, 0 last. They are among those of training."""
    if options.sampler == "ddim":
        return ddim_levels(options.steps)
    least, most = noise.least, noise.most
    if noise.formulation == "ddpm":
        trained = ddpm_levels()
        least, most = max(least, float(trained[0])), min(most, float(trained[-1]))
    return karras_levels(options.steps, least, most)


def guided_denoiser(
    denoiser: Denoiser,
    texts: Texts,
    options: Options,
    context: Context,
    guide: Guide | None = None,
    tower: Tower | None = None,
    unguided: int = 0,
) -> Denoise:
    """Returns the denoiser of texts, moved away from `guide`, or else from itself without the texts.

    The first `unguided` pictures keep the prediction with the text."""
    n, device = len(texts), context.device
    with autocast(context):
        full = _states(denoiser, tower, texts, options)
        bare = _states(denoiser, tower, texts, options, bare=True)
        theirs = _states(guide.denoiser, guide.tower, guide.texts, options) if guide else bare
    weak = guide.denoiser if guide else denoiser
    both = [torch.cat(pair) for pair in zip(full, bare, strict=True)]

    def step(y: Tensor, sigma: float) -> Tensor:
        # One prediction.
        acts = options.least_guided <= sigma <= options.most_guided
        weight = options.guidance if acts else 1.0
        level = torch.full((n,), sigma, device=device, dtype=y.dtype)
        with autocast(context):
            if weight == 1:
                return denoiser.denoised(y, level, *full)
            if weight == 0 and not unguided:
                return weak.denoised(y, level, *theirs)

            # Two predictions, side by side if one network makes them.
            if guide:
                strong, worse = denoiser.denoised(y, level, *full), weak.denoised(y, level, *theirs)
            else:
                pair = denoiser.denoised(torch.cat([y, y]), level.repeat(2), *both)
                strong, worse = pair.chunk(2)
        moved = guided(strong[unguided:], worse[unguided:], weight)
        return torch.cat([strong[:unguided], moved]) if unguided else moved

    return step


def _states(
    denoiser: Denoiser, tower: Tower | None, texts: Texts, options: Options, *, bare: bool = False
) -> tuple[Tensor, Tensor]:
    """Returns a denoiser's states of texts (N, L, D) and their presence (N, L), or of no text if `bare`."""
    n, device = len(texts), texts.device
    tokens = texts.tokens if "tokens" in reads(options) else None
    vectors = texts.vectors if "vectors" in reads(options) else None
    if tokens is None:
        tokens = torch.full((n, 1), BEGIN, device=device)
    if bare:
        tokens = without(tokens, torch.ones(n, dtype=torch.bool, device=device))
    given = torch.full((n,), vectors is not None and not bare, device=device)
    return denoiser.states(tokens, vectors, given, tower)


def autocast(context: Context) -> torch.autocast:
    """Returns the block in which features have the context's dtype."""
    low = context.dtype == torch.bfloat16
    return torch.autocast(context.device.type, torch.bfloat16, enabled=low)


def without(tokens: Tensor, dropped: Tensor) -> Tensor:
    """Returns tokens (N, T) with the words of some samples, bool (N,), left out."""
    later = torch.arange(tokens.shape[1], device=tokens.device) > 0
    return tokens.masked_fill(dropped[:, None] & later, PAD)


# train/models/diffusion.py
#
# A small text-to-image diffusion model that reads words (after Rombach et al., Latent Diffusion, CVPR 2022).
#
# The denoiser is in denoiser.py, its network in unet.py, its texts in words.py, the formulations in
# formulations.py, the samplers in samplers.py, drawing options and guidance in guidance.py, Muon in muon.py.
# This module joins them: the loss, the averages, drawing.
#
#     L = E || F - (x - c_skip y) / c_out ||^2,  y = x + sigma n        one phase, one part
#
# A text is a vector, words, or both. Training drops each at random: both together in `drop_both` of the
# samples, and else each by itself. So language-free pre-training and captioned fine-tuning are settings of one
# run.
#
# Axes: N samples, R resolution, T tokens, V dimensions of a vector, L text states, D their width.


DENOISER, DECODER, TOWER = "denoiser", "decoder", "tower"
_SURVEYED = 20_000  # samples


@dataclass(frozen=True)
class Training:
    """Settings of steps, optimisers and averages."""

    batch: int = 32  # of all ranks together
    lr: float = 2e-3  # of AdamW
    muon_lr: float = 4e-3  # 0: AdamW for all parameters
    warm_up: int = 3_000  # images
    decay_from: int = 0  # images seen at which the rates begin to fall to 0 ...
    decay_to: int = 0  # ... and reach it; 0: never
    drop_words: float = 0.05  # share of the samples with neither dropped
    drop_vector: float = 0.5
    drop_both: float = 0.1  # share of all samples
    average: float = 0.1  # relative width of the first moving average, and of the second
    average_short: float = 0.05
    precision: str = "fp32"  # of features
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop_words", "drop_vector", "drop_both"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1")
        for name in ("average", "average_short"):
            if not 0.01 <= getattr(self, name) <= 0.25:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0.01..0.25")
        if self.batch < 1 or min(self.lr, self.muon_lr, self.warm_up, self.decay_from, self.seed) < 0:
            raise ValueError("batch must be at least 1; rates, warm_up, decay_from and seed at least 0")
        if self.decay_to and self.decay_to <= self.decay_from:
            raise ValueError(f"decay_to is {self.decay_to}; it must be above decay_from = {self.decay_from}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision}; it must be fp32 or bf16")


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: Sizes = field(default_factory=Sizes)
    noise: Noise = field(default_factory=Noise)
    training: Training = field(default_factory=Training)


def survey(
    config: Config, samples: Iterable[CaptionedPicture], base: Json, encoder: PictureEncoder | None = None
) -> Json:
    """Returns the vocabulary of the captions, and the deviation of the pictures in -1..1.

    After a base, its words keep their numbers, and new ones follow. The deviation stays the base's. Scaled
    latents have the deviation 1. A tower has the encoder's byte pairs instead of words. Raises UserError if
    the encoder has no such tower."""
    # Tower.
    tower: Json = {}
    if config.model.words == "tower":
        if encoder is None:
            problem = "model.words=tower reads the encoder of caption tables, and --live has none"
            raise UserError(f"{problem}; give a captioned set by --on, or --set model.words=own")
        sizes, merges, _ = cast(TowerEncoder, encoder).text_tower()
        tower = {"tower": {"sizes": sizes, "merges": packed(merges)}}

    # Pictures and words.
    texts: list[str] = []
    total = square = count = 0.0
    for sample in itertools.islice(samples, _SURVEYED):
        values = sample.pixels.astype("float64") / 127.5 - 1
        total, square, count = total + values.sum(), square + (values**2).sum(), count + values.size
        texts += sample.captions
    deviation = 1.0 if config.model.latents else math.sqrt(square / count - (total / count) ** 2)
    words = [] if tower else surveyed(texts, base.get("words", ()))
    sigma_data = base.get("sigma_data", round(deviation, 4))
    return {"words": words, "sigma_data": sigma_data, **tower}


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns the denoiser, and the tower of its texts and the decoder of its latents, if it has these.

    The tower has the encoder's weights if a run begins."""
    # Denoiser.
    words, sigma_data = len(tokeniser(config, context.survey)), context.survey["sigma_data"]
    sizes = context.survey["tower"]["sizes"] if config.model.words == "tower" else None
    denoiser = Denoiser(config.model, config.noise, words, sigma_data, sizes and sizes["width"])
    networks: dict[str, nn.Module] = {DENOISER: denoiser}

    # Tower.
    if sizes:
        networks[TOWER] = tower = Tower(words, **sizes)
        if context.encoder is not None:
            fill(tower, cast(TowerEncoder, context.encoder).text_tower()[2])

    # Decoder.
    if config.model.latents:
        decoder = LatentDecoder(from_json(AutoencoderSizes, context.survey["autoencoder"]["sizes"]))
        if context.load:
            decoder.load_state_dict(context.load(config.model.latents).parts[DECODER].state_dict())
        networks[DECODER] = decoder.requires_grad_(False)
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def tokeniser(config: Config, survey: Json) -> Vocabulary | BytePairs:
    """Returns the vocabulary of a run, or the byte pairs of its tower."""
    if config.model.words == "tower":
        most = min(config.model.tokens, survey["tower"]["sizes"]["length"])
        return BytePairs(survey["tower"]["merges"], most)
    learned = tuple((word, *sizes) for word, sizes in survey.get("learned", {}).items())
    return Vocabulary(tuple(survey["words"]), config.model.tokens, learned)


def latent_scale(context: Context) -> float:
    """Returns the factor that gives latents the deviation 1; 1 for pictures."""
    return float(context.survey.get("latent_scale", 1.0))


def start(config: Config, numbers: Sequence[int], seed: int) -> Tensor:
    """Returns the noise of pictures, float32 (N, 3, R, R), or of latents, (N, K, S, S)."""
    side, planes = config.model.side, config.model.planes
    return of_pictures(seed, numbers, planes * side * side).view(-1, planes, side, side)


def draw(
    parts: dict[str, nn.Module], start: Tensor, texts: Texts, options: Options, context: Context
) -> Tensor:
    """Returns pictures (N, 3, R, R) of texts and of noise `start`, of their shape or that of latents."""
    denoise, levels = _ode(parts, start.shape[1:], texts, options, context)
    drawn = along(denoise, start * levels[0], levels, heun=options.sampler == "heun")
    return decoded(parts, drawn, context)


def _unguided(options: Options) -> Options:
    """Returns options without guidance."""
    return replace(options, guidance=1.0, weak=None, base=None)


def _ode(
    parts: dict[str, nn.Module],
    shape: torch.Size,
    texts: Texts,
    options: Options,
    context: Context,
    unguided: int = 0,
) -> tuple[Denoise, list[float]]:
    """Returns the denoiser of pictures of a shape, guided from picture `unguided` on, and the levels of
    drawing."""
    denoiser, tower = cast(Denoiser, parts[DENOISER]), cast(Tower | None, parts.get(TOWER))
    guide = _guide(shape, texts, options, context)
    denoise = guided_denoiser(denoiser, texts, options, context, guide, tower, unguided)
    return denoise, schedule(denoiser.noise, options)


def decoded(parts: dict[str, nn.Module], drawn: Tensor, context: Context) -> Tensor:
    """Returns the pictures (N, 3, R, R) of drawn latents (N, K, S, S). Pictures stay as they are."""
    if DECODER not in parts:
        return drawn
    with autocast(context):
        return cast(Tensor, parts[DECODER](drawn / latent_scale(context)))


def _guide(shape: torch.Size, texts: Texts, options: Options, context: Context) -> Guide | None:
    """Returns the checkpoint that guides pictures of a shape, or None if the options name none.

    Raises UserError if it is missing, or if it draws other pictures."""
    # An earlier checkpoint, or another run.
    if not opens(options):
        return None
    if context.load is None or context.earlier is None:
        raise UserError("weak and base open other checkpoints; draw by `python -m train sample RUN`")
    if options.weak is not None:
        earlier = context.earlier(options.weak)
        return Guide(
            cast(Denoiser, earlier.parts[DENOISER]),
            _in_words_of(earlier, texts, context),
            cast(Tower | None, earlier.parts.get(TOWER)),
        )
    base, place = context.load(str(options.base)), f"--base is {options.base}"
    denoiser = base.parts.get(DENOISER)
    if not isinstance(denoiser, Denoiser):
        raise UserError(f"{place}, a run of {base.name}; give a run of diffusion")
    sizes = base.config.model
    if start(base.config, range(1), 0).shape[1:] != shape:
        raise UserError(f"{place}, which draws at {sizes.resolution} px; give a run of this run's resolution")

    # Texts, in its own tokens.
    vectors = texts.vectors if "vectors" in reads(options) else None
    if vectors is not None and vectors.shape[1] != sizes.text_dim:
        problem = f"{place}, which reads vectors of {sizes.text_dim} dimensions"
        raise UserError(f"{problem} instead of {vectors.shape[1]}; give a run with this run's encoder")
    return Guide(denoiser, _in_words_of(base, texts, context), cast(Tower | None, base.parts.get(TOWER)))


def _in_words_of(guide: Loaded, texts: Texts, context: Context) -> Texts:
    """Returns texts in the tokens of a guide, which may know other words."""
    if all(guide.survey.get(name) == context.survey.get(name) for name in ("words", "tower", "learned")):
        return texts
    assert texts.captions is not None
    tokens = padded(map(tokeniser(guide.config, guide.survey), texts.captions))
    return Texts(texts.vectors, tokens.to(texts.device), texts.captions)


def denoiser(
    parts: dict[str, nn.Module], texts: Texts, options: Options, context: Context
) -> Denoise:
    """Returns the denoiser of texts, without guidance."""
    tower = cast(Tower | None, parts.get(TOWER))
    return guided_denoiser(cast(Denoiser, parts[DENOISER]), texts, _unguided(options), context, tower=tower)


# train/standalone.py
#
# The part of an exported model.py that all models share: opens the folder and draws from it.
#
# Axes: N pictures, R resolution.


@dataclass(frozen=True)
class Drawer:
    """An opened model."""

    module: Any  # Config, parts, Options, start and draw, as train/model.py describes them
    config: Any
    parts: dict[str, nn.Module]
    context: Context

    def texts(self, captions: Sequence[str]) -> Texts:
        """Returns captions as a model that reads words takes them."""
        tokenise = self.module.tokeniser(self.config, self.context.survey)
        rows = [torch.tensor(tokenise(caption)) for caption in captions]
        return Texts(tokens=nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.context.device))

    @torch.no_grad()
    def draw(self, texts: Texts, *, seed: int = 0, first: int = 0, **options: Any) -> Tensor:
        """Returns one picture of each text: float32 (N, 3, R, R), about -1..1.

        Picture i depends on its text, the seed and the number first + i alone. `options` are fields of
        Options."""
        count = len(texts)
        noise = self.module.start(self.config, range(first, first + count), seed).to(self.context.device)
        pictures = self.module.draw(self.parts, noise, texts, self.module.Options(**options), self.context)
        return pictures.contiguous()


def opened(folder: Path, device: str, **contents: Any) -> Drawer:
    """Returns the model of an exported folder, ready to draw. `contents` are those of the model's module.

    Leaves torch's random state as it was. Raises FileNotFoundError if the weights of a part are missing."""
    # Config.
    module = SimpleNamespace(**contents)
    metadata = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    groups = {name: values for name, values in metadata["config"].items() if name not in ("data", "run")}
    config = from_json(module.Config, groups)

    # Networks. The folder holds only those that draw, and its mark lists their files.
    context = Context(torch.device(device), torch.float32, dict(metadata.get("survey") or {}))
    with torch.random.fork_rng(devices=[]):
        networks = module.parts(config, context)
    files = {name: folder / f"{name}.safetensors" for name in networks}
    mark = folder / "COMMITTED"
    listed = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else ()
    present = {name for name, file in files.items() if file.exists() or file.name in listed}
    parts = {name: network for name, network in networks.items() if name in present or not present}
    for name, network in parts.items():
        network.load_state_dict(load_file(files[name], device=device))
        network.requires_grad_(False)
    return Drawer(module, config, parts, context)


def load(folder: str | Path = Path(__file__).parent, device: str = "cpu") -> Drawer:
    """Returns the model of a folder, ready to draw."""
    return opened(Path(folder), device, Config=Config, parts=parts, Options=Options, start=start, draw=draw, tokeniser=tokeniser)
