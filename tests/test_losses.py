import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from train.models import losses
from train.models.losses import Judgement, LossConfig

PLAIN = LossConfig(temperature=0.5)
SHARP = replace(PLAIN, contrast="sharpened")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_a_sharpened_loss_has_a_least_temperature() -> None:
    """The double exponential overflows below it."""
    least = replace(SHARP, temperature=0.0125)
    assert losses.contrast_of(torch.eye(4)[None], least).isfinite()
    with pytest.raises(ValueError, match=r"with contrast=sharpened it must be at least 0\.0125"):
        replace(SHARP, temperature=0.011)
    assert replace(PLAIN, temperature=0.011).temperature == 0.011


def at_angle(*degrees: float) -> Tensor:
    """Unit vectors in the plane."""
    turns = torch.tensor(degrees) * math.pi / 180
    return torch.stack([turns.cos(), turns.sin()], 1)


def test_contrast_of_two_by_hand() -> None:
    # pictures at 0 and 60 degrees, captions at 0 and 90; cosines by caption: (1, .5) and (0, sqrt(3) / 2)
    a, h = 3 * at_angle(0, 60), at_angle(0, 90)
    matching = [
        math.exp(2) / (math.exp(2) + math.exp(1)),
        math.exp(math.sqrt(3)) / (1 + math.exp(math.sqrt(3))),
    ]
    assert losses.contrast(a, h, PLAIN).item() == pytest.approx(
        -0.5 * (math.log(matching[0]) + math.log(matching[1])) / 2, rel=1e-5
    )


def test_sharpened_contrast_of_two_by_hand() -> None:
    a, h = at_angle(0, 60), at_angle(0, 90)
    e = math.exp
    matching = [
        e(e(2)) / (e(e(2)) + e(e(1))),
        e(e(math.sqrt(3))) / (e(1) + e(e(math.sqrt(3)))),
    ]
    assert losses.contrast(a, h, SHARP).item() == pytest.approx(
        -(math.log(0.5 * matching[0]) + math.log(0.5 * matching[1])) / 2, rel=1e-4
    )


def test_contrast_of_three_by_hand_takes_the_softmax_over_pictures() -> None:
    # pictures at 0, 0 and 90 degrees; captions at 0, 90 and 90: rows (1 1 0), (0 0 1), (0 0 1) over tau = 1
    a, h = at_angle(0, 0, 90), at_angle(0, 90, 90)
    e = math.e
    by_caption = [math.log(e / (2 * e + 1)), math.log(1 / (2 + e)), math.log(e / (2 + e))]
    assert losses.contrast(a, h, replace(PLAIN, temperature=1.0)).item() == pytest.approx(
        -sum(by_caption) / 3, rel=1e-5
    )


@pytest.mark.parametrize(
    ("config", "value"),
    [(PLAIN, 0.5 * math.log(16)), (SHARP, math.log(16) - math.log(0.5))],
    ids=["softmax", "sharpened"],
)
def test_contrast_of_pictures_all_alike_is_that_of_guessing(config: LossConfig, value: float) -> None:
    assert losses.contrast(torch.ones(32, 4), torch.randn(32, 4), config).item() == pytest.approx(
        value, rel=1e-5
    )


@pytest.mark.parametrize(
    ("positive", "negative", "ratio"), [(0.32, 0.2, 3.74), (0.0, 0.0, 2.0), (1.0, 0.0, 0.54)]
)
def test_sharpening_stresses_hard_pairs_and_saturates(positive: float, negative: float, ratio: float) -> None:
    def slope(config: LossConfig) -> float:
        cosines = torch.full((1, 16, 16), negative)
        cosines[0].fill_diagonal_(positive)
        (gradient,) = torch.autograd.grad(losses.contrast_of(cosines.requires_grad_(), config), cosines)
        return gradient[0].diagonal().sum().item()

    assert slope(SHARP) / slope(PLAIN) == pytest.approx(ratio, abs=0.01)


def test_contrast_knows_nothing_of_other_groups() -> None:
    a, h = torch.randn(32, 8), torch.randn(32, 8)
    halves = [losses.contrast(a[i : i + 16], h[i : i + 16], PLAIN).item() for i in (0, 16)]
    assert losses.contrast(a, h, PLAIN).item() == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_projection_by_hand() -> None:
    meaning = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    h = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(2, 1)
    assert losses.project(meaning, h, form="sample", group=2).tolist() == [1, 4, 5, 8]
    assert losses.project(meaning, h, form="batch_sum", group=2).tolist() == [5, 5, 13, 13]


def test_logits_summed_over_a_batch_do_not_know_whose_caption_is_wrong() -> None:
    score, meaning, h = torch.randn(16), torch.randn(16, 8), functional.normalize(torch.randn(16, 8), dim=1)
    summed, plain = replace(PLAIN, projection="batch_sum"), PLAIN
    moves = [
        Judgement(score, meaning, h.roll(1, 0)).logits(c) - Judgement(score, meaning, h).logits(c)
        for c in (summed, plain)
    ]
    assert moves[0].std() < 1e-5 < moves[1].std()


def test_adversarial_losses_are_logistic() -> None:
    """D = 2, 0 without a projection."""
    judged = Judgement(torch.tensor([2.0, 0.0]), torch.zeros(2, 2), at_angle(0, 90))
    config = replace(PLAIN, cond_weight=0.0)
    real_enough = (math.log1p(math.exp(-2)) + math.log(2)) / 2
    fake_enough = (math.log1p(math.exp(2)) + math.log(2)) / 2
    assert {k: v.item() for k, v in losses.generator_losses(config, judged, None).items()} == {
        "adversarial": pytest.approx(real_enough)
    }
    assert losses.real_losses(config, judged)["adversarial"].item() == pytest.approx(real_enough)
    assert {k: v.item() for k, v in losses.fake_losses(config, judged).items()} == {
        "adversarial": pytest.approx(fake_enough)
    }


def test_terms_are_weighted_as_equations_1_and_2_say() -> None:
    judged, encoded = Judgement(torch.randn(4), torch.randn(4, 8), torch.randn(4, 8)), torch.randn(4, 8)
    g, real = losses.generator_losses(PLAIN, judged, encoded), losses.real_losses(PLAIN, judged)
    cond, cong = losses.contrast(judged.meaning, judged.h, PLAIN), losses.contrast(encoded, judged.h, PLAIN)
    assert [g["cond"].item(), g["cong"].item(), real["cond"].item()] == pytest.approx(
        [5 * cond.item(), 10 * cong.item(), 5 * cond.item()]
    )
    assert set(losses.fake_losses(PLAIN, judged)) == {"adversarial"}


def test_the_gradient_penalty_of_a_quadratic_form() -> None:
    # D(x) = |x|^2 / 2 has the gradient x, so the penalty is |x|^2 and its own gradient 2 x
    x = torch.randn(3, 2, 4, 4, requires_grad=True)
    penalty = losses.gradient_penalty(x.square().sum((1, 2, 3)) / 2, x)
    assert torch.allclose(penalty, x.square().sum((1, 2, 3)))
    assert torch.allclose(torch.autograd.grad(penalty.sum(), x)[0], 2 * x)


def test_its_gradient_to_weights_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 12, dtype=torch.float64, requires_grad=True)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)

    def penalty(weight: Tensor) -> Tensor:
        return losses.gradient_penalty(functional.softplus(x.flatten(1) @ weight.t()).sum(1), x).sum()

    (exact,) = torch.autograd.grad(penalty(weight), weight)
    step = torch.zeros_like(weight)
    step[1, 2] = 1e-3
    assert exact[1, 2].item() == pytest.approx(
        ((penalty(weight + step) - penalty(weight - step)) / 2e-3).item(), rel=1e-3
    )


def test_a_summed_projection_inflates_the_gradient_penalty_by_the_batch_squared() -> None:
    torch.manual_seed(0)
    body = nn.Linear(12, 8)
    h = functional.normalize(torch.randn(16, 8), dim=1)
    x = torch.randn(16, 3, 2, 2, requires_grad=True)

    def penalty(config: LossConfig) -> float:
        judgement = Judgement(torch.zeros(16), body(x.flatten(1)), h)
        return losses.gradient_penalty(judgement.logits(config), x).mean().item()

    assert penalty(replace(PLAIN, projection="batch_sum")) == pytest.approx(16**2 * penalty(PLAIN), rel=1e-4)


def test_path_lengths_of_a_linear_generator() -> None:
    # x = w_l M summed over layers: the gradient to each w_l is M y, y = noise / R
    m, ws = torch.randn(5, 3 * 4 * 4), torch.randn(2, 6, 5, requires_grad=True)
    noise = torch.randn(2, 3, 4, 4)
    lengths = losses.path_lengths((ws.sum(1) @ m).view(2, 3, 4, 4), ws, noise)
    assert torch.allclose(lengths, (noise.flatten(1) / 4 @ m.t()).norm(dim=1), atol=1e-5)


def test_the_penalty_is_the_squared_distance_from_the_running_mean() -> None:
    mean, lengths = torch.tensor(2.0), torch.tensor([1.0, 5.0], requires_grad=True)
    assert losses.path_penalty(lengths, mean).tolist() == [1, 9]


def test_unknown_forms_and_weights_are_refused() -> None:
    for wrong in (
        {"projection": "batch"},
        {"contrast": "sharp"},
        {"temperature": 0.0},
        {"r1": -1.0},
        {"contrastive_group": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            replace(PLAIN, **wrong)
