"""The loss of captioned pictures: CLIP's, without false negatives.

It is the loss of caption/contrast.py for the texts of caption/nano/names.py.

A visit shows a concept. If several pictures share it, such as the skin tones of an emoji, the visit shows one
of them. The pictures are few, so every visit varies its picture: rotation, position, scale, mirroring,
brightness and colour. It shows only half of the patches, which also halves the time (Li et al., Scaling
Language-Image Pre-training via Masking, CVPR 2023).

Axes: N pictures, B batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

from caption.contrast import contrastive_loss
from caption.nano import names, network
from caption.nano.fitting_sets import Captioned

_FIRST = 0.5  # share of visits that show a concept's first picture, if it has several
# Standard deviations: radians, two logarithms, half sides.
_TURN, _SCALE, _STRETCH, _MOVE = 0.12, 0.13, 0.06, 0.07
_HIDDEN = 0.5  # of a picture's patches
# Standard deviations of the logarithm of the darkness of a picture, and of each of its channels.
_LIGHT, _TINT = 0.12, 0.1


def loss(
    pictures: Captioned,
    concepts: list[list[int]],
    tokenizer: Any,
    model: Any,
    chosen: np.ndarray,
    stream: np.random.Generator,
) -> torch.Tensor:
    """Returns the loss of pictures of the chosen concepts. `concepts` lists the rows of each concept."""
    # A picture and a text of each concept.
    rows = [_one_of(concepts[number], stream) for number in chosen]
    captions = [pictures.captions[row] for row in rows]
    drawn = [
        names.draw(texts, pictures.nouns[row], stream) for texts, row in zip(captions, rows, strict=True)
    ]

    # Embeddings.
    with network.quick():
        with _hidden_patches(model, stream):
            images = network.embed_images(model, varied(pictures.pixels[rows], stream))
        embedded = network.embed_texts(model, tokenizer([name.text for name in drawn]))
    logits = model.logit_scale.exp() * images @ embedded.T
    return contrastive_loss(logits, torch.from_numpy(names.truth(captions, drawn)))


def varied(pixels: np.ndarray, stream: np.random.Generator) -> np.ndarray:
    """Returns varied versions of pictures uint8 (B, 64, 64, 3), of the same shape.

    Pixels from outside the frame take the colour of the picture's corner."""
    # Rotation, scale and position. Samples outside the frame are zero, and zero is the corner's colour.
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    corner = planes[:, :, :1, :1]
    motions = torch.from_numpy(_motions(len(pixels), stream))
    grid = F.affine_grid(motions, list(planes.shape), align_corners=False)
    moved = F.grid_sample(planes - corner, grid, align_corners=False) + corner

    # Brightness and colour. White stays white.
    light = stream.normal(0, _LIGHT, (len(pixels), 1, 1, 1)) + stream.normal(0, _TINT, (len(pixels), 3, 1, 1))
    lit = 255 - (255 - moved) * torch.from_numpy(np.exp(light).astype(np.float32))
    return lit.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


@contextmanager
def _hidden_patches(model: Any, stream: np.random.Generator) -> Iterator[None]:
    """Hides a random half of each picture's patches from a model, within the block."""
    from open_clip.transformer import PatchDropout

    # PatchDropout draws from torch's global generator.
    torch.manual_seed(int(stream.integers(1 << 62)))
    whole, model.visual.patch_dropout = model.visual.patch_dropout, PatchDropout(_HIDDEN)
    try:
        yield
    finally:
        model.visual.patch_dropout = whole


def _motions(count: int, stream: np.random.Generator) -> np.ndarray:
    """Returns random affine maps float32 (B, 2, 3). Half of them mirror."""
    # Rotation, scale and mirror image.
    angle, scale, stretch = (stream.normal(0, spread, count) for spread in (_TURN, _SCALE, _STRETCH))
    mirror = stream.choice([-1.0, 1.0], count)
    cos, sin = np.cos(angle) * np.exp(scale), np.sin(angle) * np.exp(scale)

    # The two rows of each map.
    x = np.stack([cos * mirror * np.exp(stretch), -sin, stream.normal(0, _MOVE, count)], axis=1)
    y = np.stack([sin * mirror, cos * np.exp(-stretch), stream.normal(0, _MOVE, count)], axis=1)
    return np.stack([x, y], axis=1).astype(np.float32)


def _one_of(rows: list[int], stream: np.random.Generator) -> int:
    return rows[0] if stream.random() < _FIRST else rows[int(stream.integers(len(rows)))]
