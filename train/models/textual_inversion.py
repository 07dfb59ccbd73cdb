"""Textual inversion: a word for a few pictures (Gal et al., An Image is Worth One Word, ICLR 2023).

    v* = argmin E || F(y; sigma, text with v*) - target ||^2          equation 2, with the loss of the run

Only the vectors v* of the word's tokens are trained, as a parameter of their own. So all other rows of the
table and all weights stay, bit for bit. With method `keys`, the keys and values of cross-attention are
trained too (Kumari et al., Custom Diffusion, CVPR 2023). Prompts without the word then change.

With `per_layer`, each layer of cross-attention reads vectors of its own (Voynov et al., P+, 2023).

Axes: N pictures, T tokens of a text, K tokens of the word, L layers with vectors of their own, D width of a
vector.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from train.models import randomness
from train.models.denoiser import Denoiser
from train.models.diffusion import noised
from train.models.unet import Attention
from train.models.words import TextStates

METHODS = ("row", "keys")
ROWS = "rows"  # the name of v* among learned tensors; the others have the names of the denoiser's weights

_NOISE, _START, _HELD = range(10, 13)  # uses of random numbers; training has others
_SPREAD = 0.02  # deviation of further tokens of a word from the first
_HELD_PICTURES = 64  # noised pictures that measure the loss


@dataclass(frozen=True)
class Settings:
    """Settings of an inversion."""

    tokens: int = 1  # K
    per_layer: bool = False  # vectors for each layer of cross-attention
    method: str = "row"  # or keys
    steps: int = 300
    batch: int = 8
    lr: float = 0.02  # of v*, for tables of deviation .2; keys and values have a fiftieth
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method}; it must be {' or '.join(METHODS)}")
        if min(self.tokens, self.steps, self.batch) < 1 or self.tokens > 8:
            raise ValueError("tokens must lie in 1..8; steps and batch must be at least 1")
        if not 0 < self.lr <= 1 or not 0 <= self.seed < 1 << 64:
            raise ValueError("lr must be above 0 and at most 1; seed must be at least 0 and below 2^64")


class Inversion(nn.Module):
    """A frozen denoiser with the vectors of a new word, and maybe keys and values of its own."""

    def __init__(self, denoiser: Denoiser, first: int, settings: Settings) -> None:
        """Begins at the vector of the token `first`."""
        super().__init__()
        self._settings, text = settings, cast(TextStates, denoiser.text)
        layers = layers_of(denoiser) if settings.per_layer else 1
        if layers > 1:
            denoiser = copy.deepcopy(denoiser)
            row = (len(text.word.weight), settings.tokens, layers)
            cast(TextStates, denoiser.text).layered = (*text.layered, row)
        self._frozen = (denoiser,)  # a tuple, so that its weights are no parameters here
        start = text.word.weight[first].detach()
        rows = start.expand(settings.tokens, -1).clone()
        if settings.tokens > 1:
            others = randomness.of_pictures(settings.seed, range(1, settings.tokens), len(start), use=_START)
            rows[1:] += _SPREAD * others.to(rows)
        self.rows = nn.Parameter(rows.repeat(layers, 1))  # (L K, D), all of a layer together
        tuned = key_values(denoiser) if settings.method == "keys" else {}
        self._names = list(tuned)
        self.tuned = nn.ParameterList(nn.Parameter(value.detach().clone()) for value in tuned.values())

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned tensors by name."""
        tuned = dict(zip(self._names, self.tuned, strict=True))
        return {name: value.detach().clone() for name, value in {ROWS: self.rows, **tuned}.items()}

    def errors(self, x: Tensor, tokens: Tensor, use: int, numbers: Sequence[int]) -> Tensor:
        """Returns the error (N,) of pictures x (N, 3, R, R) with texts int64 (N, T)."""
        [denoiser] = self._frozen
        table = cast(TextStates, denoiser.text).word.weight
        weights = {"word.weight": torch.cat([table, self.rows])}
        states, present = functional_call(denoiser.text, weights, (tokens, None, None))
        y, sigma = noised(denoiser, x, self._settings.seed, use, numbers)
        tuned = dict(zip(self._names, self.tuned, strict=True))
        output = functional_call(denoiser, tuned, (y, sigma, states, present))
        return denoiser.errors(output, x, y, sigma)

    @torch.no_grad()
    def held_loss(self, pictures: Tensor, tokens: Tensor) -> float:
        """Returns the mean error under noise that no step has: each picture in turn, each text in turn."""
        numbers = range(_HELD_PICTURES)
        x, texts = pictures[_turns(numbers, pictures)], tokens[_turns(numbers, tokens)]
        return float(self.errors(x, texts, _HELD, numbers).mean())


def invert(inversion: Inversion, pictures: Tensor, tokens: Tensor, settings: Settings) -> Iterator[int]:
    """Trains an inversion on pictures (N, 3, R, R) with texts int64 (M, T). Yields 1 after each step.

    Pictures come in turn. Texts are chosen by picture number."""
    groups = [{"params": [inversion.rows], "lr": settings.lr}]
    groups += [{"params": list(inversion.tuned), "lr": settings.lr / 50}]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    for step in range(settings.steps):
        numbers = range(step * settings.batch, (step + 1) * settings.batch)
        _, chances = randomness.draw(settings.seed, _START, numbers, 0, uniforms=1)
        texts = tokens[(chances[:, 0] * len(tokens)).long().to(tokens.device)]
        optimiser.zero_grad()
        inversion.errors(pictures[_turns(numbers, pictures)], texts, _NOISE, numbers).mean().backward()
        optimiser.step()
        yield 1


def with_words(denoiser: Denoiser, words: Sequence[tuple[Mapping[str, Tensor], tuple[int, int]]]) -> Denoiser:
    """Returns a copy of a denoiser with the learned tensors of words, in order. Their tokens follow its own.

    A word comes with its number of tokens, and of layers with vectors of their own. Keys and values that
    several words tune change by the sum of all changes."""
    grown, text = copy.deepcopy(denoiser), cast(TextStates, denoiser.text)
    rows = [word[ROWS].to(text.word.weight) for word, _ in words]
    firsts = itertools.accumulate(map(len, rows[:-1]), initial=len(text.word.weight))
    sizes = zip(firsts, words, strict=True)
    cast(TextStates, grown.text).word = nn.Embedding.from_pretrained(torch.cat([text.word.weight, *rows]))
    layered = ((first, tokens, layers) for first, (_, (tokens, layers)) in sizes if layers > 1)
    cast(TextStates, grown.text).layered = (*text.layered, *layered)
    before, after = denoiser.state_dict(), grown.state_dict()
    for word, _ in words:
        for name in word.keys() - {ROWS}:
            after[name] += word[name].to(after[name]) - before[name]
    return grown.requires_grad_(False)


def layers_of(denoiser: Denoiser) -> int:
    """Returns the number of layers of cross-attention."""
    return len(key_values(denoiser))


def key_values(denoiser: Denoiser) -> dict[str, Tensor]:
    """Returns the matrices of keys and values of cross-attention to texts, by name."""
    crossing = [m for m in denoiser.unet.modules() if isinstance(m, Attention) and m.crosses]
    return {f"unet.{layer.place}.key_value.weight": layer.key_value.weight for layer in crossing}


def _turns(numbers: Sequence[int], rows: Tensor) -> Tensor:
    return torch.tensor([number % len(rows) for number in numbers], device=rows.device)
