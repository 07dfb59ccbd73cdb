"""A masked autoencoder: a vision transformer that sees a quarter of a picture's patches (He et al., Masked
Autoencoders Are Scalable Vision Learners, CVPR 2022).

    L = E |y_p - d_p(encoder(visible patches))|^2     over hidden patches p

y_p are the values of a patch, less their mean and over their deviation. The encoder never sees hidden
patches, so a step costs about a quarter. A narrow decoder restores them from one learned token and their
positions. It is not needed for features, which are the class token of the whole picture.

Axes: N samples, R resolution, P patches, K visible patches, W width of a token, D that of the decoder, V
values of a patch.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from synth import settings
from synth.errors import UserError
from train.model import MOST_SIZE, Context, Micro, Model, Needs, Phase, Terms, Wanted
from train.models import randomness
from train.models.features import backbones
from train.models.features.backbones import VIT, BackboneSizes, LearnerTraining
from train.models.guidance import autocast
from train.stream.augmentations import Augmentations

BACKBONE, DECODER = "backbone", "decoder"

_MASK = 0  # use of a step's random numbers
_EPSILON = 1e-6  # of a patch's variance, with values in -1..1


@dataclass(frozen=True)
class Sizes(BackboneSizes):
    """Sizes of the encoder and its decoder."""

    decoder_width: int = 96  # D
    decoder_layers: int = 2
    decoder_heads: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.require_within(self, 1, MOST_SIZE, "decoder_width", "decoder_layers", "decoder_heads")


@dataclass(frozen=True)
class Loss:
    """Settings of the loss."""

    hidden: float = 0.75  # share of the patches
    normalised: bool = True  # patches, by their own mean and deviation

    def __post_init__(self) -> None:
        if not 0 < self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}; it must lie between 0 and 1")


# The published augmentations: a crop and a flip alone.
_CROP = Augmentations(crop=0.2, jitter=0.0, grey=0.0, blur=0.0, down=0.0)


@dataclass(frozen=True)
class Training(LearnerTraining):
    """Settings of batches, steps and the optimiser."""

    weight_decay: float = 0.05
    beta2: float = 0.95


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: Sizes = field(default_factory=Sizes)
    loss: Loss = field(default_factory=Loss)
    augment: Augmentations = _CROP
    training: Training = field(default_factory=Training)


def needs(config: Config) -> Needs:
    """Returns the needs of the model: pictures alone.

    Raises UserError for a backbone without patches, for sizes that do not divide each other, and for a share
    that leaves no patch."""
    sizes = config.model
    if sizes.backbone != VIT:
        raise UserError("a masked autoencoder needs patches; give --set model.backbone=vit")
    backbones.require_divisible(sizes)
    if sizes.decoder_width % sizes.decoder_heads:
        problem = f"a decoder of width {sizes.decoder_width} has no {sizes.decoder_heads} equal heads"
        heads = math.gcd(sizes.decoder_width, sizes.decoder_heads)
        raise UserError(f"{problem}; give --set model.decoder_heads={heads}")
    if not 0 < visible(config) < sizes.patches:
        problem = f"hiding {config.loss.hidden:g} of {sizes.patches} patches leaves all or none"
        # Of four patches, .75 leaves one. Patches of half the side or less are four or more.
        patch = max((p for p in range(1, sizes.resolution) if sizes.resolution % p == 0), default=1)
        smaller = f"--set model.patch={patch} " if sizes.patches < 4 else ""
        raise UserError(f"{problem}; give {smaller}--set loss.hidden=0.75")
    return Needs(tables=False, vectors=False)


def visible(config: Config) -> int:
    """Returns K."""
    return int(config.model.patches * (1 - config.loss.hidden))


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns the encoder and the decoder, with their first weights."""
    networks = {BACKBONE: backbones.backbone(config.model), DECODER: PatchDecoder(config.model)}
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of both halves in one phase."""
    sizes, training = config.model, config.training

    def restore(micro: Micro) -> Iterator[Terms]:
        # Visible patches: those with the least random numbers.
        pictures = micro.pictures[:, 0]
        _, chances = randomness.draw(
            training.seed, _MASK, micro.numbers, 0, uniforms=sizes.patches, device=str(pictures.device)
        )
        order = chances.argsort(1)
        kept, hidden = order[:, : visible(config)], order[:, visible(config) :]

        # Squared error of the hidden ones.
        with autocast(context):
            states = encoded(parts[BACKBONE], backbones.standardised(pictures), kept)
            restored = parts[DECODER](states, kept)
        target = patches(pictures, sizes.patch)
        if config.loss.normalised:
            mean, variance = target.mean(2, keepdim=True), target.var(2, keepdim=True)
            target = (target - mean) / (variance + _EPSILON).sqrt()
        errors = (restored.to(target.dtype) - target).square().mean(2)  # (N, P)
        yield {"hidden": errors.gather(1, hidden).mean()}

    wanted = Wanted(vectors=(), augment=config.augment)
    phases = [Phase("restore", (BACKBONE, DECODER), restore)]
    return Model(training.optimisers(parts), phases, wanted=wanted, rate=training.rate)


def features(parts: dict[str, nn.Module], pictures: Tensor) -> Tensor:
    """Returns the class tokens (N, W) of whole pictures (N, 3, R, R) in -1..1."""
    embedded: Tensor = parts[BACKBONE](backbones.standardised(pictures))
    return embedded


def patches(pictures: Tensor, side: int) -> Tensor:
    """Returns the values of patches, (N, P, V), of pictures (N, 3, R, R), in the order of the transformer's
    tokens."""
    return nn.functional.unfold(pictures, side, stride=side).mT


def encoded(transformer: Any, pictures: Tensor, kept: Tensor) -> Tensor:
    """Returns the states (N, 1 + K, W) of the class token and of the patches `kept`, int64 (N, K)."""
    tokens = transformer.patch_embed(pictures) + transformer.pos_embed[:, 1:]  # (N, P, W)
    tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
    first = (transformer.cls_token + transformer.pos_embed[:, :1]).expand(len(tokens), -1, -1)
    states: Tensor = transformer.norm(transformer.blocks(torch.cat([first, tokens], 1)))
    return states


class PatchDecoder(nn.Module):
    """Values of all patches from the states of some."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        width = sizes.decoder_width
        self.embed = nn.Linear(sizes.width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + sizes.patches, width))
        blocks = (Block(width, sizes.decoder_heads, qkv_bias=True) for _ in range(sizes.decoder_layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.values = nn.Linear(width, 3 * sizes.patch**2)

    def forward(self, states: Tensor, kept: Tensor) -> Tensor:
        """(N, 1 + K, W), int64 (N, K) -> (N, P, V)."""
        # A patch without a state has the token of hidden patches.
        x = self.embed(states)
        count, width = self.pos_embed.shape[1] - 1, x.shape[2]
        tokens = self.mask_token.to(x.dtype).expand(len(x), count, -1)
        tokens = tokens.scatter(1, kept[:, :, None].expand(-1, -1, width), x[:, 1:])
        x = self.blocks(torch.cat([x[:, :1], tokens], 1) + self.pos_embed)
        values: Tensor = self.values(self.norm(x[:, 1:]))
        return values
