"""Backbones: pictures to features, by timm.

    vit                  a vision transformer (Dosovitskiy et al., ICLR 2021). Its feature is the class token.
                         Ti, S and B have widths 192, 384 and 768, 12 layers, and heads of 64
    resnet18, resnet50   residual networks (He et al., CVPR 2016) with group norm for batch norm, so no
                         statistics couple samples or ranks. Up to 64 pixels a side, the first convolution
                         keeps the size

Axes: N samples, R resolution, P patches, W width of a token or feature.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from synth import settings
from synth.errors import UserError
from train.model import MOST_IMAGES, MOST_RATE, MOST_SIZE, require_batches

VIT = "vit"
RESNETS = {"resnet18": 512, "resnet50": 2048}  # W

# Names of parameters that are embeddings of places, words and tokens.
_EMBEDDINGS = ("pos_embed", "cls_token", "mask_token", "position", "word.weight")
_GROUPS = 32  # of channels with common statistics
_SMALL = 64  # pixels a side of pictures that the first layers of a residual network do not reduce


@dataclass(frozen=True)
class BackboneSizes:
    """Sizes of a backbone."""

    resolution: int = 32
    backbone: str = VIT  # or resnet18, resnet50
    patch: int = 4  # pixels a side; of a vit, as the next three
    width: int = 192
    layers: int = 12
    heads: int = 3

    def __post_init__(self) -> None:
        if self.backbone not in (VIT, *RESNETS):
            raise ValueError(f"backbone is {self.backbone}; it must be {', '.join((VIT, *RESNETS))}")
        settings.require_within(self, 1, MOST_SIZE, "resolution", "patch", "width", "layers", "heads")

    @property
    def patches(self) -> int:
        """P."""
        return int((self.resolution // self.patch) ** 2)

    @property
    def features(self) -> int:
        """W of a picture's feature."""
        return self.width if self.backbone == VIT else RESNETS[self.backbone]


@dataclass(frozen=True)
class LearnerTraining:
    """Settings of batches, steps and the optimiser, common to models that learn features."""

    batch: int = 256  # pictures of all ranks together
    lr: float = 5e-4
    weight_decay: float = 0.1
    beta1: float = 0.9  # of AdamW
    beta2: float = 0.98
    warm_up: int = 10_000  # images
    decay_to: int = 300_000  # images at which the cosine of the rate reaches 0, to stay there
    precision: str = "fp32"  # of features
    seed: int = 0

    def __post_init__(self) -> None:
        settings.require_within(self, 0, MOST_RATE, "lr", "weight_decay")
        settings.require_within(self, 0, MOST_IMAGES, "warm_up", "decay_to")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.lr and self.decay_to <= self.warm_up:
            reason = f"it must be above warm_up = {self.warm_up}, as the rate is 0 from there on"
            raise ValueError(f"decay_to is {self.decay_to}; {reason}")
        require_batches(self)

    def optimisers(self, parts: Mapping[str, nn.Module]) -> dict[str, Optimizer]:
        """Returns AdamW for each part."""
        betas = (self.beta1, self.beta2)
        return {name: adamw(part, self.lr, self.weight_decay, betas) for name, part in parts.items()}

    def rate(self, part: str, images_seen: int) -> float:
        """Returns the factor on the learning rate of the next step."""
        return cosine(images_seen + self.batch, self.warm_up, self.decay_to)


def require_divisible(sizes: BackboneSizes) -> None:
    """Raises UserError if a vision transformer has no whole number of patches, or no equal heads."""
    if sizes.backbone != VIT:
        return
    if sizes.resolution % sizes.patch:
        problem = f"pictures of {sizes.resolution} pixels a side have no whole patches of {sizes.patch}"
        raise UserError(f"{problem}; give --set model.patch={math.gcd(sizes.resolution, sizes.patch)}")
    if sizes.width % sizes.heads:
        problem = f"a width of {sizes.width} has no {sizes.heads} equal heads"
        raise UserError(f"{problem}; give --set model.heads={math.gcd(sizes.width, sizes.heads)}")


def backbone(sizes: BackboneSizes) -> nn.Module:
    """Returns the backbone with first weights: (N, 3, R, R) in -1..1 -> features (N, W)."""
    if sizes.backbone == VIT:
        return vision_transformer(sizes)
    timm = _timm()
    from timm.layers import GroupNorm

    def norm(channels: int, **placed: Any) -> nn.Module:
        return cast(nn.Module, GroupNorm(channels, num_groups=min(_GROUPS, channels), **placed))

    net: Any = timm.create_model(sizes.backbone, num_classes=0, norm_layer=norm)
    if sizes.resolution <= _SMALL:
        net.conv1, net.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return cast(nn.Module, net)


def vision_transformer(sizes: BackboneSizes) -> Any:
    """Returns timm's vision transformer, without a classifier."""
    return _timm().models.vision_transformer.VisionTransformer(
        img_size=sizes.resolution,
        patch_size=sizes.patch,
        embed_dim=sizes.width,
        depth=sizes.layers,
        num_heads=sizes.heads,
        num_classes=0,
    )


def projection(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Returns the published head of three layers, (N, inputs) -> (N, outputs), with batch norm.

    N is the whole batch, of all ranks. Batch norm takes out what all rows share: with layer norm, groups of
    one class draw all embeddings to one point. A head only trains, so it keeps no running moments."""
    layers: list[nn.Module] = []
    for wide in (inputs, width):
        norm = nn.BatchNorm1d(width, track_running_stats=False)
        layers += [nn.Linear(wide, width, bias=False), norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def adamw(part: nn.Module, lr: float, decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """Returns AdamW over a part. Vectors, such as biases and scales, and embeddings do not decay."""
    matrices = [p for name, p in part.named_parameters() if _decays(name, p)]
    others = [p for name, p in part.named_parameters() if not _decays(name, p)]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr, betas)


def cosine(images_seen: int, warm_up: int, decay_to: int) -> float:
    """Returns the factor on a learning rate: a linear warm-up, then half a cosine down to 0."""
    if images_seen < warm_up:
        return images_seen / warm_up
    share = (images_seen - warm_up) / max(1, decay_to - warm_up)
    return (1 + math.cos(math.pi * min(1.0, share))) / 2


def standardised(pictures: Tensor) -> Tensor:
    """Returns pictures (N, 3, R, R) in -1..1 with twice their values: deviations near 1."""
    return 2 * pictures


def _decays(name: str, parameter: Tensor) -> bool:
    return parameter.ndim > 1 and not name.endswith(_EMBEDDINGS)


def _timm() -> Any:
    """Returns timm. It is imported at the first use, and needs torchvision's operators."""
    from caption.lean_imports import import_torchvision

    import_torchvision()
    import timm

    return timm
