"""DOOR. The contrastive loss: a cross entropy of a softmax over similarities, with a soft target.

    L = -mean_i sum_j p_ij log softmax_j(s_ij),   p_ij = w_ij / sum_j w_ij

s are logits and w the weights of positives. One positive in each row gives the losses of CLIP (Radford et
al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021, figure 3), of LAFITE
and of SimCLR. Several positives give those of StableRep (Tian et al., NeurIPS 2023, equations 1 and 2) and of
SupCon (Khosla et al., NeurIPS 2020, equation 2, "out").

Axes: N rows, M columns, B batch, T texts.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)
from torch import Tensor


def soft_target_loss(logits: Tensor, positives: Tensor, left_out: Tensor | None = None) -> Tensor:
    """Returns the mean over rows of L, a scalar, of logits (..., N, M).

    `positives`, (..., N, M), holds their weights, which are at least 0. A row without any counts as 0.
    `left_out`, bool (..., N, M), marks columns that have no part in the softmax of a row; they are no
    positives."""
    if left_out is not None:
        logits = logits.masked_fill(left_out, float("-inf"))
    weights = positives.to(logits.dtype)
    total = weights.sum(-1, keepdim=True)
    target = weights / torch.where(total > 0, total, 1)

    # The logarithm of a column that is left out is infinite, and its target is 0.
    log_probabilities = logits.log_softmax(-1).masked_fill(target == 0, 0)
    return -(target * log_probabilities).sum(-1).mean()


def positives_of(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Returns positives and columns to leave out for similarities of N embeddings with each other.

    Rows with one label, int64 (N,), are positives of each other: bool (N, N). No row is its own positive:
    bool (N, N)."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return (labels[:, None] == labels) & ~itself, itself


def similarities(embeddings: Tensor, temperature: float) -> Tensor:
    """Returns cosines over the temperature, (N, N), of embeddings (N, D)."""
    unit = F.normalize(embeddings, dim=1)
    return unit @ unit.T / temperature


def both_ways(logits: Tensor, positives: Tensor) -> Tensor:
    """Returns the mean of the losses of rows and of columns, a scalar, of logits (N, M).

    One positive in each row and column gives CLIP's loss, several that of StableRep++. `positives`, (N, M),
    holds their weights."""
    return (soft_target_loss(logits, positives) + soft_target_loss(logits.T, positives.T)) / 2


def contrastive_loss(logits: Tensor, true: Tensor) -> Tensor:
    """Returns CLIP's loss without false negatives, of logits (B pictures, T texts).

    The first B texts are the pictures' own, and further texts are negatives of the pictures. `true`, bool
    (B, T), marks texts that are true of a picture although they are not its own. They are no negatives of
    that picture."""
    # False negatives have no part in the softmax.
    count = len(logits)
    pairs = torch.eye(*logits.shape)
    false = true & (pairs == 0)

    # Figure 3: the mean of both directions.
    square = slice(count)
    of_pictures = soft_target_loss(logits, pairs, false)
    return (of_pictures + soft_target_loss(logits[:, square].T, pairs[:, square], false[:, square].T)) / 2
