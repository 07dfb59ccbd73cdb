"""The loss of scenes and their sentences.

It has two terms. The first is CLIP's without false negatives, over sentences of one to eight facts: a
sentence that is true of another picture is no negative of it (caption/nano/scene_texts.py). Each sentence
also has a version with one fact changed, which is false of its picture (Yuksekgonul et al., When and Why
Vision-Language Models Behave like Bags-of-Words, ICLR 2023). The second is a cross entropy of the backdrop's
colour, of an object's colour given its kind, and of its kind given its colour.

Axes: B batch, T texts, P pairs of kind and colour.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

from caption.contrast import contrastive_loss
from caption.nano import network, scene_texts
from caption.nano.fitting_sets import Scenes
from caption.nano.scene_texts import Outline, Pair, Vocabulary
from caption.sentences.scene_facts import SceneFact
from caption.sentences.scene_sentences import canonical, statement
from caption.sentences.scene_writing import write
from synth.seeds import Stream

_MOST = 8  # facts of a sentence


def loss(
    pictures: Scenes,
    known: Vocabulary,
    tokenizer: Any,
    model: Any,
    rows: np.ndarray,
    stream: np.random.Generator,
) -> torch.Tensor:
    """Returns the loss of these rows, over their sentences, false sentences and phrases."""
    # Sentences: the pictures' own, then false ones.
    facts = [pictures.facts[row] for row in rows]
    scenes = [scene_texts.outline(picture) for picture in facts]
    numbers = Stream(int(stream.integers(1 << 62)))
    most = [min(_MOST, len(canonical(picture))) for picture in facts]
    statements = [
        statement(picture, numbers, int(stream.integers(1, most[i] + 1))) for i, picture in enumerate(facts)
    ]
    for original, scene in zip(statements[:], scenes, strict=True):
        if false := scene_texts.changed(original.facts, scene, known, stream):
            statements.append(write(false, numbers))

    # Phrases of the batch's pairs and backdrops.
    pairs = sorted(set().union(*(scene_texts.pairs(scene) for scene in scenes)))
    backdrops = sorted({value for scene in scenes for name, value in scene.scene if name == "backdrop"})
    phrases = [[SceneFact("kind", 0, kind), SceneFact("colour", 0, colour)] for kind, colour in pairs]
    phrases += [[SceneFact("backdrop", -1, word)] for word in backdrops]

    # Logits.
    texts = [text.text for text in statements] + [write(phrase, numbers).text for phrase in phrases]
    with network.quick():
        images = network.embed_images(model, pictures.pixels[rows])
        embedded = network.embed_texts(model, tokenizer(texts))
    logits = model.logit_scale.exp() * images @ embedded.T  # (B, all texts)

    # Both terms.
    count = len(statements)
    true = scene_texts.truth(scenes, [scene_texts.outline(text.facts) for text in statements])
    contrast = contrastive_loss(logits[:, :count], torch.from_numpy(true))
    paired, behind = logits[:, count : count + len(pairs)], logits[:, count + len(pairs) :]
    return contrast + _phrase_loss(paired, scenes, pairs) + _backdrop_loss(behind, scenes, backdrops)


def _phrase_loss(logits: torch.Tensor, scenes: list[Outline], pairs: list[Pair]) -> torch.Tensor:
    """Returns the cross entropy of objects' colours and kinds, of logits (B, P).

    Pairs that other objects of the picture have are no negatives."""
    # Objects: row and pair.
    number = {pair: i for i, pair in enumerate(pairs)}
    has = np.zeros(logits.shape, bool)
    for row, scene in enumerate(scenes):
        has[row, [number[pair] for pair in scene_texts.pairs(scene)]] = True
    rows, answers = (torch.from_numpy(places) for places in has.nonzero())
    if not len(rows):
        return logits.sum() * 0

    # Candidates: the pairs of the same kind, and those of the same colour.
    total = torch.zeros(())
    others = torch.from_numpy(has)[rows] & (torch.arange(len(pairs)) != answers[:, None])
    for words in zip(*pairs, strict=True):
        _, codes = np.unique(words, return_inverse=True)
        code = torch.from_numpy(codes)
        excluded = others | (code[None] != code[answers][:, None])
        total = total + F.cross_entropy(logits[rows].masked_fill(excluded, float("-inf")), answers)
    return total / 2


def _backdrop_loss(logits: torch.Tensor, scenes: list[Outline], words: list[str | int]) -> torch.Tensor:
    """Returns the cross entropy of the backdrops' colours, of logits (B, colours)."""
    answers = [words.index(dict(scene.scene)["backdrop"]) for scene in scenes]
    return F.cross_entropy(logits, torch.tensor(answers))
