"""The phases of a step: generator, path length, discriminator, R1. Each is one turn of one network's optimiser.

L'_G = L_G + cond_weight L_ConD + cong_weight L_ConG and L'_D = L_D + cond_weight L_ConD (Nakao et al., equations 1 and 2); every few steps
the regularisers of StyleGAN2. Axes: N samples of a micro-batch, D dimensions of an embedding, R resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from train.config import Config
from train.models import losses
from train.models.latents import draw_latents, draw_path_noise
from train.models.losses import Judgement
from train.models.stylegan2 import Discriminator, Generator

_G, _D, _PATH, _PATH_NOISE = range(4)  # uses of random numbers


class Encoder(Protocol):
    """What L_ConG asks: pictures as the captions' encoder sees them."""

    def features(self, pictures: Tensor) -> Tensor:
        """Embeddings (N, D) of pictures (N, 3, R, R) in 0..1; gradients reach the pictures."""


@dataclass(frozen=True)
class Micro:
    """Samples that go through a network at once."""

    pictures: Tensor  # (N, 3, R, R) in -1..1
    for_d: Tensor  # (N, D)
    for_g: Tensor  # (N, D)
    numbers: range  # images seen before each: what its random numbers are drawn by


@dataclass
class Players:
    """The networks, and what phases remember beside weights."""

    config: Config
    g: Generator
    d: Discriminator
    encoder: Encoder | None  # None: no L_ConG
    path_mean: Tensor  # running mean of path lengths, a scalar
    lengths: list[Tensor] = field(default_factory=list)  # of the path phase under way

    @property
    def dtype(self) -> torch.dtype:
        """Of features."""
        return torch.bfloat16 if self.config.training.precision == "bf16" else torch.float32


@dataclass(frozen=True)
class Phase:
    """One network's turn. `loss` gives the terms of a micro-batch, means over its samples, and has taken their gradients."""

    name: str
    network: nn.Module
    every: int  # steps
    loss: Callable[[Players, Micro, float], dict[str, Tensor]]


def phases(players: Players) -> list[Phase]:
    """The phases of a step, in their order; those that never come are left out."""
    training, loss = players.config.training, players.config.loss
    found = [
        Phase("g", players.g, 1, _generator),
        Phase("path", players.g, training.path_every if loss.path_weight else 0, _path),
        Phase("d", players.d, 1, _discriminator),
        Phase("r1", players.d, training.r1_every if loss.r1 else 0, _r1),
    ]
    return [phase for phase in found if phase.every]


def _generator(players: Players, micro: Micro, share: float) -> dict[str, Tensor]:
    images = _generated(players, micro, micro.for_g, _G)
    encoded = players.encoder.features((images + 1) / 2) if players.encoder else None
    terms = losses.generator_losses(players.config.loss, _judged(players, images, micro.for_g), encoded)
    return _backward(terms, share)


def _discriminator(players: Players, micro: Micro, share: float) -> dict[str, Tensor]:
    with torch.no_grad():
        images = _generated(players, micro, micro.for_d, _D)
    fake = _backward(losses.fake_losses(players.config.loss, _judged(players, images, micro.for_d)), share)
    real = _backward(losses.real_losses(players.config.loss, _judged(players, micro.pictures, micro.for_d)), share)
    return {**{f"fake_{k}": v for k, v in fake.items()}, **{f"real_{k}": v for k, v in real.items()}}


def _path(players: Players, micro: Micro, share: float) -> dict[str, Tensor]:
    """On every other sample, which the global number says, so that micro-batches and ranks have the same."""
    config, training = players.config, players.config.training
    numbers = micro.numbers[micro.numbers.start % 2 :: 2]
    h = micro.for_g[micro.numbers.start % 2 :: 2]
    latents = draw_latents(config.model, training.seed, _PATH, numbers, mixing=training.mixing, device=str(h.device))
    ws = players.g.latents(latents.z, latents.cutoff)
    images = players.g.synthesise(ws, h, noise=latents.noise, dtype=players.dtype)
    noise = draw_path_noise(config.model, training.seed, _PATH_NOISE, numbers, device=str(h.device))
    lengths = losses.path_lengths(images, ws, noise)
    players.lengths.append(lengths.detach())
    penalty = losses.path_penalty(lengths, players.path_mean).mean()
    return _backward({"path": training.path_every * config.loss.path_weight * penalty}, share)


def _r1(players: Players, micro: Micro, share: float) -> dict[str, Tensor]:
    config = players.config
    real = micro.pictures.clone().requires_grad_()
    penalty = losses.gradient_penalty(_judged(players, real, micro.for_d).logits(config.loss), real)
    return _backward({"r1": config.training.r1_every * config.loss.r1 / 2 * penalty.mean()}, share)


def _generated(players: Players, micro: Micro, h: Tensor, use: int) -> Tensor:
    config = players.config
    latents = draw_latents(config.model, config.training.seed, use, micro.numbers, mixing=config.training.mixing, device=str(h.device))
    return players.g(latents.z, h, cutoff=latents.cutoff, noise=latents.noise, dtype=players.dtype)


def _judged(players: Players, images: Tensor, h: Tensor) -> Judgement:
    score, meaning = players.d(images, dtype=players.dtype)
    return Judgement(score, meaning, h)


def _backward(terms: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Adds the gradients of a micro-batch that is this share of the batch; the terms come back without their graph."""
    (sum(terms.values(), torch.zeros((), device=next(iter(terms.values())).device)) * share).backward()
    return {name: value.detach() for name, value in terms.items()}
