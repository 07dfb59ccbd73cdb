"""LAFITE's text-to-image StyleGAN2 as a model of the training loop (train/model.py).

The networks are in stylegan2_networks.py, the loss terms in losses.py, the random inputs in latents.py. This
module joins them: four phases over two networks, their optimisers, the moving average of the generator, and
drawing.

    L'_G = L_G + cond_weight L_ConD + cong_weight L_ConG        phase g       (Nakao et al., equation 1)
    path length regularisation                                  phase path    (StyleGAN2, section 3.2)
    L'_D = L_D + cond_weight L_ConD                             phase d       (Nakao et al., equation 2)
    R1                                                          phase r1      (Mescheder et al., 2018)

Axes: N samples of a micro-batch, D dimensions of an embedding, R resolution, Z width of z, P noise values of
a picture, L layers, W width of w.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from synth import settings
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
    SizedEncoder,
    Terms,
    Texts,
    Wanted,
    require_batches,
)
from train.models import losses, randomness
from train.models.latents import Latents, draw_latents, draw_path_noise, draw_square
from train.models.losses import Judgement, LossConfig
from train.models.stylegan2_networks import Discriminator, Generator, Sizes

GENERATOR, DISCRIMINATOR, EMA = "generator", "discriminator", "ema"

_G, _D, _PATH, _PATH_NOISE, _VIEW = range(5)  # uses of a step's random numbers
_MEAN = 1  # use of a drawing's random numbers: the mean latent
_MEAN_OF = 4096  # latents in the mean
_LAWS = {
    "mixing_cutoff": ("sample", "batch"),
    "texts": ("network", "phase"),
    "path_samples": ("even", "first"),
    "unreached": ("skip", "zero"),
    "ema_clock": ("after", "before"),
}
# Values that couple the whole batch, each with the one that does not.
_COUPLING = {
    "model.mbstd_order": ("strided", "consecutive"),
    "loss.path_mean": ("after", "before"),
    "training.path_samples": ("first", "even"),
}


@dataclass(frozen=True)
class Training:
    """Settings of steps, optimisers and averages."""

    batch: int = 64  # of all ranks together
    g_lr: float = 2.5e-3
    d_lr: float = 2.5e-3
    beta2: float = 0.99  # of Adam; its first is 0
    path_every: int = 4  # steps from one path-length step to the next; 0: never
    r1_every: int = 16  # steps from one R1 step to the next; 0: never
    mixing: float = 0.9  # share of pictures with two latents
    mixing_cutoff: str = "sample"  # each has its own, or batch: one for all samples of a step
    texts: str = "network"  # path takes G's and R1 takes D's, or phase: noise of its own in every phase
    path_samples: str = "even"  # by global number, or first: the first half of the batch
    unreached: str = "skip"  # parameters that a phase does not reach, or zero: Adam counts a gradient of zero
    ema_half_life: int = 20_000  # images
    ema_ramp_up: float = 0.05  # of the images seen; 0: none
    ema_clock: str = "after"  # images seen after the step, or before: those before the step
    precision: str = "fp32"  # of features; statistics have at least fp32
    seed: int = 0

    def __post_init__(self) -> None:
        require_batches(self)
        settings.require_within(self, 0, MOST_RATE, "g_lr", "d_lr")
        times = ("path_every", "r1_every", "ema_half_life", "ema_ramp_up")
        settings.require_within(self, 0, MOST_IMAGES, *times)
        for name, allowed in _LAWS.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {' or '.join(allowed)}")
        settings.require_within(self, 0, 1, "mixing")
        if not 0 <= self.beta2 < 1:
            raise ValueError(f"beta2 is {self.beta2}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: Sizes = field(default_factory=Sizes)
    loss: LossConfig = field(default_factory=LossConfig)
    training: Training = field(default_factory=Training)


@dataclass(frozen=True)
class Options:
    """Options of drawing."""

    # Below 1: latents nearer their mean, less varied pictures (Karras et al., StyleGAN, 2019, appendix B).
    truncation: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.truncation <= 1:
            raise ValueError("it must lie in 0..1")


def needs(config: Config) -> Needs:
    """Returns the needs of the losses: the encoder for L_ConG, groups of samples, pairs for path lengths."""
    pairs = config.training.path_every and config.loss.path_weight
    groups = (config.loss.contrastive_group, config.model.mbstd_group)
    coupling = {}
    for name, (coupled, free) in _COUPLING.items():
        group, _, key = name.partition(".")
        if getattr(getattr(config, group), key) == coupled and (pairs or group == "model"):
            coupling[f"{name}={coupled}"] = f"{name}={free}"
    return Needs(
        encoder=config.loss.cong_weight > 0,
        encoder_reason=("L_ConG", "loss.cong_weight=0"),
        groups=groups,
        multiple=2 if pairs else 1,
        coupling=coupling,
    )


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns both networks."""
    networks = {GENERATOR: Generator(config.model), DISCRIMINATOR: Discriminator(config.model)}
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of both networks against each other."""
    # Phases, without the regularisers that are switched off.
    game, training = _Game(parts, config, context), config.training
    path_every = training.path_every if config.loss.path_weight else 0
    r1_every = training.r1_every if config.loss.r1 else 0
    zeros = training.unreached == "zero"
    phases = [
        Phase("g", (GENERATOR,), game.generator, zeros=zeros),
        Phase("path", (GENERATOR,), game.path, path_every, settle=game.move_path_mean, zeros=zeros),
        Phase("d", (DISCRIMINATOR,), game.discriminator, zeros=zeros),
        Phase("r1", (DISCRIMINATOR,), game.r1, r1_every, zeros=zeros),
    ]
    phases = [phase for phase in phases if phase.every]

    # Average and optimisers.
    averages = {EMA: Average(GENERATOR, lambda before, after: _remains(training, before, after))}
    optimisers: dict[str, torch.optim.Optimizer] = {
        part: _adam(part, network, phases, training) for part, network in parts.items()
    }
    wanted = Wanted(vectors=("d", "g"))
    if training.texts == "phase":
        wanted = Wanted(vectors=tuple(phase.name for phase in phases), one_caption=True)
    return Model(optimisers, phases, averages, wanted, {"path_mean": game.path_mean})


def start(config: Config, numbers: Sequence[int], seed: int) -> Tensor:
    """Returns z and noise maps of pictures: float32 (N, Z + P)."""
    return randomness.of_pictures(seed, numbers, config.model.z_dim + config.model.noise_size)


def draw(
    parts: dict[str, nn.Module], start: Tensor, texts: Texts, options: Options, context: Context
) -> Tensor:
    """Returns pictures (N, 3, R, R) of z and noise in `start` (N, Z + P) and of caption vectors (N, D)."""
    generator = cast(Generator, parts[GENERATOR])
    z, noise = start.split([generator.sizes.z_dim, generator.sizes.noise_size], dim=1)  # (N, Z), (N, P)
    ws = generator.latents(z)  # (N, L, W)
    if options.truncation < 1:
        ws = _mean_latent(generator, z).lerp(ws, options.truncation)
    assert texts.vectors is not None
    return generator.synthesise(ws, texts.vectors, noise=noise, dtype=context.dtype)


class _Game:
    """The loss of each phase. The loop freezes and unfreezes the networks."""

    def __init__(self, parts: dict[str, nn.Module], config: Config, context: Context) -> None:
        self._g, self._d = cast(Generator, parts[GENERATOR]), cast(Discriminator, parts[DISCRIMINATOR])
        self._config, self._context = config, context
        # Running mean of path lengths.
        self.path_mean = torch.zeros((), device=context.device, dtype=context.weights)

    def generator(self, micro: Micro) -> Iterator[Terms]:
        """Yields the terms of L'_G."""
        h = micro.vectors["g"]
        images = self._generated(micro, h, _G)
        yield losses.generator_losses(
            self._config.loss, self._judged(images, h), self._encoded(micro, images)
        )

    def discriminator(self, micro: Micro) -> Iterator[Terms]:
        """Yields the terms of L'_D on generated pictures, then on real ones."""
        h, loss = micro.vectors["d"], self._config.loss

        # Generated pictures.
        with torch.no_grad():
            images = self._generated(micro, h, _D)
        terms = losses.fake_losses(loss, self._judged(images, h))
        yield {f"fake_{name}": term for name, term in terms.items()}

        # Real pictures.
        terms = losses.real_losses(loss, self._judged(micro.pictures[:, 0], h))
        yield {f"real_{name}": term for name, term in terms.items()}

    def path(self, micro: Micro) -> Iterator[Terms]:
        """Yields the penalty (StyleGAN2, equation 4) and mean of path lengths, on half of the samples."""
        # Micro-batches and ranks do not change the choice of samples by even global number.
        model, training, device = self._config.model, self._config.training, str(self._context.device)
        half = slice(micro.numbers.start % 2, None, 2)
        if training.path_samples == "first":
            half = slice(len(micro.numbers) // 2)
        numbers, h = micro.numbers[half], self._texts(micro, "path", "g")[half]

        # Their pictures.
        latents = self._latents(micro, numbers, _PATH)
        ws = self._g.latents(latents.z.to(h.dtype), latents.cutoff)
        images = self._g.synthesise(ws, h, noise=latents.noise.to(h.dtype), dtype=self._context.dtype)

        # Path lengths.
        noise = draw_path_noise(model, training.seed, _PATH_NOISE, numbers, device=device)
        lengths = losses.path_lengths(images, ws, noise.to(images.dtype))
        mean, loss = self.path_mean, self._config.loss
        if loss.path_mean == "after":
            mean = mean.lerp(lengths.mean(), loss.path_decay)
        penalty = losses.path_penalty(lengths, mean).mean()
        weight = training.path_every * loss.path_weight
        yield {"path": weight * penalty, "length": lengths.detach().mean()}

    def move_path_mean(self, terms: Terms) -> None:
        """Moves the running mean towards the mean length of the global batch, unless that is not finite."""
        if torch.isfinite(terms["length"]):
            self.path_mean.lerp_(terms["length"], self._config.loss.path_decay)

    def r1(self, micro: Micro) -> Iterator[Terms]:
        """Yields R1 on real pictures (Mescheder et al., equation 9)."""
        real = micro.pictures[:, 0].clone().requires_grad_()
        logits = self._judged(real, self._texts(micro, "r1", "d")).logits(self._config.loss)
        penalty = losses.gradient_penalty(logits, real)
        yield {"r1": self._config.training.r1_every * self._config.loss.r1 / 2 * penalty.mean()}

    def _generated(self, micro: Micro, h: Tensor, use: int) -> Tensor:
        """Returns pictures (N, 3, R, R) of h (N, D) and random latents."""
        latents = self._latents(micro, micro.numbers, use)
        z, noise = latents.z.to(h.dtype), latents.noise.to(h.dtype)
        return self._g(z, h, cutoff=latents.cutoff, noise=noise, dtype=self._context.dtype)

    def _latents(self, micro: Micro, numbers: range, use: int) -> Latents:
        training, device = self._config.training, str(self._context.device)
        batch = micro.images_seen if training.mixing_cutoff == "batch" else None
        return draw_latents(
            self._config.model,
            training.seed,
            use,
            numbers,
            mixing=training.mixing,
            batch=batch,
            device=device,
        )

    def _texts(self, micro: Micro, phase: str, network: str) -> Tensor:
        """Returns the caption vectors (N, D) of a regulariser: its own, or those of the network's phase."""
        return micro.vectors[phase if self._config.training.texts == "phase" else network]

    def _encoded(self, micro: Micro, images: Tensor) -> Tensor | None:
        """Returns the embeddings (N, D) of generated pictures (N, 3, R, R), or None without an encoder."""
        encoder, training = self._context.encoder, self._config.training
        if encoder is None:
            return None
        if self._config.loss.view == "crop":
            size = cast(SizedEncoder, encoder).size
            square = draw_square(images.shape[-1], size, training.seed, _VIEW, micro.images_seen)
            images = losses.viewed(images, square, size)
        return encoder.features((images + 1) / 2)

    def _judged(self, images: Tensor, h: Tensor) -> Judgement:
        score, meaning = self._d(images, dtype=self._context.dtype)
        return Judgement(score, meaning, h)


def _adam(part: str, network: nn.Module, phases: list[Phase], training: Training) -> torch.optim.Adam:
    """Returns a part's Adam, slowed down by its lazy regulariser."""
    every = max((phase.every for phase in phases if part in phase.parts and phase.every > 1), default=0)
    lr = training.g_lr if part == GENERATOR else training.d_lr
    lr, betas = ema.lazy_adam(lr, (0.0, training.beta2), every)
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, eps=1e-8, fused=True)


def _remains(training: Training, before: int, after: int) -> float:
    """Returns the share of the old average that stays."""
    clock = before if training.ema_clock == "before" else after
    return ema.decay(after - before, clock, half_life=training.ema_half_life, ramp_up=training.ema_ramp_up)


def _mean_latent(generator: Generator, like: Tensor) -> Tensor:
    """Returns the mean w of fixed latents: (1, 1, W)."""
    z = randomness.of_pictures(0, range(_MEAN_OF), generator.sizes.z_dim, use=_MEAN)
    return generator.mapping(z.to(like.device, like.dtype)).mean(dim=0)[None, None]
