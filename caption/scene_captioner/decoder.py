"""A small transformer that writes a caption, word by word (Vaswani et al., Attention Is All You Need, 2017).

Each layer attends to the words so far, and then to the picture: the encoder's vector and, unless `patches` is
0, the vectors of its patches. Norms come before their blocks. Input and output share the word vectors.

Axes: N pictures, L words, M vectors of a picture, D and P their dimensions, W width, H heads, E = W / H.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor, nn

from caption.scene_captioner.vocabulary import END, UNKNOWN

_DEVIATION = 0.02  # of the initial vectors of places


@dataclass(frozen=True)
class Shape:
    """The numbers that decide the weights."""

    words: int  # of the vocabulary, with END and UNKNOWN
    vector: int  # D
    patches: int  # P; 0: the decoder reads the vector alone
    places: int  # M
    width: int = 80  # W
    heads: int = 5  # H
    layers: int = 2
    hidden: int = 288  # of the blocks after attention
    most: int = 240  # words of a caption


class Seen(NamedTuple):
    """The encoder's output on some pictures."""

    vectors: Tensor  # (N, D)
    patches: Tensor | None  # (N, M - 1, P)

    def rows(self, chosen: Tensor | slice) -> "Seen":
        """Returns some of the pictures."""
        return Seen(self.vectors[chosen], None if self.patches is None else self.patches[chosen])


Cache = tuple[Tensor, Tensor] | None  # keys and values of the words so far, (N, H, L, E) each


class Decoder(nn.Module):
    """Words so far and a picture -> scores of the next word."""

    positions: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.words = nn.Embedding(shape.words, shape.width)
        nn.init.normal_(self.words.weight, std=shape.width**-0.5)
        self.vector = nn.Linear(shape.vector, shape.width)
        self.patches = nn.Sequential()
        if shape.patches:
            self.patches = nn.Sequential(nn.LayerNorm(shape.patches), nn.Linear(shape.patches, shape.width))
        self.places = nn.Parameter(_DEVIATION * torch.randn(shape.places, shape.width))
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.register_buffer("positions", _waves(shape.most + 1, shape.width), persistent=False)

    def forward(self, words: Tensor, seen: Seen) -> Tensor:
        """Returns scores (N, L, words) of the word after each, from words int64 (N, L)."""
        x = self._embedded(words, 0)  # N L W
        for layer, picture in zip(self.layers, self._pictures(seen), strict=True):
            x, _ = layer(x, picture, None)
        return self._scores(x)

    @torch.inference_mode()
    def write(self, seen: Seen) -> list[list[int]]:
        """Returns the likeliest next word again and again, up to END or the greatest length."""
        # The start is END, and so no caption is empty.
        pictures = self._pictures(seen)
        caches: list[Cache] = [None] * len(pictures)
        word = torch.full((len(seen.vectors), 1), END, device=seen.vectors.device)
        ended, columns = torch.zeros_like(word, dtype=torch.bool), []

        for place in range(self.shape.most):
            x = self._embedded(word, place)
            for number, layer in enumerate(self.layers):
                x, caches[number] = layer(x, pictures[number], caches[number])
            scores = self._scores(x)
            scores[..., UNKNOWN] = -math.inf
            if place == 0:
                scores[..., END] = -math.inf
            word = torch.where(ended, END, scores.argmax(dim=-1))
            ended = ended | (word == END)
            columns.append(word)
            if ended.all():
                break
        return torch.cat(columns, dim=1).tolist()

    def _embedded(self, words: Tensor, first: int) -> Tensor:
        """Returns words with their positions, which begin at `first`: (N, L) -> (N, L, W)."""
        scale = math.sqrt(self.shape.width)
        return self.words(words) * scale + self.positions[first : first + words.shape[1]]

    def _pictures(self, seen: Seen) -> list[tuple[Tensor, Tensor]]:
        """Returns each layer's keys and values of the pictures: (N, H, M, E) each."""
        vectors = self.vector(seen.vectors * math.sqrt(self.shape.vector)).unsqueeze(1)  # N 1 W
        if seen.patches is not None:
            vectors = torch.cat([vectors, self.patches(seen.patches)], dim=1)
        vectors = vectors + self.places
        return [layer.picture(vectors) for layer in self.layers]  # type: ignore[operator]

    def _scores(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.words.weight).float()


class _Layer(nn.Module):
    """Attention to the words so far, attention to the picture, and a block for each word."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, self.heads = shape.width, shape.heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.words, self.words_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.query_out = nn.Linear(width, width), nn.Linear(width, width)
        self.source = nn.Linear(width, 2 * width)
        self.block = nn.Sequential(nn.Linear(width, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, width))

    def forward(self, x: Tensor, picture: tuple[Tensor, Tensor], cache: Cache) -> tuple[Tensor, Cache]:
        """Returns the words' vectors after this layer, and the cache for the next word."""
        # Words so far.
        query, key, value = (self._by_head(part) for part in self.words(self.norms[0](x)).chunk(3, dim=-1))
        if cache is not None:
            key, value = torch.cat([cache[0], key], dim=2), torch.cat([cache[1], value], dim=2)
        read = F.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        x = x + self.words_out(_joined(read))

        # Picture.
        query = self._by_head(self.query(self.norms[1](x)))
        x = x + self.query_out(_joined(F.scaled_dot_product_attention(query, *picture)))
        return x + self.block(self.norms[2](x)), (key, value)

    def picture(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns keys and values of a picture's vectors: (N, M, W) -> (N, H, M, E) each."""
        key, value = self.source(self.norms[3](vectors)).chunk(2, dim=-1)
        return self._by_head(key), self._by_head(value)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # N H L E


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # N L W


def _waves(length: int, width: int) -> Tensor:
    """Returns sines and cosines of the positions, (length, width): section 3.5 of the paper."""
    rates = torch.exp(-math.log(10_000) * torch.arange(0, width, 2) / width)
    angles = torch.arange(length).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
