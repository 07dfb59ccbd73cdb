import pytest
import torch
from torch import nn

from train import ema


def test_an_average_halves_its_old_weight_every_half_life() -> None:
    assert ema.decay(64, 10**9, half_life=640) ** 10 == pytest.approx(0.5)
    assert ema.decay(32, 10**9, half_life=640) ** 2 == pytest.approx(ema.decay(64, 10**9, half_life=640))


def test_at_first_the_half_life_is_a_share_of_what_was_seen() -> None:
    assert ema.decay(50, 1000, half_life=1e6, ramp_up=0.05) == pytest.approx(0.5)
    assert ema.decay(50, 0, half_life=1e6) == 0.0
    assert ema.decay(50, 0, half_life=50, ramp_up=0.0) == pytest.approx(0.5)


def test_an_update_moves_weights_and_copies_buffers() -> None:
    average, model = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    model.weight.data.fill_(5.0)
    model.running_mean = torch.tensor([7.0, 8.0])
    ema.update(average, model, 0.75)
    assert average.weight.tolist() == [2.0, 2.0]
    assert average.running_mean is not None
    assert average.running_mean.tolist() == [7, 8]
    assert average.weight.requires_grad


def test_lazy_regularisation_slows_adam() -> None:
    lr, betas = ema.lazy_adam(2.5e-3, (0.0, 0.99), 4)
    assert lr == pytest.approx(2e-3)
    assert betas == (0.0, pytest.approx(0.99**0.8))
    assert ema.lazy_adam(1.0, (0.0, 0.99), 0) == (1.0, (0.0, 0.99))
