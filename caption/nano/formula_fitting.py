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
    facts = [pictures.facts[row] for row in rows]
    drawn = [prompts.draw(known, stream) for known in facts]
    phrases, groups = prompts.phrases(facts, stream)
    with network.quick():
        images = network.embed_images(model, pictures.pixels[rows])
        texts = network.embed_texts(model, tokenizer([prompt.text for prompt in drawn + phrases]))
    logits = model.logit_scale.exp() * images @ texts.T  # (B, sentences and phrases)
    known, stated = prompts.codes(facts), prompts.codes(prompt.stated for prompt in drawn + phrases)
    true = torch.from_numpy(_truth(known, stated))
    own = len(facts)
    return contrastive_loss(logits[:, :own], true[:, :own]) + _phrase_loss(
        logits[:, own:], true[:, own:], groups
    )


def _phrase_loss(logits: torch.Tensor, true: torch.Tensor, groups: list[slice]) -> torch.Tensor:
    """Returns the cross entropy among a fact's values, averaged over all facts of all pictures.

    A value with n pictures has the weight sqrt(n), so a picture of a rare value counts more."""
    total, weights = torch.zeros(()), torch.zeros(())
    for group in groups:
        rows = true[:, group].any(dim=1)
        value = true[rows, group].float().argmax(dim=1)
        weight = torch.bincount(value).float().rsqrt()[value]
        total = total + (weight * F.cross_entropy(logits[rows, group], value, reduction="none")).sum()
        weights = weights + weight.sum()
    return total / weights.clamp(min=1)


def _truth(known: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """Returns the truth of texts for pictures, from their codes (B, F): bool (B pictures, B texts)."""
    return ((stated[None] == 0) | (stated[None] == known[:, None])).all(axis=2)
