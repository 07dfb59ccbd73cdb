"""Texts for a denoiser: a vocabulary of words, and the states that cross-attention reads.

A text is a caption's words, a vector (a pseudo-caption or a caption's embedding), both, or neither. A vector
becomes `prefix` states before those of the words. A word outside the vocabulary is one common token.

Axes: N samples, T tokens, V dimensions of a vector, D width of a state, L = prefix + T states.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from train.models.unet import Attention, FeedForward

PAD, BEGIN, UNKNOWN = range(3)  # tokens before those of words

_SPLIT = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


@dataclass(frozen=True)
class Vocabulary:
    """Words with numbers from 3 on. It is sent to reader processes."""

    words: tuple[str, ...]
    most: int = 64  # tokens of a text; further ones are cut off
    # Words of textual inversion, each with its number of tokens, and of layers with vectors of their own.
    # Their rows follow the others. Those of the first layer have the tokens of texts.
    learned: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def of(cls, texts: Iterable[str], most: int = 64) -> "Vocabulary":
        """Returns the vocabulary of texts, common words first."""
        counts = Counter(word for text in texts for word in split(text))
        return cls(tuple(sorted(counts, key=lambda word: (-counts[word], word))), most)

    def __len__(self) -> int:
        return UNKNOWN + 1 + len(self.words) + sum(count * layers for _, count, layers in self.learned)

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        numbers = {word: [UNKNOWN + 1 + number] for number, word in enumerate(self.words)}
        first = UNKNOWN + 1 + len(self.words)
        for word, count, layers in self.learned:
            numbers[word] = list(range(first, first + count))
            first += count * layers
        return numbers

    @cached_property
    def _split(self) -> re.Pattern[str]:
        # A learned word such as <thing> holds signs. It is one word.
        literal = "|".join(re.escape(word) for word, *_ in self.learned if not word.isalnum())
        return re.compile(f"{literal}|{_SPLIT.pattern}") if literal else _SPLIT

    def __call__(self, text: str) -> list[int]:
        """Returns the tokens of a text, BEGIN first."""
        tokens = (self._numbers.get(word, [UNKNOWN]) for word in self.divided(text))
        return [BEGIN, *itertools.chain.from_iterable(tokens)][: self.most]

    def divided(self, text: str) -> list[str]:
        """Returns the words of a text."""
        return self._split.findall(text.lower())


def split(text: str) -> list[str]:
    """Returns the words of a text in lower case. Signs are words of their own."""
    return _SPLIT.findall(text.lower())


def surveyed(texts: Iterable[str], base: Iterable[str] = ()) -> list[str]:
    """Returns the words of a base, which keep their numbers, and then those of texts, common words first."""
    return list(dict.fromkeys([*base, *Vocabulary.of(texts).words]))


def with_new_words(tensors: dict[str, Tensor], name: str, first: Tensor) -> dict[str, Tensor]:
    """Returns a base's weights, with the last of the `first` vectors for words that the base does not know.

    `name` is that of the table of words, (words, D)."""
    return {**tensors, name: torch.cat([tensors[name], first[len(tensors[name]) :].detach()])}


def padded(rows: Iterable[list[int]]) -> Tensor:
    """Returns tokens of texts as int64 (N, T), filled with PAD."""
    tokens = [torch.tensor(row) for row in rows]
    return nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=PAD)


class _Prefixed(nn.Module):
    """States of texts with those of their vectors before them."""

    def __init__(self, width: int, *, dimensions: int, prefix: int) -> None:
        super().__init__()
        self.prefix, self.width = prefix if dimensions else 0, width
        self._dimensions = dimensions

    def _add_vectors(self) -> None:
        """Adds the weights for vectors."""
        if self.prefix:
            self.vector = nn.Linear(self._dimensions, self.prefix * self.width)
            self.vector_position = nn.Parameter(0.02 * torch.randn(self.prefix, self.width))

    def _with_vectors(
        self, states: Tensor, present: Tensor, vectors: Tensor | None, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns states (N, T, D) and their presence with those of vectors (N, V) before them."""
        if not self.prefix or vectors is None or given is None:
            return states, present
        # Unit vectors have small entries. Scaled ones have variance 1.
        rows = self.vector(vectors * vectors.shape[1] ** 0.5).view(vectors.shape[0], self.prefix, self.width)
        states = torch.cat([(rows + self.vector_position).to(states.dtype), states], dim=1)
        return states, torch.cat([given[:, None].expand(-1, self.prefix), present], dim=1)


class TextStates(_Prefixed):
    """Words and vectors as states for cross-attention, by a small transformer.

    First, a convolution joins each word to its neighbours, so "star" knows its colour (after Allen-Zhu, Canon
    layers, 2025)."""

    def __init__(
        self, words: int, width: int, *, layers: int, most: int, dimensions: int, prefix: int
    ) -> None:
        super().__init__(width, dimensions=dimensions, prefix=prefix)
        self.word = nn.Embedding(words, width)
        self.position = nn.Parameter(0.02 * torch.randn(most, width))
        nn.init.normal_(self.word.weight, std=0.2)
        self._add_vectors()
        # Words with vectors for each layer of cross-attention: first token, tokens, layers.
        self.layered: tuple[tuple[int, int, int], ...] = ()
        self.neighbours = nn.Conv1d(width, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns states (N, L, D) and their presence, bool (N, L).

        tokens int64 (N, T) hold PAD behind a text. `given`, bool (N,), tells for which samples the vectors
        (N, V), of unit length, count. With layered words, the states (N, L, K D) are those of K layers."""
        if not self.layered:
            return self._states(tokens, vectors, given)
        count = max(layers for _, _, layers in self.layered)
        each = [self._states(self._of_layer(tokens, k), vectors, given) for k in range(count)]
        return torch.cat([states for states, _ in each], dim=2), each[0][1]

    def _states(self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None) -> tuple[Tensor, Tensor]:
        present = tokens != PAD
        states = self.word(tokens) + self.position[: tokens.shape[1]]
        states = states + self.neighbours((states * present[:, :, None]).mT).mT
        states, present = self._with_vectors(states, present, vectors, given)
        for block in self.blocks:
            states = block(states, present)
        return self.norm(states), present

    def _of_layer(self, tokens: Tensor, layer: int) -> Tensor:
        """Returns tokens with those of layered words moved to the rows of a layer."""
        for first, count, _ in self.layered:
            moves = (tokens >= first) & (tokens < first + count)
            tokens = torch.where(moves, tokens + layer * count, tokens)
        return tokens


class TowerStates(_Prefixed):
    """Token states of a frozen text transformer and vectors as states for cross-attention."""

    def __init__(self, tower: int, width: int, *, dimensions: int, prefix: int) -> None:
        super().__init__(width, dimensions=dimensions, prefix=prefix)
        self.project = nn.Linear(tower, width)
        self._add_vectors()
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, vectors: Tensor | None, given: Tensor | None, states: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns states (N, L, D) and their presence, bool (N, L), as of TextStates.

        states (N, T, W) are the transformer's, of width W."""
        rows, present = self._with_vectors(self.project(states), tokens != PAD, vectors, given)
        return self.norm(rows), present


class _Block(nn.Module):
    """A transformer block over the states of a text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width)
        self.forward_norm, self.feed_forward = nn.LayerNorm(width), FeedForward(width, 4)

    def forward(self, states: Tensor, present: Tensor) -> Tensor:
        states = states + self.attention(self.attention_norm(states), None, present)
        return states + self.feed_forward(self.forward_norm(states))
