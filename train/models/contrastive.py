"""Contrastive learning of features: SimCLR, StableRep, StableRep++ and CLIP.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020; Tian et al.,
StableRep, NeurIPS 2023; Radford et al., Learning Transferable Visual Models From Natural Language
Supervision, ICML 2021. All have the loss of caption/contrast.py, a cross entropy with a soft target over
similarities of the whole batch:

    L = picture_weight L(pictures, pictures) + text_weight (L(pictures, texts) + L(texts, pictures)) / 2

They differ in the weights, and in the positives of a view:

    SimCLR       weights 1, 0; training.views 2, training.group 1: the other view of its picture
    StableRep    weights 1, 0; training.views 1, training.group 6: the other pictures of its class or caption
    StableRep++  weights 1, 1; the same, and the texts that equal its own
    CLIP         weights 0, 1; the texts that equal its own

The loss couples the batch of all ranks. Features are those before the head and before the joint space.

Axes: N samples, V views of a sample, T tokens, R resolution, W width of a feature, D dimensions of an
embedding.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor, nn

from caption.contrast import both_ways, positives_of, similarities, soft_target_loss
from synth import settings
from synth.errors import UserError
from train.model import (
    MOST_SIZE,
    CaptionedPicture,
    Context,
    Json,
    Micro,
    Model,
    Needs,
    Phase,
    PictureEncoder,
    Terms,
    Wanted,
)
from train.models.features import backbones
from train.models.features.backbones import BackboneSizes, LearnerTraining
from train.models.features.joint import JointSpace, alike
from train.models.guidance import autocast
from train.models.unet import heads_of
from train.models.words import Vocabulary, surveyed, with_new_words
from train.stream.augmentations import Augmentations

BACKBONE, HEAD, JOINT = "backbone", "head", "joint"
POSITIVES = ("class", "caption")

_SURVEYED = 20_000  # samples


@dataclass(frozen=True)
class Sizes(BackboneSizes):
    """Sizes of the backbone, of its head, and of the text transformer."""

    head: int = 512  # width of the head's layers
    embedding: int = 128  # D
    text_width: int = 128
    text_layers: int = 2
    tokens: int = 64  # of a text, at most

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("head", "embedding", "text_width", "text_layers", "tokens")
        settings.require_within(self, 1, MOST_SIZE, *names)
        if not heads_of(self.text_width):
            raise ValueError(f"text_width is {self.text_width}; from 64 on, it must be a multiple of 32")


@dataclass(frozen=True)
class Loss:
    """Settings of the loss."""

    picture_weight: float = 1.0  # of the loss between pictures
    text_weight: float = 0.0  # of the loss between pictures and texts
    temperature: float = 0.1  # between pictures
    text_temperature: float = 0.07  # between pictures and texts, at first; it is learned

    def __post_init__(self) -> None:
        for name in ("temperature", "text_temperature"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if min(self.picture_weight, self.text_weight) < 0 or not self.picture_weight + self.text_weight:
            raise ValueError("picture_weight and text_weight must be at least 0, and one of them above")


@dataclass(frozen=True)
class Training(LearnerTraining):
    """Settings of batches and their positives, of steps and the optimiser."""

    views: int = 2  # of a picture
    group: int = 1  # pictures of one label
    positives: str = "class"  # the label: class or caption

    def __post_init__(self) -> None:
        super().__post_init__()
        settings.require_within(self, 1, MOST_SIZE, "views", "group")
        if self.positives not in POSITIVES:
            raise ValueError(f"positives is {self.positives}; it must be {' or '.join(POSITIVES)}")


@dataclass(frozen=True)
class Config:
    """All settings of the model and its steps."""

    model: Sizes = field(default_factory=Sizes)
    loss: Loss = field(default_factory=Loss)
    augment: Augmentations = field(default_factory=Augmentations)
    training: Training = field(default_factory=Training)


def needs(config: Config) -> Needs:
    """Returns the needs of the loss: the whole batch, in groups, and captions if it has texts.

    Raises UserError if sizes do not divide each other, or no view has a positive."""
    training, loss = config.training, config.loss
    backbones.require_divisible(config.model)
    if loss.picture_weight and training.views * training.group < 2:
        problem = "with one view of a picture and groups of one, no view has a positive"
        raise UserError(f"{problem}; give --set training.views=2 or --set training.group=6")
    groups = (training.group,) if training.group > 1 else ()
    weights = {BACKBONE: 1.0, HEAD: loss.picture_weight, JOINT: loss.text_weight}
    return Needs(
        parts=tuple(name for name, weight in weights.items() if weight),
        tables=loss.text_weight > 0,
        vectors=False,
        groups=groups,
        whole=True,
        group=training.group,
        positives=training.positives,
    )


def survey(
    config: Config, samples: Iterable[CaptionedPicture], base: Json, encoder: PictureEncoder | None = None
) -> Json:
    """Returns the vocabulary of the captions, if the loss has texts. Words of a base keep their numbers."""
    if not config.loss.text_weight:
        return {}
    texts = (text for sample in itertools.islice(samples, _SURVEYED) for text in sample.captions)
    return {"words": surveyed(texts, base.get("words", ()))}


def tokeniser(config: Config, survey: Json) -> Vocabulary:
    """Returns the vocabulary of a run. Its loss must have texts."""
    return Vocabulary(tuple(survey["words"]), config.model.tokens)


def grown(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns a base's weights of a part, with first vectors for the words that it does not know."""
    if not isinstance(module, JointSpace):
        return tensors
    return with_new_words(tensors, "states.word.weight", module.states.word.weight)


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns the backbone with its first weights, and the head and the joint space, if the loss has them."""
    sizes, loss = config.model, config.loss
    further: dict[str, nn.Module] = {}
    if loss.picture_weight:
        further[HEAD] = backbones.projection(sizes.features, sizes.head, sizes.embedding)
    networks = {BACKBONE: backbones.backbone(sizes), **further}
    if loss.text_weight:
        networks[JOINT] = JointSpace(
            sizes.features,
            len(tokeniser(config, context.survey)),
            sizes.text_width,
            sizes.embedding,
            layers=sizes.text_layers,
            most=sizes.tokens,
            warmth=loss.text_temperature,
        )
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of all networks in one phase."""
    training, joint = config.training, cast(JointSpace | None, parts.get(JOINT))
    wanted = Wanted(
        vectors=(),
        views=training.views,
        augment=config.augment,
        group=training.group,
        positives=training.positives,
        tokenise=tokeniser(config, context.survey) if joint else None,
    )

    def settle(terms: Terms) -> None:
        if joint:
            joint.limit()

    phase = Phase("learn", tuple(parts), _Loss(parts, config, context), settle=settle if joint else None)
    return Model(training.optimisers(parts), [phase], wanted=wanted, rate=training.rate)


class _Loss:
    """The loss of the one phase."""

    def __init__(self, parts: Mapping[str, nn.Module], config: Config, context: Context) -> None:
        self._parts, self._config, self._context = dict(parts), config, context

    def __call__(self, micro: Micro) -> Iterator[Terms]:
        """Yields the weighted terms, and the shares of views with a positive as the nearest."""
        with autocast(self._context):
            seen = features(self._parts, micro.pictures.flatten(0, 1))  # (N V, W)
        terms: Terms = {}
        if self._config.loss.picture_weight:
            terms |= self._between_pictures(micro, seen)
        if self._config.loss.text_weight:
            terms |= self._with_texts(micro, seen)
        yield terms

    def _between_pictures(self, micro: Micro, seen: Tensor) -> Terms:
        """Returns the loss of views with each other."""
        # Embeddings of all ranks. Batch norm in the head sees the whole batch.
        rows = self._gathered(micro, seen)
        with autocast(self._context):
            rows = self._parts[HEAD](rows).to(self._context.weights)

        # Labels of all ranks. Views of a picture have that of the picture.
        labels = micro.labels
        if labels is None:
            labels = torch.arange(micro.numbers.start, micro.numbers.stop, device=rows.device)
        labels = self._context.gather(labels).repeat_interleave(micro.pictures.shape[1])

        # The loss.
        cosines = similarities(rows, self._config.loss.temperature)
        positives, itself = positives_of(labels)
        right = _nearest(cosines.masked_fill(itself, -math.inf), positives)
        value = self._config.loss.picture_weight * soft_target_loss(cosines, positives, itself)
        return {"contrast": value, "nearest": right}

    def _with_texts(self, micro: Micro, seen: Tensor) -> Terms:
        """Returns the loss of views with the texts of all pictures, in both directions."""
        # Embeddings of all ranks.
        joint, tokens = cast(JointSpace, self._parts[JOINT]), micro.tokens
        assert tokens is not None
        with autocast(self._context):
            pictures, texts = joint.pictures(seen), joint.texts(tokens)
        pictures, texts = self._gathered(micro, pictures), self._context.gather(texts)

        # Equal texts are one positive. Those of another rank may be padded to another length.
        tokens = F.pad(tokens, (0, self._config.model.tokens - tokens.shape[1]))
        labels = alike(self._context.gather(tokens))
        positives = labels.repeat_interleave(micro.pictures.shape[1])[:, None] == labels

        # The loss.
        logits = joint.logits(pictures, texts)
        value = self._config.loss.text_weight * both_ways(logits, positives)
        return {
            "text": value,
            "matched": _nearest(logits, positives),
            "temperature": (-joint.sharpness.detach()).exp(),
        }

    def _gathered(self, micro: Micro, embedded: Tensor) -> Tensor:
        """Returns the embeddings of all ranks' views, by sample: (N V, D)."""
        count, views = micro.pictures.shape[:2]
        rows = embedded.to(self._context.weights).unflatten(0, (count, views))
        return self._context.gather(rows).flatten(0, 1)


def _nearest(logits: Tensor, positives: Tensor) -> Tensor:
    """Returns the share of rows with a positive as the nearest column, a scalar, of logits (N, M)."""
    nearest = logits.detach().argmax(1, keepdim=True)
    return positives.gather(1, nearest).to(logits.dtype).mean()


def features(parts: dict[str, nn.Module], pictures: Tensor) -> Tensor:
    """Returns the backbone's features (N, W) of pictures (N, 3, R, R) in -1..1."""
    embedded: Tensor = parts[BACKBONE](backbones.standardised(pictures))
    return embedded


def embed_pictures(parts: dict[str, nn.Module], seen: Tensor) -> Tensor:
    """Returns unit embeddings (N, D) of pictures with the features `seen`, (N, W)."""
    return cast(JointSpace, parts[JOINT]).pictures(seen)


def embed_texts(parts: dict[str, nn.Module], tokens: Tensor) -> Tensor:
    """Returns unit embeddings (N, D) of texts, int64 (N, T)."""
    return cast(JointSpace, parts[JOINT]).texts(tokens)
