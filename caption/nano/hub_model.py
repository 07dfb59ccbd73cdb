"""nano as transformers loads it: config.json and model.safetensors.

`transformers.CLIPModel.from_pretrained(FOLDER)` takes them. They hold the weights a second time, because
transformers has other names, and three tensors where open_clip has one for queries, keys and values.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from safetensors.torch import save
from torch import Tensor

CONFIG, WEIGHTS = "config.json", "model.safetensors"

# Names in open_clip and in transformers.
_NAMES = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
_LAYERS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # as transformers spells it
    "visual.ln_post": "vision_model.post_layernorm",
}
_PROJECTIONS = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_TOWERS = {
    "transformer.resblocks": "text_model.encoder.layers",
    "visual.transformer.resblocks": "vision_model.encoder.layers",
}
_BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}

Json = dict[str, Any]


def files(architecture: Json, weights: Mapping[str, Tensor]) -> dict[str, bytes]:
    """Returns the two files by name. `weights` are those of the folder, by open_clip's names."""
    config = f"{json.dumps(_config(architecture), indent=1)}\n".encode()
    tensors = {name: tensor.contiguous() for name, tensor in _renamed(architecture, weights)}
    return {CONFIG: config, WEIGHTS: save(tensors, metadata={"format": "pt"})}


def _config(architecture: Json) -> Json:
    """Returns transformers' description of the architecture."""
    pictures, texts = architecture["vision_cfg"], architecture["text_cfg"]
    end = texts["vocab_size"] - 1
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",  # in memory; transformers would take the file's
        "projection_dim": architecture["embed_dim"],
        "vision_config": {
            "image_size": pictures["image_size"],
            "patch_size": pictures["patch_size"],
            "projection_dim": architecture["embed_dim"],
            **_tower(pictures, pictures["width"] // pictures["head_width"]),
        },
        "text_config": {
            "vocab_size": texts["vocab_size"],
            "max_position_embeddings": texts["context_length"],
            "projection_dim": architecture["embed_dim"],
            "pad_token_id": 0,
            "bos_token_id": end - 1,
            "eos_token_id": end,
            **_tower(texts, texts["heads"]),
        },
    }


def _tower(config: Json, heads: int) -> Json:
    width = config["width"]
    sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": config["layers"]}
    return {**sizes, "num_attention_heads": heads, "hidden_act": "gelu"}


def _renamed(architecture: Json, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yields all weights by transformers' names."""
    # Outside of the blocks.
    for old, new in _NAMES.items():
        yield new, weights[old]
    for old, new in _PROJECTIONS.items():
        yield new, weights[old].T
    for kind in ("weight", "bias"):
        for old, new in _LAYERS.items():
            yield f"{new}.{kind}", weights[f"{old}.{kind}"]

    # Blocks.
    depths = (architecture["text_cfg"]["layers"], architecture["vision_cfg"]["layers"])
    for (old, new), depth in zip(_TOWERS.items(), depths, strict=True):
        for i in range(depth):
            yield from _block(f"{old}.{i}", f"{new}.{i}", weights)


def _block(old: str, new: str, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for kind in ("weight", "bias"):
        for name, other in _BLOCK.items():
            yield f"{new}.{other}.{kind}", weights[f"{old}.{name}.{kind}"]
        for letter, part in zip("qkv", weights[f"{old}.attn.in_proj_{kind}"].chunk(3), strict=True):
            yield f"{new}.self_attn.{letter}_proj.{kind}", part
