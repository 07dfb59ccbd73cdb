"""Contrastive learning of features: SimCLR and StableRep.

Chen et al., A Simple Framework for Contrastive Learning of Visual Representations, ICML 2020; Tian et al.,
StableRep, NeurIPS 2023. Both have the loss of caption/contrast.py over the similarities of all views of a
batch. They differ in the positives:

    SimCLR     training.views 2, training.group 1: the other view of a picture
    StableRep  training.views 1, training.group 6: the other pictures of a class or with one caption

The loss couples the batch of all ranks. Features are those before the head.

Axes: N samples, V views of a sample, R resolution, W width of a feature, D dimensions of an embedding.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from caption.contrast import positives_of, similarities, soft_target_loss
from synth.errors import UserError
from train.model import Context, Micro, Model, Needs, Phase, Terms, Wanted
from train.models import backbones
from train.models.backbones import BackboneSizes, LearnerTraining
from train.models.guidance import autocast
from train.stream.augmentations import Augmentations

BACKBONE, HEAD = "backbone", "head"
POSITIVES = ("class", "caption")


@dataclass(frozen=True)
class Sizes(BackboneSizes):
    """Sizes of the backbone and its head."""

    head: int = 512  # width of the head's layers
    embedding: int = 128  # D

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.head, self.embedding) < 1:
            raise ValueError("head and embedding must be at least 1")


@dataclass(frozen=True)
class Loss:
    """Settings of the loss."""

    temperature: float = 0.1

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")


@dataclass(frozen=True)
class Training(LearnerTraining):
    """Settings of batches and their positives, of steps and the optimiser."""

    views: int = 2  # of a picture
    group: int = 1  # pictures of one label
    positives: str = "class"  # the label: class or caption

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.views, self.group) < 1:
            raise ValueError("views and group must be at least 1")
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
    """Returns the needs of the loss: the whole batch, in groups.

    Raises UserError if sizes do not divide each other, or no view has a positive."""
    training = config.training
    backbones.require_divisible(config.model)
    if training.views * training.group < 2:
        problem = "with one view of a picture and groups of one, no view has a positive"
        raise UserError(f"{problem}; give --set training.views=2 or --set training.group=6")
    groups = (training.group,) if training.group > 1 else ()
    return Needs(
        tables=False,
        vectors=False,
        groups=groups,
        whole=True,
        group=training.group,
        positives=training.positives,
    )


def parts(config: Config, context: Context) -> dict[str, nn.Module]:
    """Returns the backbone and its head, with their first weights."""
    sizes = config.model
    head = backbones.projection(sizes.features, sizes.head, sizes.embedding)
    networks = {BACKBONE: backbones.backbone(sizes), HEAD: head}
    return {name: network.to(context.device, context.weights) for name, network in networks.items()}


def build(parts: dict[str, nn.Module], config: Config, context: Context) -> Model:
    """Returns the training of both networks in one phase."""
    training, loss = config.training, config.loss

    def contrast(micro: Micro) -> Iterator[Terms]:
        # Embeddings of all ranks.
        count, views = micro.pictures.shape[:2]
        with autocast(context):
            embedded = parts[HEAD](features(parts, micro.pictures.flatten(0, 1)))
        rows = context.gather(embedded.to(context.weights).unflatten(0, (count, views)))  # (N, V, D)

        # Labels of all ranks. Views of a picture have that of the picture.
        labels = micro.labels
        if labels is None:
            labels = torch.arange(micro.numbers.start, micro.numbers.stop, device=rows.device)
        labels = context.gather(labels).repeat_interleave(views)

        # The loss, and the share of views with a positive as the nearest.
        cosines = similarities(rows.flatten(0, 1), loss.temperature)
        positives, itself = positives_of(labels)
        nearest = cosines.detach().masked_fill(itself, -math.inf).argmax(1, keepdim=True)
        right = positives.gather(1, nearest).to(context.weights).mean()
        yield {"contrast": soft_target_loss(cosines, positives, itself), "nearest": right}

    wanted = Wanted(
        vectors=(),
        views=training.views,
        augment=config.augment,
        group=training.group,
        positives=training.positives,
    )
    phases = [Phase("learn", (BACKBONE, HEAD), contrast)]
    return Model(training.optimisers(parts), phases, wanted=wanted, rate=training.rate)


def features(parts: dict[str, nn.Module], pictures: Tensor) -> Tensor:
    """Returns the backbone's features (N, W) of pictures (N, 3, R, R) in -1..1."""
    embedded: Tensor = parts[BACKBONE](backbones.standardised(pictures))
    return embedded
