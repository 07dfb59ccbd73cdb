"""Options of drawing, and the guided denoiser that samplers follow.

    D = g + w (D(y; text) - g)        w: `guidance`, which is 1 + w of Ho & Salimans, 2022, equation 6

g is a worse prediction from the same noised pictures. There are three kinds. They exclude each other:

    default           the denoiser without the text (Ho & Salimans, 2022)
    weak=IMAGES_SEEN  an earlier checkpoint of the run, with the text (Karras et al., Guiding a Diffusion
                      Model with a Bad Version of Itself, NeurIPS 2024)
    base=RUN          another run, such as the pre-trained base of a fine-tuned one, with the text

Each goes with every sampler and every form of text, and acts between `least_guided` and `most_guided` alone.
w = 1 is the denoiser itself, w = 0 is g.

Axes: N samples, R resolution, T tokens, V dimensions of a vector, L text states, D their width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from train.model import Context, Texts
from train.models import samplers
from train.models.denoiser import Denoiser, Noise
from train.models.formulations import ddpm_levels
from train.models.tower import Tower
from train.models.words import BEGIN, PAD

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
            raise ValueError(f"steps is {self.steps}; it must lie in 1..1000")
        if not 0 <= self.guidance <= MOST_GUIDANCE:
            raise ValueError(f"guidance is {self.guidance}; it must lie in 0..{MOST_GUIDANCE:g}")
        if self.sampler not in samplers.SAMPLERS:
            raise ValueError(f"sampler is {self.sampler}; it must be {', '.join(samplers.SAMPLERS)}")
        if self.text not in _READS:
            raise ValueError(f"text is {self.text}; it must be {', '.join(_READS)}")
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
    scale: float = 1.0  # its factor on latents over that of the guided model


def reads(options: Options) -> frozenset[str]:
    """Returns the forms of a text that drawing reads."""
    return _READS[options.text]


def opens(options: Options) -> tuple[int | str, ...]:
    """Returns the other checkpoints that drawing opens: images seen of this run, or a RUN."""
    return tuple(name for name in (options.weak, options.base) if name is not None)


def schedule(noise: Noise, options: Options) -> list[float]:
    """Returns the noise levels of drawing, in descending order, 0 last. They are among those of training."""
    if options.sampler == "ddim":
        return samplers.ddim_levels(options.steps)
    least, most = noise.least, noise.most
    if noise.formulation == "ddpm":
        trained = ddpm_levels()
        least, most = max(least, float(trained[0])), min(most, float(trained[-1]))
    return samplers.karras_levels(options.steps, least, most)


def guided_denoiser(
    denoiser: Denoiser,
    texts: Texts,
    options: Options,
    context: Context,
    guide: Guide | None = None,
    tower: Tower | None = None,
    unguided: int = 0,
) -> samplers.Denoise:
    """Returns the denoiser of texts, moved away from `guide`, or else from itself without the texts.

    The first `unguided` pictures keep the prediction with the text."""
    n, device = len(texts), context.device
    with autocast(context):
        full = _states(denoiser, tower, texts, options)
        bare = _states(denoiser, tower, texts, options, bare=True)
        theirs = _states(guide.denoiser, guide.tower, guide.texts, options) if guide else bare
    weak, scale = (guide.denoiser, guide.scale) if guide else (denoiser, 1.0)
    both = [torch.cat(pair) for pair in zip(full, bare, strict=True)]

    def worsened(y: Tensor, level: Tensor) -> Tensor:
        # The guide may know the same latents by another factor.
        return weak.denoised(scale * y, scale * level, *theirs) / scale

    def step(y: Tensor, sigma: float) -> Tensor:
        # One prediction.
        acts = options.least_guided <= sigma <= options.most_guided
        weight = options.guidance if acts else 1.0
        level = torch.full((n,), sigma, device=device, dtype=y.dtype)
        with autocast(context):
            if weight == 1:
                return denoiser.denoised(y, level, *full)
            if weight == 0 and not unguided:
                return worsened(y, level)

            # Two predictions, side by side if one network makes them.
            if guide:
                strong, worse = denoiser.denoised(y, level, *full), worsened(y, level)
            else:
                pair = denoiser.denoised(torch.cat([y, y]), level.repeat(2), *both)
                strong, worse = pair.chunk(2)
        moved = samplers.guided(strong[unguided:], worse[unguided:], weight)
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
