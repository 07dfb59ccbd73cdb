"""DOOR. CLIP's contrastive loss (Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021,
figure 3) with one change: a text of the batch that is true of a picture, though it was written for another, is no negative of it.

Axes: B batch.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """The loss of logits (B pictures, B texts), without the texts that are `true`, bool (B, B), of a picture that is not theirs."""
    own = torch.arange(len(logits))
    logits = logits.masked_fill(true & ~torch.eye(len(logits), dtype=torch.bool), float("-inf"))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
