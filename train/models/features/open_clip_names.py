"""Weights of timm's vision transformer under the names of open_clip's, and the folder's config.

Both networks are equal. open_clip's first convolution has no bias, so the positions of patches contain it.
The projection is the identity, so an embedding is a feature of unit length.
"""

from typing import Any

import torch
from torch import Tensor

from train.models.features.backbones import BackboneSizes

_EPSILON = 1e-6  # of timm's layer norm
_MEAN, _DEVIATION = 0.5, 0.25  # of pictures in 0..1, as backbones.standardised has them
_LAYER = {
    "norm1": "ln_1",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
# A small text transformer, which is not trained. open_clip's models must have one.
TEXTS = {"context_length": 96, "vocab_size": 2514, "width": 32, "heads": 1, "layers": 1}

Json = dict[str, Any]


def config(sizes: BackboneSizes) -> Json:
    """Returns the content of open_clip_config.json."""
    vision = {
        "image_size": sizes.resolution,
        "patch_size": sizes.patch,
        "width": sizes.width,
        "layers": sizes.layers,
        "head_width": sizes.width // sizes.heads,
        "no_ln_pre": True,
        "norm_kwargs": {"eps": _EPSILON},
    }
    preprocessing = {"mean": [_MEAN] * 3, "std": [_DEVIATION] * 3}
    return {
        "model_cfg": {"embed_dim": sizes.width, "vision_cfg": vision, "text_cfg": TEXTS},
        "preprocess_cfg": {**preprocessing, "interpolation": "bicubic", "resize_mode": "shortest"},
    }


def vision(weights: dict[str, Tensor], sizes: BackboneSizes) -> dict[str, Tensor]:
    """Returns timm's weights by their names in open_clip's `visual`."""
    # Embeddings.
    positions = weights["pos_embed"][0].clone()
    positions[1:] += weights["patch_embed.proj.bias"]
    named = {
        "class_embedding": weights["cls_token"][0, 0].clone(),
        "positional_embedding": positions,
        "conv1.weight": weights["patch_embed.proj.weight"],
        "proj": torch.eye(sizes.width),
        "ln_post.weight": weights["norm.weight"],
        "ln_post.bias": weights["norm.bias"],
    }

    # Layers.
    for layer in range(sizes.layers):
        old, new = f"blocks.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            named[f"{new}.attn.in_proj_{kind}"] = weights[f"{old}.attn.qkv.{kind}"]
            named |= {
                f"{new}.{theirs}.{kind}": weights[f"{old}.{ours}.{kind}"] for ours, theirs in _LAYER.items()
            }
    return named
