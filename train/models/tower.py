"""CLIP's text transformer, frozen, and its token states for a denoiser (Radford et al., ICML 2021).

Its weights are those of the captions' encoder when a run begins. Checkpoints and exports keep them, so
drawing needs no open_clip. Tokens have the numbers of byte_pairs.py.

Axes: N samples, T tokens, W width, H heads, K width of a head.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Names of open_clip's weights, with those of this module.
_RENAMED = {
    "transformer.resblocks.": "layers.",
    "ln_1.": "attention_norm.",
    "attn.in_proj_": "query_key_value.",
    "attn.out_proj.": "out.",
    "ln_2.": "forward_norm.",
    "mlp.c_fc.": "widen.",
    "mlp.c_proj.": "narrow.",
    "ln_final.": "norm.",
    "token_embedding.": "piece.",
    "positional_embedding": "position",
}


class Tower(nn.Module):
    """A causal text transformer. A token's state depends on the tokens before it."""

    def __init__(
        self, tokens: int, *, width: int, layers: int, heads: int, inner: int, length: int, activation: str
    ) -> None:
        super().__init__()
        self.piece = nn.Embedding(tokens, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.layers = nn.ModuleList(_Layer(width, heads, inner, activation) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the states (N, T, W) of tokens int64 (N, T), after the last normalisation."""
        states = self.piece(tokens) + self.position[: tokens.shape[1]]
        for layer in self.layers:
            states = layer(states)
        return self.norm(states)


class _Layer(nn.Module):
    """Attention to earlier tokens, then a feed-forward."""

    def __init__(self, width: int, heads: int, inner: int, activation: str) -> None:
        super().__init__()
        self.heads, self.activation = heads, activation
        self.attention_norm, self.forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: Tensor) -> Tensor:
        """Returns states (N, T, W)."""
        # Attention.
        n, tokens, width = states.shape
        rows = self.query_key_value(self.attention_norm(states)).view(n, tokens, 3, self.heads, -1)
        query, key, value = rows.permute(2, 0, 3, 1, 4)  # (N, H, T, K) each
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        states = states + self.out(mixed.transpose(1, 2).reshape(n, tokens, width))

        # Feed-forward. The first CLIP approximates GELU.
        inner = self.widen(self.forward_norm(states))
        quick = self.activation == "quick_gelu"
        return states + self.narrow(inner * torch.sigmoid(1.702 * inner) if quick else functional.gelu(inner))


def fill(tower: Tower, weights: dict[str, Tensor]) -> None:
    """Gives a tower the weights of open_clip's text transformer."""
    renamed = {}
    for name, value in weights.items():
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        renamed[name] = value

    # The beginning and the end are open_clip's last tokens. Padding has no vector.
    tokens, pieces = tower.piece.num_embeddings, renamed["piece.weight"]
    last = tokens - 3
    rows = [torch.zeros_like(pieces[:1]), pieces[last : last + 2], pieces[:last]]
    renamed["piece.weight"], renamed["position"] = torch.cat(rows), renamed["position"][: len(tower.position)]
    tower.load_state_dict(renamed)
