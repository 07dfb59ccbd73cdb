"""One space for pictures and texts: the projection of features, and a small text transformer beside it.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision (CLIP), ICML 2021. Their
text transformer reads byte pairs from left to right, and gives the state of its last token. This one reads
words in both directions, and gives the mean of its states.

Axes: N pictures, M texts, T tokens, W width of a feature, D dimensions of the space.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor, nn

from train.models.words import PAD, UNKNOWN, TextStates

_SHARPEST = 0.01  # least temperature; CLIP's


class JointSpace(nn.Module):
    """The embeddings of pictures, by their features, and of texts, by their words."""

    def __init__(
        self, features: int, words: int, width: int, embedding: int, *, layers: int, most: int, warmth: float
    ) -> None:
        super().__init__()
        self.picture = nn.Linear(features, embedding, bias=False)
        self.states = TextStates(words, width, layers=layers, most=most, dimensions=0, prefix=0)
        self.text = nn.Linear(width, embedding, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(-math.log(warmth)))  # ln of one over the temperature

    def pictures(self, features: Tensor) -> Tensor:
        """Returns unit embeddings (N, D) of pictures with these features (N, W)."""
        return F.normalize(self.picture(features).to(self.sharpness.dtype), dim=1)

    def texts(self, tokens: Tensor) -> Tensor:
        """Returns unit embeddings (M, D) of texts, int64 (M, T), filled with PAD.

        Words outside the vocabulary count as absent."""
        states, present = self.states(tokens.masked_fill(tokens == UNKNOWN, PAD), None, None)
        kept = present[:, :, None].to(states.dtype)
        mean = (states * kept).sum(1) / kept.sum(1)
        return F.normalize(self.text(mean).to(self.sharpness.dtype), dim=1)

    def logits(self, pictures: Tensor, texts: Tensor) -> Tensor:
        """Returns cosines over the temperature, (N, M), of unit embeddings."""
        return self.sharpness.exp() * pictures @ texts.T

    @torch.no_grad()
    def limit(self) -> None:
        """Keeps the temperature at 0.01 or above, in place."""
        self.sharpness.clamp_(max=-math.log(_SHARPEST))


def alike(tokens: Tensor) -> Tensor:
    """Returns the label of each text, int64 (M,), of texts (M, T): equal texts have one label."""
    return tokens.unique(dim=0, return_inverse=True)[1]
