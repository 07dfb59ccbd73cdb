"""Colour words of coloured noise, from its parameters.

Fields of noise are Gaussian, so the shares of its colours are known: the colours of a grid of quantiles of
both fields."""

from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from caption.sentences.colour_words import COLOURS, colour_numbers
from caption.sentences.grammar import Facts
from synth.families.noise import lines

Json = dict[str, Any]

_STEPS = 32  # quantiles of a field
_STEEPEST = 2.0  # a field of a steeper spectrum is a few waves, and not Gaussian
_MOST = 0.6  # share of a picture that has the colour of the whole
_SOME = 0.2  # share of a picture that has a colour worth naming


def tones(params: Json) -> Facts:
    """Returns the facts of noise's colours: `colour` of most pixels, else `tones`, its two commonest colours,
    else `partly`, one colour."""
    if params["slope"] > _STEEPEST:
        return {}

    # The share of each colour word.
    colours = tuple((int(red), int(green), int(blue)) for red, green, blue in params["colours"])
    pixels = np.tensordot(_grid(), lines(colours), 1).clip(0, 255).astype(np.uint8)
    numbers = colour_numbers(pixels)
    shares = {word: float((numbers == i).mean()) for i, word in enumerate(COLOURS)}

    # Words of the commonest.
    common = sorted(shares, key=lambda word: -shares[word])[:2]
    seen = [word for word in COLOURS if word in common and shares[word] >= _SOME]
    if shares[common[0]] >= _MOST:
        return {"colour": common[0]}
    if len(seen) == 2:
        return {"tones": " and ".join(seen)}
    return {"partly": seen[0]} if seen else {}


@cache
def _grid() -> np.ndarray:
    """Returns 1 and both fields at their quantiles: float64 (32, 32, 3)."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / _STEPS) for i in range(_STEPS)]
    first, second = np.meshgrid(quantiles, quantiles, indexing="ij")
    return np.stack([np.ones_like(first), first, second], axis=-1)
