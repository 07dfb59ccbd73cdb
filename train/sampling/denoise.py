"""Denoising: single calls of a run's model on noised pictures, for measurements.

Axes: N pictures, R resolution.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from synth.errors import UserError
from train.model import Context, Loaded, Texts, find
from train.models import randomness
from train.sampling import draw

# Noised pictures (n, 3, R, R), sigma, and the numbers of their texts -> denoised pictures, on the CPU.
Denoiser = Callable[[Tensor, float, list[int]], Tensor]

_NOISE = 1  # the use of random numbers; drawing has 0


def require_denoising(name: str, run: str) -> None:
    """Raises UserError if a model does not denoise."""
    if not hasattr(find(name), "denoiser"):
        problem = f"{run} is a run of {name}, which does not denoise"
        raise UserError(f"{problem}; give a run of diffusion")


def denoiser(model: Loaded, texts: Texts, options: Mapping[str, str]) -> Denoiser:
    """Returns the denoiser of a model with texts. `options` of drawing are in their command-line form.

    Raises UserError if the model has no such option."""
    module, values = find(model.name), draw.options_of(model.name, options)
    context = Context(texts.device, torch.float32, model.survey)

    @torch.no_grad()
    def denoised(noised: Tensor, sigma: float, rows: list[int]) -> Tensor:
        step = module.denoiser(model.parts, texts[rows], values, context)
        return step(noised.to(texts.device), sigma).cpu()

    return denoised


def noise(seed: int, numbers: Sequence[int], side: int) -> Tensor:
    """Returns the noise N(0, 1) of pictures by number: float32 (N, 3, R, R), on the CPU."""
    return randomness.of_pictures(seed, numbers, 3 * side * side, use=_NOISE).view(-1, 3, side, side)
