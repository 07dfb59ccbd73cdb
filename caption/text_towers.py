"""The text transformer of an encoder as plain tensors, for networks that read its token states.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
"""

from typing import Any, NamedTuple

import torch

from synth.errors import UserError

_NAMES = ("token_embedding.", "positional_embedding", "transformer.", "ln_final.")
_ACTIVATIONS = {"GELU": "gelu", "QuickGELU": "quick_gelu"}  # by the class of the layer

Json = dict[str, Any]


class TextTower(NamedTuple):
    """A causal CLIP text transformer and its byte pairs."""

    sizes: Json  # width, layers, heads, inner, length, activation
    merges: list[tuple[str, str]]  # of the tokeniser, most frequent first
    weights: dict[str, torch.Tensor]  # float32, by open_clip's names


def read(name: str, model: Any, tokenizer: Any) -> TextTower:
    """Returns the text transformer of an open_clip model with its tokeniser.

    Raises UserError if either is of another kind."""
    text = getattr(model, "text", model)
    if fault := _fault(text, tokenizer):
        raise UserError(f"the encoder {name} {fault}; give another encoder, or train on words")
    block, (length, width) = text.transformer.resblocks[0], text.positional_embedding.shape
    sizes = {
        "width": width,
        "layers": len(text.transformer.resblocks),
        "heads": block.attn.num_heads,
        "inner": block.mlp.c_fc.out_features,
        "length": min(length, tokenizer.context_length),
        "activation": _ACTIVATIONS[type(block.mlp.gelu).__name__],
    }
    weights = {key: v.float().cpu() for key, v in text.state_dict().items() if key.startswith(_NAMES)}
    return TextTower(sizes, list(tokenizer.bpe_ranks), weights)


def _fault(text: Any, tokenizer: Any) -> str:
    """Returns what is unlike CLIP in a text network or its tokeniser, or an empty text."""
    # Network.
    blocks = getattr(getattr(text, "transformer", None), "resblocks", ())
    plain = blocks and all(
        type(block).__name__ == "ResidualAttentionBlock"
        and isinstance(block.ls_1, torch.nn.Identity)
        and type(block.mlp.gelu).__name__ in _ACTIVATIONS
        and getattr(block.mlp.gelu, "approximate", "none") == "none"
        and block.ln_1.eps == 1e-5
        for block in blocks
    )
    if not plain:
        return "has another text network than CLIP's transformer"
    if getattr(text, "attn_mask", None) is None or getattr(text, "cls_emb", None) is not None:
        return "has a text transformer with other attention than CLIP's"

    # Tokeniser.
    pairs = type(tokenizer).__name__ == "SimpleTokenizer" and tokenizer.reduction_fn is None
    if not pairs or tokenizer.clean_fn.__name__ != "_clean_lower":
        return "has another tokeniser than CLIP's byte pairs"
    if tokenizer.vocab_size != 512 + len(tokenizer.bpe_ranks) + 2:
        return "has byte pairs with further tokens"
    return ""
