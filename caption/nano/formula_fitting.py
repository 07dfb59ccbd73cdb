"""The loss of formula pictures and their attribute sentences.

It has two terms. The first is CLIP's without false negatives: a sentence that the grammar knows to be true of
a picture is no negative of it (caption/contrast.py). The second is a cross entropy per fact of a picture,
among phrases that state the fact's values: this fits zero-shot classification. Every visit has other texts
(caption/nano/prompts.py).

Axes: N pictures, B batch, F facts.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

from caption.contrast import contrastive_loss
from caption.nano import network, prompts
from caption.nano.fitting_sets import Formulas


def loss(
    pictures: Formulas, tokenizer: Any, model: Any, rows: np.ndarray, stream: np.random.Generator
) -> torch.Tensor:
    """Returns the loss of these rows, over their sentences and their phrases."""
    # Sentences and phrases.
    facts = [pictures.facts[row] for row in rows]
    sentences = [prompts.draw(picture, stream) for picture in facts]
    phrases, groups = prompts.phrases(facts, stream)
    texts = sentences + phrases

    # Logits and truth.
    with network.quick():
        images = network.embed_images(model, pictures.pixels[rows])
        embedded = network.embed_texts(model, tokenizer([prompt.text for prompt in texts]))
    logits = model.logit_scale.exp() * images @ embedded.T  # (B, sentences and phrases)
    true = _truth(prompts.codes(facts), prompts.codes(prompt.stated for prompt in texts))
    truth = torch.from_numpy(true)

    # Both terms.
    count = len(sentences)
    contrast = contrastive_loss(logits[:, :count], truth[:, :count])
    return contrast + _phrase_loss(logits[:, count:], truth[:, count:], groups)


def _phrase_loss(logits: torch.Tensor, true: torch.Tensor, groups: list[slice]) -> torch.Tensor:
    """Returns the cross entropy among a fact's values, averaged over all facts of all pictures.

    A value with n pictures has the weight sqrt(n), so a picture of a rare value counts more."""
    total, weights = torch.zeros(()), torch.zeros(())
    for group in groups:
        # Values of the pictures that have the fact.
        rows = true[:, group].any(dim=1)
        value = true[rows, group].float().argmax(dim=1)

        # A picture has the weight 1 / sqrt(n).
        weight = torch.bincount(value).float().rsqrt()[value]
        total = total + (weight * F.cross_entropy(logits[rows, group], value, reduction="none")).sum()
        weights = weights + weight.sum()
    return total / weights.clamp(min=1)


def _truth(known: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Returns the truth of texts for pictures, from their codes (B, F): bool (B pictures, B texts)."""
    return ((stated[None] == 0) | (stated[None] == known[:, None])).all(axis=2)
