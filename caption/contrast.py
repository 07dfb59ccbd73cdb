"""DOOR. CLIP's contrastive loss without false negatives (Radford et al., Learning Transferable Visual Models
From Natural Language Supervision, ICML 2021, figure 3).

A text of the batch that is also true of another picture is no negative of that picture.

Axes: B batch, T texts.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)


def contrastive_loss(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Returns the loss of logits (B pictures, T texts). The first B texts are the pictures' own.

    Further texts are negatives of the pictures. `true`, bool (B, T), marks texts that are true of a picture
    although they are not its own."""
    # False negatives have no part in the softmax.
    count = len(logits)
    logits = logits.masked_fill(true & ~torch.eye(*logits.shape, dtype=torch.bool), float("-inf"))

    # Figure 3: the mean of both directions.
    pairs = torch.arange(count)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits[:, :count].T, pairs)) / 2
