"""The autoencoder under a latent diffusion model (Rombach et al., CVPR 2022), trained on pictures alone.

    L = |x - y| + p d(x, y) + k KL(q(z | x), N(0, I)) + c w L_critic(y),   y = decoder(z),  z ~ q(z | x)

The first term is a mean over the values of a picture, and KL is a sum over a latent divided by the number of
these values. So the balance is that of sums over both. d is one minus the cosine of two embeddings, by a
frozen network that the config names. The critic judges patches by the hinge loss. It begins late, once the
pictures are right on the whole. The weight w balances the gradients of both sides at the decoder's last layer
(Esser et al., VQGAN, CVPR 2021, equation 7).

The networks are in autoencoder_networks.py. train/stream/latents.py writes the latents of a set.

Axes: N samples, R resolution, K planes of a latent, S its side.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from synth import settings
from synth.errors import UserError
from train import ema
from train.model import (
    MOST_IMAGES,
    MOST_RATE,
    Average,
    Context,
    Micro,
    Model,
    Needs,
    Phase,
    Terms,
    Wanted,
    require_batches,
)
from train.models import randomness
from train.models.autoencoder_networks import (
    AutoencoderSizes,
    LatentDecoder,
    LatentEncoder,
    PatchCritic,
    Posterior,
)
from train.models.guidance import autocast

ENCODER, DECODER, CRITIC = "encoder", "decoder", "critic"

_LATENT = 0  # use of a step's random numbers
_DELTA = 1e-4  # of equation 7, as in the published program; the paper has 1e-6
_MOST_WEIGHT = 1e4  # of the critic beside a sum over the values of a picture, as in the published program


@dataclass(frozen=True)
class Loss:
    """Weights of the loss."""

    network: str = "nano"  # of the perceptual term: an encoder's name, or none
    perceptual: float = 0.1
    divergence: float = 1e-6
    critic: float = 0.5  # 0: none
    critic_begins: int = 100_000  # images seen

    def __post_init__(self) -> None:
        settings.require_within(self, 0, MOST_RATE, "perceptual", "divergence", "critic")
        settings.require_within(self, 0, MOST_IMAGES, "critic_begins")
        if not self.network:
            raise ValueError("network is empty; it must be none or an encoder's name")


@dataclass(frozen=True)
class Training:
    """Settings of steps, optimisers and averages."""

    batch: int = 16  # of all ranks together
    lr: float = 1e-3
    critic_lr: float = 5e-4
    beta1: float = 0.5  # of Adam
    beta2: float = 0.9
    warm_up: int = 2_000  # images
    ema_half_life: int = 10_000  # images
    precision: str = "fp32"  # of features
    seed: int = 0

    def __post_init__(self) -> None:
        settings.require_within(self, 0, MOST_RATE, "lr", "critic_lr")
        settings.require_within(self, 0, MOST_IMAGES, "warm_up", "ema_half_life")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        require_batches(self)


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: AutoencoderSizes = field(default_factory=AutoencoderSizes)
    loss: Loss = field(default_factory=Loss)
    training: Training = field(default_factory=Training)


def needs(config: Config) -> Needs:
    """Returns the needs of the losses. The critic's weight follows from the gradients of the whole batch.

    Raises UserError if the critic's layers leave it no patch."""
    _require_patches(config)
    perceptual = config.loss.perceptual > 0 and config.loss.network != "none"
    network = config.loss.network if perceptual else ""
    return Needs(tables=False, vectors=False, network=network, whole=config.loss.critic > 0)


def _require_patches(config: Config) -> None:
    """Raises UserError if the critic's layers leave it no patch. The last two take a row on each side."""
    side, layers = config.model.resolution, config.model.critic_layers
    if not config.loss.critic or side >> layers + 1 >= 3:
        return
    fits = next((n for n in range(layers, 0, -1) if side >> n + 1 >= 3), 0)
    problem = f"{layers} strided layers leave the critic no patch of {side} pixels"
    advice = f"--set model.critic_layers={fits} or " if fits else ""
    raise UserError(f"{problem}; give {advice}--set loss.critic=0, which is without critic")


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns both halves of the autoencoder, and the critic if there is one."""
    networks = {ENCODER: LatentEncoder(config.model), DECODER: LatentDecoder(config.model)}
    critic = {CRITIC: PatchCritic(config.model)} if config.loss.critic else {}
    return {n: network.to(context.device, context.weights) for n, network in {**networks, **critic}.items()}


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of both halves together, and from `critic_begins` on, of the critic."""
    loss, training = _Losses(parts, config, context), config.training

    # Phases and optimisers.
    phases = [Phase("autoencode", (ENCODER, DECODER), loss.autoencode)]
    if config.loss.critic:
        phases.append(Phase("critic", (CRITIC,), loss.judge, begins=config.loss.critic_begins))
    betas, rates = (training.beta1, training.beta2), {CRITIC: training.critic_lr}
    optimisers: dict[str, torch.optim.Optimizer] = {
        name: torch.optim.Adam(part.parameters(), rates.get(name, training.lr), betas)
        for name, part in parts.items()
    }

    def keep(before: int, after: int) -> float:
        return ema.decay(after - before, after, half_life=training.ema_half_life)

    def rate(part: str, images_seen: int) -> float:
        begun = images_seen - (config.loss.critic_begins if part == CRITIC else 0)
        return min(1.0, (begun + training.batch) / training.warm_up) if training.warm_up else 1.0

    averages = {f"{part}_ema": Average(part, keep) for part in (ENCODER, DECODER)}
    return Model(optimisers, phases, averages, Wanted(vectors=()), rate=rate)


def reconstruct(parts: dict[str, nn.Module], pictures: Tensor) -> Tensor:
    """Returns pictures (N, 3, R, R) in -1..1, encoded and decoded by the means of their latents."""
    posterior = cast(Posterior, parts[ENCODER](pictures))
    return cast(Tensor, parts[DECODER](posterior.mean))


class _Losses:
    """The loss of each phase. The loop freezes and unfreezes the networks."""

    def __init__(self, parts: dict[str, nn.Module], config: Config, context: Context) -> None:
        self._encoder = cast(LatentEncoder, parts[ENCODER])
        self._decoder = cast(LatentDecoder, parts[DECODER])
        self._critic = parts.get(CRITIC)
        self._config, self._context = config, context

    def autoencode(self, micro: Micro) -> Iterator[Terms]:
        """Yields the loss of both halves."""
        loss, x = self._config.loss, micro.pictures[:, 0]
        y, posterior = self._through(micro)

        # Error and divergence.
        terms = {"error": (x - y).abs().mean()}
        if self._context.encoder is not None and loss.perceptual:
            real, drawn = (self._context.encoder.features((each + 1) / 2) for each in (x, y))
            cosine = functional.cosine_similarity(real, drawn, dim=1)
            terms["perceptual"] = loss.perceptual * (1 - cosine).mean()
        reconstruction = torch.stack(list(terms.values())).sum()
        terms["divergence"] = loss.divergence * posterior.divergence().mean() / x[0].numel()
        terms["deviation"] = (posterior.log_variance / 2).exp().mean().detach()

        # Critic.
        if self._critic is not None and micro.images_seen >= loss.critic_begins:
            verdict = -self._verdict(y).mean()
            weight = self._weight(reconstruction, verdict)
            terms |= {"critic": loss.critic * weight * verdict, "weight": weight}
        yield terms

    def judge(self, micro: Micro) -> Iterator[Terms]:
        """Yields the critic's hinge loss."""
        with torch.no_grad():
            y, _ = self._through(micro)
        real, drawn = self._verdict(micro.pictures[:, 0]), self._verdict(y)
        yield {"real": functional.relu(1 - real).mean() / 2, "drawn": functional.relu(1 + drawn).mean() / 2}

    def _through(self, micro: Micro) -> tuple[Tensor, Posterior]:
        """Returns pictures (N, 3, R, R) after encoding and decoding, and the laws of their latents."""
        sizes, device = self._config.model, str(self._context.device)
        count = sizes.planes * sizes.side**2
        normal, _ = randomness.draw(
            self._config.training.seed, _LATENT, micro.numbers, count, uniforms=0, device=device
        )
        with autocast(self._context):
            posterior = self._encoder(micro.pictures[:, 0])
            z = posterior.drawn(normal.view(-1, sizes.planes, sizes.side, sizes.side).to(posterior.mean))
            return self._decoder(z), posterior

    def _verdict(self, pictures: Tensor) -> Tensor:
        """Returns the critic's logits of patches."""
        assert self._critic is not None
        with autocast(self._context):
            return cast(Tensor, self._critic(pictures)).to(pictures.dtype)

    def _weight(self, reconstruction: Tensor, verdict: Tensor) -> Tensor:
        """Returns w: the norm of the error's gradient over that of the critic's, at the last layer."""
        last, pulls = self._decoder.conv_out.weight, []
        for term in (reconstruction, verdict):
            [gradient] = torch.autograd.grad(term, last, retain_graph=True)
            # The mean over ranks is the gradient of the global batch.
            pulls.append(self._context.gather(gradient.reshape(1, -1)).mean(dim=0).norm())
        most = _MOST_WEIGHT / (3 * self._config.model.resolution**2)
        return (pulls[0] / (pulls[1] + _DELTA)).clamp(max=most).detach()
