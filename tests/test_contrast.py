"""The one contrastive loss, by closed forms: caption/contrast.py."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its name everywhere)

from caption.contrast import both_ways, contrastive_loss, positives_of, similarities, soft_target_loss

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 2, 2])


def drawn(count: int = 8, width: int = 5) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def multi_positive(embeddings: torch.Tensor, labels: torch.Tensor, temperature: float = 0.1) -> torch.Tensor:
    """The loss of rows with labels: that of SimCLR and StableRep."""
    return soft_target_loss(similarities(embeddings, temperature), *positives_of(labels))


def test_it_is_torchs_cross_entropy_with_a_soft_target() -> None:
    logits = similarities(drawn(), 0.1)
    weights = drawn(8, 8).abs()
    expected = F.cross_entropy(logits, weights / weights.sum(1, keepdim=True))
    assert soft_target_loss(logits, weights).item() == pytest.approx(expected.item(), rel=1e-12)


def test_it_is_supcon_with_the_sum_outside() -> None:
    logits = similarities(drawn(), 0.1)
    others = ~torch.eye(8, dtype=torch.bool)
    rows = []
    for i, label in enumerate(LABELS):
        positives = [j for j in range(8) if j != i and LABELS[j] == label]
        denominator = logits[i][others[i]].logsumexp(0)
        rows.append(-torch.stack([logits[i, j] - denominator for j in positives]).mean())
    assert multi_positive(drawn(), LABELS).item() == pytest.approx(torch.stack(rows).mean().item(), rel=1e-12)


def test_one_positive_gives_nt_xent() -> None:
    z = F.normalize(drawn(), dim=1)
    rows = []
    for i in range(8):
        partner = i ^ 1
        numerator = math.exp(z[i] @ z[partner] / 0.1)
        rows.append(-math.log(numerator / sum(math.exp(z[i] @ z[k] / 0.1) for k in range(8) if k != i)))
    value = multi_positive(drawn(), torch.arange(8) // 2).item()
    assert value == pytest.approx(sum(rows) / 8, rel=1e-12)


def test_perfect_clusters_reach_the_entropy_of_the_target() -> None:
    """With n positives a row the least loss is log n. KL(p || softmax) vanishes there."""
    clusters = torch.eye(4, dtype=torch.float64).repeat_interleave(4, 0)
    values = [multi_positive(clusters, torch.arange(16) // 4, t).item() for t in (0.2, 0.05, 0.02)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(math.log(3), abs=1e-12)
    assert multi_positive(drawn(16), torch.arange(16) // 4).item() > math.log(3)


def test_it_is_the_divergence_plus_the_entropy_of_the_target() -> None:
    logits, weights = similarities(drawn(), 0.1), drawn(8, 8).abs()
    p, q = weights / weights.sum(1, keepdim=True), logits.softmax(1)
    divergence, entropy = (p * (p / q).log()).sum(1).mean(), -(p * p.log()).sum(1).mean()
    assert soft_target_loss(logits, weights).item() == pytest.approx((divergence + entropy).item(), rel=1e-12)


def test_rows_without_positives_count_as_zero_and_have_a_gradient_of_zero() -> None:
    z = drawn(4).requires_grad_()
    loss = multi_positive(z, torch.arange(4))
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.item() == 0 and not gradient.any()

    # One such row beside a pair: the pair's rows are two thirds of the mean.
    pair = soft_target_loss(*_rows(similarities(z, 0.1), [0, 1]))
    mixed = multi_positive(z[:3], torch.tensor([0, 0, 1]))
    assert pair.item() == 0 and math.isfinite(mixed.item()) and mixed.item() > 0
    alone = multi_positive(drawn(1).requires_grad_(), torch.zeros(1))
    assert alone.item() == 0


def _rows(logits: torch.Tensor, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The logits of a pair alone, with its positives: each row has one column to choose."""
    return logits[rows][:, rows], *positives_of(torch.zeros(len(rows)))


def test_the_order_of_rows_changes_nothing() -> None:
    z, order = drawn().requires_grad_(), torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    (plain,) = torch.autograd.grad(multi_positive(z, LABELS), z)
    (permuted,) = torch.autograd.grad(multi_positive(z[order], LABELS[order]), z)
    assert torch.allclose(plain, permuted, atol=1e-12)


def test_the_gradient_of_columns_that_are_left_out_is_zero() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64).requires_grad_()
    left_out = torch.zeros(3, 5, dtype=torch.bool)
    left_out[:, 3:] = True
    loss = soft_target_loss(logits, torch.eye(3, 5, dtype=torch.float64), left_out)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == pytest.approx(F.cross_entropy(logits[:, :3], torch.arange(3)).item())
    assert not gradient[:, 3:].any() and gradient[:, :3].any()


def test_clips_loss_is_the_mean_of_both_directions() -> None:
    logits, pairs = torch.randn(4, 4), torch.arange(4)
    expected = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    assert contrastive_loss(logits, torch.zeros(4, 4, dtype=torch.bool)).item() == pytest.approx(
        expected.item()
    )


def test_both_ways_of_different_texts_are_clips_loss() -> None:
    """The symmetric cross entropy of figure 3, if every row has one positive."""
    logits, pairs = similarities(drawn(), 0.07), torch.arange(8)
    expected = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
    assert both_ways(logits, torch.eye(8)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_equal_texts_are_positives_of_every_picture_of_theirs() -> None:
    """StableRep++: torch's cross entropy with a soft target, of pictures and of texts."""
    logits = torch.randn(8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    positives = (LABELS[:, None] == LABELS).double()
    target = positives / positives.sum(1, keepdim=True)
    expected = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    assert both_ways(logits, positives).item() == pytest.approx(expected.item(), rel=1e-12)
