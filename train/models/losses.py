"""Losses of the text-to-image GAN and of its regularisers.

Zhou et al., LAFITE, CVPR 2022; the seed paper, "S"; Mescheder et al., Which Training Methods for GANs do
actually Converge?, ICML 2018, "M"; Karras et al., StyleGAN2, CVPR 2020, "SG2".

    L'_G = L_G + cond_weight L_ConD + cong_weight L_ConG     (S 1), on generated pictures x' = G(z, h)
    L'_D = L_D + cond_weight L_ConD                          (S 2), L_ConD on real pictures
    L_G = E softplus(-D(x', h)),  L_D = E softplus(D(x', h)) + E softplus(-D(x, h))
    L_ConD = L_Con(f_s(x)),  L_ConG = L_Con(F(x')), F the frozen image encoder
    L_Con(a) = -tau E_i log( exp(cos(a_i, h_i) / tau) / sum_j exp(cos(a_j, h_i) / tau) )

The papers' sums over a batch are means here. LAFITE's program differs from its paper in four settings:

    projection  "sample"     D(x_i, h_i) = f_d(x_i) + <h_i, f_s(x_i)>              the paper
                "batch_sum"  every logit of a group gets sum_i <h_i, f_s(x_i)>     the program
    contrast    "softmax"    L_Con as above                                        the paper
                "sharpened"  -E_i log( tau softmax_j(exp(cos(a_j, h_i) / tau))_i ) the program
    view        "whole"      F sees x'                                             the paper
                "crop"       F sees one random square of each x' of a batch        the program
    path_mean   "before"     the mean length is a constant of earlier batches      SG2, equation 4
                "after"      this batch moves it first, with gradient              the program

Terms that couple samples act within groups of consecutive samples, so accumulation and ranks change only
rounding.

Axes: N samples, G groups, g samples of a group, D width of embeddings, L layers, W width of latents.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from caption.contrast import soft_target_loss
from train.models.latents import Square
from train.models.layers import at_least_float32, grouped

_FORMS = {
    "projection": ("sample", "batch_sum"),
    "contrast": ("softmax", "sharpened"),
    "view": ("whole", "crop"),
    "path_mean": ("before", "after"),
}
_LEAST_SHARPENED = 0.0125  # temperature: exp(1 / 0.0125) is 5.5e34, near float32's largest number


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms."""

    cond_weight: float = 5.0  # of L_ConD: gamma in S
    cong_weight: float = 10.0  # of L_ConG: lambda in S
    temperature: float = 0.5  # tau
    projection: str = "sample"  # or batch_sum
    contrast: str = "softmax"  # or sharpened
    contrastive_group: int = 16  # consecutive samples in a contrastive loss
    view: str = "whole"  # the picture that L_ConG sees, or crop: one random square of it for the batch
    r1: float = 10.0  # weight of |grad D|^2 / 2
    path_weight: float = 2.0
    path_decay: float = 0.01  # of the mean length
    path_mean: str = "before"  # a constant of earlier batches; or after: this batch moves it, with gradient

    def __post_init__(self) -> None:
        for name, allowed in _FORMS.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {' or '.join(allowed)}")
        for name in ("cond_weight", "cong_weight", "r1", "path_weight"):
            if not 0 <= getattr(self, name) <= 1e9:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in 0..1e9")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if self.contrast == "sharpened" and self.temperature < _LEAST_SHARPENED:
            raise ValueError(
                f"temperature is {self.temperature}; with contrast=sharpened it must be at least"
                f" {_LEAST_SHARPENED}, as exp(1 / temperature) overflows"
            )
        if self.contrastive_group < 1:
            raise ValueError(f"contrastive_group is {self.contrastive_group}; it must be at least 1")
        if not 0 < self.path_decay <= 1:
            raise ValueError(f"path_decay is {self.path_decay}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class Judgement:
    """The output of a discriminator for N pictures, with their captions."""

    score: Tensor  # f_d, (N,)
    meaning: Tensor  # f_s, (N, D)
    h: Tensor  # (N, D)

    def logits(self, config: LossConfig) -> Tensor:
        """Returns D(x, h), (N,)."""
        form, group = config.projection, config.contrastive_group
        return self.score + project(self.meaning, self.h, form=form, group=group)

    def contrast(self, config: LossConfig) -> Tensor:
        """Returns L_ConD, a scalar."""
        return contrast(self.meaning, self.h, config)


def generator_losses(config: LossConfig, fake: Judgement, encoded: Tensor | None) -> dict[str, Tensor]:
    """Returns the weighted terms of L'_G, scalars to add up.

    `encoded` is F(x') (N, D), or None without L_ConG."""
    terms = {"adversarial": functional.softplus(-fake.logits(config)).mean()}
    if config.cond_weight:
        terms["cond"] = config.cond_weight * fake.contrast(config)
    if encoded is not None and config.cong_weight:
        terms["cong"] = config.cong_weight * contrast(encoded, fake.h, config)
    return terms


def fake_losses(config: LossConfig, fake: Judgement) -> dict[str, Tensor]:
    """Returns the terms of L'_D on generated pictures."""
    return {"adversarial": functional.softplus(fake.logits(config)).mean()}


def real_losses(config: LossConfig, real: Judgement) -> dict[str, Tensor]:
    """Returns the terms of L'_D on real pictures."""
    terms = {"adversarial": functional.softplus(-real.logits(config)).mean()}
    if config.cond_weight:
        terms["cond"] = config.cond_weight * real.contrast(config)
    return terms


def project(meaning: Tensor, h: Tensor, *, form: str, group: int) -> Tensor:
    """Returns the captions' term of the logits: f_s (N, D), h (N, D) -> (N,)."""
    products = (meaning * h).sum(1)  # (N,)
    if form == "sample":
        return products
    # Every sample of a group gets the group's sum.
    return grouped(products, group).sum(1, keepdim=True).expand(-1, min(group, len(h))).flatten()


def contrast(a: Tensor, h: Tensor, config: LossConfig) -> Tensor:
    """Returns L_Con, a scalar, of vectors a (N, D) of pictures and h (N, D) of captions.

    Each caption has a softmax over its group's pictures."""
    return contrast_of(cosines(a, h, config.contrastive_group), config)


def contrast_of(cosines: Tensor, config: LossConfig) -> Tensor:
    """Returns L_Con of cosines (G, g captions, g pictures). The diagonal holds the matching pairs."""
    logits = cosines / config.temperature
    matching = torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device)
    if config.contrast == "sharpened":
        return soft_target_loss(logits.exp(), matching) - math.log(config.temperature)
    return config.temperature * soft_target_loss(logits, matching)


def cosines(a: Tensor, h: Tensor, group: int) -> Tensor:
    """Returns cos(a_j, h_i) within groups: a, h (N, D) -> float32 (G, g, g), [.., i, j]."""
    a, h = (grouped(functional.normalize(at_least_float32(x), dim=1), group) for x in (a, h))
    return h @ a.transpose(1, 2)


def viewed(images: Tensor, square: Square, size: int) -> Tensor:
    """Returns the squares of pictures (N, 3, R, R) that an encoder of `size` pixels sees: (N, 3, size, size).

    Pictures smaller than that get a white border. The program resizes others without antialiasing."""
    resolution, left, top = images.shape[-1], square.left, square.top
    if resolution < size:
        right, bottom = (size - resolution - start for start in (left, top))
        return functional.pad(images, (left, right, top, bottom), value=1.0)
    part = images[:, :, top : top + square.side, left : left + square.side]
    return functional.interpolate(part, (size, size), mode="bicubic", align_corners=False)


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Returns |grad_x sum_i D(x_i, h_i)|^2 of each picture (M equation 9), (N,), differentiable.

    R1 is r1 / 2 times its mean."""
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return at_least_float32(gradient).square().sum((1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Returns |J^T y| of each picture (SG2 equation 4), a root mean square over layers, (N,), differentiable.

    J is the derivative of images (N, 3, R, R) by ws (N, L, W). y is noise / R with noise ~ N(0, 1),
    (N, 3, R, R)."""
    (gradient,) = torch.autograd.grad((images * noise).sum() / images.shape[-1], ws, create_graph=True)
    return at_least_float32(gradient).square().sum(2).mean(1).sqrt()


def path_penalty(lengths: Tensor, mean: Tensor) -> Tensor:
    """Returns the squared distance of each length from the running mean (SG2 equation 4), (N,)."""
    return (lengths - mean).square()
